//! Which istiods read what has the label `istio.io/rev`.

use std::collections::BTreeSet;

use super::{FenceFacts, Graph, Labels, ObjectKey};

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

    /// The fences that are for one of these tags.
    pub(super) fn for_tags(&self, tags: &BTreeSet<&str>) -> impl Iterator<Item = &ObjectKey> {
        let all = (!tags.is_empty()).then(|| self.fences.keys()).into_iter().flatten();
        let revision = |key| self.fence(key).and_then(FenceFacts::revision);
        all.filter(move |key| revision(key).is_some_and(|revision| tags.contains(revision)))
    }
}

impl FenceFacts {
    /// Its label `istio.io/rev`: a revision, or a tag.
    pub(super) fn revision(&self) -> Option<&str> {
        self.terms.revision.as_deref()
    }
}
