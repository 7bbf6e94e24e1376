//! Which istiods read what has the label `istio.io/rev`.

use std::collections::BTreeSet;

use super::sidecars::is_read_by;
use super::{FenceFacts, Foreign, Graph, Labels, ObjectKey};

/// The label by which a Service of the root namespace says of which tag it is (Istio 1.27 and later, `istioctl tag set`
/// and the value `revisionTags` of istiod's chart).
const TAG: &str = "istio.io/tag";

impl Graph {
    /// The revision whose istiods alone are to read what is written for an object with this label; `None`: all are.
    ///
    /// For what configures proxies, istiod reads that which has no label or just its own revision, and no tag (Istio 1.31,
    /// `LabelsInRevision`), though in the labels of namespaces and pods a tag stands for its revision. What is for a tag is
    /// therefore for all: so it stays in force while pods of the tag go from one revision to the next.
    #[must_use]
    pub fn revision<'a>(&self, label: Option<&'a str>) -> Option<&'a str> {
        label.filter(|label| !self.is_tag(label))
    }

    /// The same of what is written for a fence.
    #[must_use]
    pub fn revision_of(&self, fence: &ObjectKey) -> Option<&str> {
        self.revision(self.fence(fence).and_then(FenceFacts::revision))
    }

    fn is_tag(&self, name: &str) -> bool {
        self.registry.has_labelled(&self.mesh_wide.root_namespace, TAG, name)
    }

    /// The tags that the Service `key` stands for when its labels are one of these.
    pub(super) fn tags<'a>(
        &self,
        key: &ObjectKey,
        labels: impl IntoIterator<Item = &'a Labels>,
    ) -> BTreeSet<&'a str> {
        let is_istios = key.namespace == self.mesh_wide.root_namespace;
        labels.into_iter().filter(|_| is_istios).filter_map(|labels| labels.get(TAG)).collect()
    }

    /// The fences that are for one of these tags, and those of namespaces in which somebody else's `Sidecar` is.
    pub(super) fn for_tags(&self, tags: &BTreeSet<&str>) -> BTreeSet<ObjectKey> {
        if tags.is_empty() {
            return BTreeSet::new();
        }
        let is_one = |label: Option<&str>| label.is_some_and(|label| tags.contains(label));
        let others = self.sidecars.all_foreign().filter(|foreign| is_one(foreign.revision.as_deref()));
        let namespaces: BTreeSet<_> = others.map(|foreign| &foreign.key.namespace).collect();
        let everywhere = namespaces.contains(&self.mesh_wide.root_namespace);
        let concerned = |key: &&ObjectKey| {
            everywhere
                || namespaces.contains(&key.namespace)
                || is_one(self.fence(key).and_then(FenceFacts::revision))
        };
        self.fences.keys().filter(concerned).cloned().collect()
    }

    /// Whether pods of `revision` (`None`: it could be any) may be given somebody else's `Sidecar`; one that is labelled with a tag
    /// no pod is.
    pub(super) fn is_read(&self, foreign: &Foreign, revision: Option<&str>) -> bool {
        let label = foreign.revision.as_deref();
        is_read_by(label, revision) && !label.is_some_and(|label| self.is_tag(label))
    }

    /// Whether the `Sidecar` of a fence, if it stands, is for the istiods that the fence is for.
    #[must_use]
    pub fn is_of_its_revision(&self, fence: &ObjectKey) -> bool {
        let standing = self.sidecars.own(fence).map(|own| &own.standing);
        standing.is_none_or(|standing| {
            is_for(standing.revision.as_deref(), standing.labelled, self.revision_of(fence))
        })
    }
}

/// Whether a `Sidecar` with this label, which is `ours` if we set it, is for the istiods that are `asked` for. What others label it
/// with is theirs.
pub(crate) fn is_for(label: Option<&str>, ours: bool, asked: Option<&str>) -> bool {
    (asked.is_some() && label == asked) || label.filter(|_| ours) == asked
}

impl FenceFacts {
    /// Its label `istio.io/rev`: a revision, or a tag.
    pub(super) fn revision(&self) -> Option<&str> {
        self.terms.revision.as_deref()
    }
}
