//! Who else is for the pods of a fence: other fences, and Sidecars that somebody else wrote.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::sidecars::is_read_by;
use super::{Change, Fence, Foreign, Graph, Labels, ObjectKey, Sidecar};

impl Graph {
    /// The other fences that have a pod in common with `fence`, except for those whose revision reads none of its
    /// configuration.
    #[must_use]
    pub fn peers(&self, fence: &ObjectKey) -> BTreeSet<&ObjectKey> {
        let mine = self.revision_of(fence);
        let all = self.workloads.peers(fence).into_iter();
        all.filter(|peer| is_read_by(self.revision_of(peer), mine)).collect()
    }

    /// The other fences that ask for a pod of `fence`, or have a `Sidecar` that selects one; pods of `fence` are here
    /// those that it asks for and those that its `Sidecar` selects.
    #[must_use]
    pub fn neighbours<'a>(&'a self, fence: &'a ObjectKey) -> BTreeSet<&'a ObjectKey> {
        let mine = self.revision_of(fence);
        self.near(fence).filter(|other| is_read_by(self.revision_of(other), mine)).collect()
    }

    /// The same of whatever revision, some of them twice perhaps.
    pub(super) fn near<'a>(&'a self, fence: &'a ObjectKey) -> impl Iterator<Item = &'a ObjectKey> {
        let astray = move || self.sidecars.astray(&fence.namespace);
        let selected = astray().find(|(key, _)| *key == fence).map(|(_, selector)| selector);
        let labels = move || {
            let all = selected.map(|_| self.workloads.labels_in(&fence.namespace)).into_iter().flatten();
            let left = all.filter(move |labels| selected.is_some_and(|selector| labels.satisfy(selector)));
            self.workloads.labels_of(fence).chain(left)
        };
        let all = labels().flat_map(move |labels| self.sharing(&fence.namespace, labels));
        all.filter(move |other| *other != fence)
    }

    /// The fences that ask for pods with just these labels, or have a `Sidecar` that selects them: they are neighbours, as long
    /// as there is such a pod.
    pub(super) fn sharing<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a ObjectKey> {
        let asking = self.workloads.fences_asking(namespace, labels);
        let standing = self.sidecars.astray(namespace).filter(|(_, selector)| labels.satisfy(selector));
        asking.chain(standing.map(|(key, _)| key)).filter(|other| self.fence(other).is_some())
    }

    /// The pods that the `Sidecar` of `fence` selects as it stands; `None` if there is none.
    #[must_use]
    pub fn standing_selector(&self, fence: &ObjectKey) -> Option<&Labels> {
        self.sidecars.own(fence).map(|own| &own.standing.selector)
    }

    /// What the `Sidecar` of `fence` was before it was taken over; `None` if it was not.
    #[must_use]
    pub fn adopted(&self, fence: &ObjectKey) -> Option<&Foreign> {
        self.sidecars.own(fence).and_then(|own| own.adopted.as_ref())
    }

    /// Who else writes the `Sidecar` of `fence` since it was taken over.
    #[must_use]
    pub fn contested(&self, fence: &ObjectKey) -> Option<&str> {
        self.sidecars.own(fence).and_then(|own| own.standing.contested.as_deref())
    }

    /// Whether what `other` writes is for every pod of `fence`, of which there are some.
    #[must_use]
    pub fn covers(&self, other: &ObjectKey, fence: &ObjectKey) -> bool {
        let (theirs, mine) = (self.revision_of(other), self.revision_of(fence));
        self.workloads.covers(other, fence) && (theirs.is_none() || theirs == mine)
    }

    /// Somebody else's Sidecars that select pods of `fence`.
    pub fn foreign_over<'a>(&'a self, fence: &'a ObjectKey) -> impl Iterator<Item = &'a Foreign> {
        let revision = self.revision_of(fence);
        self.sidecars
            .foreign_in(&fence.namespace)
            .filter(move |foreign| self.is_read(foreign, revision))
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
        let revision = self.revision_of(fence);
        self.sidecars.default_of(&fence.namespace, |foreign| self.is_read(foreign, revision))
    }

    /// Somebody else's Sidecar that every pod gets that now has the one of `fence`, if that goes; `None` if they would
    /// get different ones, or one of them none. Of those that select a pod, istiod takes the oldest.
    #[must_use]
    pub fn heir(&self, fence: &ObjectKey) -> Option<&Foreign> {
        let own = self.sidecars.own(fence)?;
        let revision = self.revision_of(fence);
        let next = |labels: &Labels| {
            let all = self.sidecars.foreign_in(&fence.namespace);
            let over = all.filter(|foreign| foreign.selects(labels));
            over.filter(|foreign| self.is_read(foreign, revision))
                .min_by_key(|foreign| (foreign.created, &foreign.key))
        };
        let selected = self.workloads.labels_in(&fence.namespace);
        let selected = selected.filter(|labels| labels.satisfy(&own.standing.selector));
        let mut heirs = selected.map(next).filter(|next| next.is_none_or(|next| next.created > own.created));
        let first = heirs.next()?.or_else(|| self.default_sidecar(fence))?;
        heirs
            .all(|next| {
                next.or_else(|| self.default_sidecar(fence)).is_some_and(|next| next.key == first.key)
            })
            .then_some(first)
    }

    /// Whether the `Sidecar` of `fence` routes to everything; `None` if there is none.
    #[must_use]
    pub fn is_wide(&self, fence: &ObjectKey) -> Option<bool> {
        self.sidecars.own(fence).map(|own| own.standing.wide)
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
        self.note_astray(&key);
        self.around(&key, &changed)
    }

    pub(super) fn remove_sidecar(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let gone = self.sidecars.remove(key);
        // What the workload uses from now on, with its full configuration, only its proxies will know.
        self.fences.set_answers(key, None);
        self.note_astray(key);
        self.around(key, gone.as_slice())
    }

    /// Those that a change may take a neighbour from, or give one, and that may be waiting for it: as they are before it.
    pub(super) fn parting(&self, change: &Change) -> Vec<ObjectKey> {
        match change {
            Change::Fence(Fence { key, .. })
            | Change::FenceGone(key)
            | Change::Sidecar(Sidecar { key, .. })
            | Change::SidecarGone(key) => self.near(key).cloned().collect(),
            Change::Pod(pod) => {
                let old = self.workloads.pod(&pod.key).map(|old| &old.labels);
                let both = old.into_iter().chain([&pod.labels]).filter(|_| old != Some(&pod.labels));
                both.flat_map(|labels| self.sharing(&pod.key.namespace, labels)).cloned().collect()
            }
            Change::PodGone(key) => {
                let old = self.workloads.pod(key).into_iter();
                old.flat_map(|pod| self.sharing(&key.namespace, &pod.labels)).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Notes whether the `Sidecar` of a fence selects something else than the fence asks for: to be called whenever
    /// either changed.
    pub(super) fn note_astray(&mut self, fence: &ObjectKey) {
        let asked = self.fences.get(fence).and_then(|facts| facts.labels.as_ref());
        let astray = self.standing_selector(fence).is_some_and(|has| Some(has) != asked);
        self.sidecars.set_astray(fence, astray);
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

    /// These fences, and those that share pods with them: they list their hosts, and wait for them when pods change
    /// hands.
    pub(super) fn and_neighbours(&self, fences: BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let near: Vec<_> = fences.iter().flat_map(|fence| self.near(fence)).cloned().collect();
        fences.into_iter().chain(near).collect()
    }
}
