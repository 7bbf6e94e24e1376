//! Who else is for the pods of a fence: other fences, and Sidecars that somebody else wrote.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::sidecars::is_read_by;
use super::{Foreign, Graph, Labels, ObjectKey, Sidecar};

impl Graph {
    /// The other fences that have a pod in common with `fence`, except for those whose revision reads none of its
    /// configuration.
    #[must_use]
    pub fn peers(&self, fence: &ObjectKey) -> BTreeSet<&ObjectKey> {
        let revision = |key| self.fence(key).and_then(|facts| facts.terms.revision.as_deref());
        let mine = revision(fence);
        let all = self.workloads.peers(fence).into_iter();
        all.filter(|peer| is_read_by(revision(peer), mine)).collect()
    }

    /// Whether what `other` writes is for every pod of `fence`, of which there are some.
    #[must_use]
    pub fn covers(&self, other: &ObjectKey, fence: &ObjectKey) -> bool {
        let revision = |key| self.fence(key).and_then(|facts| facts.terms.revision.as_deref());
        let (theirs, mine) = (revision(other), revision(fence));
        self.workloads.covers(other, fence) && (theirs.is_none() || theirs == mine)
    }

    /// Somebody else's Sidecars that select pods of `fence`.
    pub fn foreign_over<'a>(&'a self, fence: &'a ObjectKey) -> impl Iterator<Item = &'a Foreign> {
        let revision = self.fence(fence).and_then(|facts| facts.terms.revision.as_deref());
        self.sidecars
            .foreign_in(&fence.namespace)
            .filter(move |foreign| is_read_by(foreign.revision.as_deref(), revision))
            .filter(|foreign| self.workloads.labels_of(fence).any(|labels| foreign.selects(labels)))
    }

    /// Somebody else's Sidecar by its key.
    #[must_use]
    pub fn foreign(&self, key: &ObjectKey) -> Option<&Foreign> {
        self.sidecars.foreign_in(&key.namespace).find(|foreign| foreign.key == *key)
    }

    /// The Sidecar that the pods of `fence` would have without it, if it is not one that selects them: the default
    /// of their namespace, or else of the mesh.
    #[must_use]
    pub fn default_sidecar(&self, fence: &ObjectKey) -> Option<&Foreign> {
        let revision = self.fence(fence).and_then(|facts| facts.terms.revision.as_deref());
        self.sidecars.default_of(&fence.namespace, revision)
    }

    /// Whether the `Sidecar` of `fence` routes to everything; `None` if there is none.
    #[must_use]
    pub fn is_wide(&self, fence: &ObjectKey) -> Option<bool> {
        self.sidecars.own(fence).map(|own| own.wide)
    }

    /// When the `Sidecar` of `fence` was made; `None` if there is none.
    #[must_use]
    pub fn sidecar_created(&self, fence: &ObjectKey) -> Option<Timestamp> {
        self.sidecars.own(fence).and_then(|own| own.created)
    }

    /// Every Sidecar, to find those that are gone after a fresh listing.
    pub fn sidecar_keys(&self) -> impl Iterator<Item = ObjectKey> {
        self.sidecars.keys()
    }

    /// Whether both select the same pods of a namespace. Looks at each set of labels that its pods have.
    #[must_use]
    pub fn select_the_same(&self, namespace: &str, one: &Labels, other: &Labels) -> bool {
        let mut all = self.workloads.labels_in(namespace);
        all.all(|labels| labels.satisfy(one) == labels.satisfy(other))
    }

    pub(super) fn apply_sidecar(&mut self, sidecar: Sidecar) -> BTreeSet<ObjectKey> {
        let key = sidecar.key.clone();
        let changed = self.sidecars.apply(sidecar);
        self.around(&key, &changed)
    }

    pub(super) fn remove_sidecar(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let gone = self.sidecars.remove(key);
        self.around(key, gone.as_slice())
    }

    /// The fence of the Sidecar's name, which repairs drift; and if it is, or was, somebody else's, all fences of its
    /// namespace, or of the mesh.
    fn around(&self, key: &ObjectKey, foreign: &[Foreign]) -> BTreeSet<ObjectKey> {
        let everywhere = *key.namespace == *self.sidecars.root() && foreign.iter().any(Foreign::is_default);
        let all = everywhere.then(|| self.fence_keys()).into_iter().flatten();
        let near =
            (!foreign.is_empty()).then(|| self.fences.in_namespace(&key.namespace)).into_iter().flatten();
        let own = self.fences.get(key).map(|_| key);
        all.chain(near).chain(own).cloned().collect()
    }

    /// The fences whose default `Sidecar` names `want` (a host, or `namespace/*`).
    pub(super) fn composed_with(&self, want: &str) -> impl Iterator<Item = &ObjectKey> {
        let namespaces: BTreeSet<_> = self.sidecars.wanting(want).collect();
        let everywhere = namespaces.iter().any(|namespace| ***namespace == *self.sidecars.root());
        let all = everywhere.then(|| self.fence_keys());
        let some = namespaces.into_iter().flat_map(|namespace| self.fences.in_namespace(namespace));
        all.into_iter().flatten().chain(some)
    }

    /// These fences, and those that list their hosts because they share pods with them.
    pub(super) fn and_peers(&self, fences: BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let peers: Vec<_> = fences.iter().flat_map(|fence| self.workloads.peers(fence)).cloned().collect();
        fences.into_iter().chain(peers).collect()
    }
}
