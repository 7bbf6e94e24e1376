use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use serde::Deserialize;

/// The label that says which istiods read an object, by their revision (Istio 1.31, `LabelsInRevision`); all of them read
/// what has none, and none what has a tag. Istio notes the revision of a pod's proxy in an annotation of the same name
/// (Istio 1.31's templates).
pub const REVISION: &str = "istio.io/rev";

/// Which istiods read an object; `None`: all.
#[must_use]
pub fn revision(object: &impl ResourceExt) -> Option<Arc<str>> {
    object.labels().get(REVISION).map(|revision| revision.as_str().into())
}

/// What the operator's configuration says of Istio.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Installation {
    /// The revisions, and their tags, whose fences are ours; none: all are. Slime's `istioRev`.
    pub revisions: Vec<String>,
    /// Whether fences without a label are not ours either, if `revisions` says which are. Slime's `strictRev`.
    pub strict_revision: bool,
}

impl Installation {
    /// Whether an object with these labels is ours.
    #[must_use]
    pub fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        self.covers_revision(labels.get(REVISION).map(String::as_str))
    }

    /// Whether an object of this revision, or of none, is ours.
    #[must_use]
    pub fn covers_revision(&self, revision: Option<&str>) -> bool {
        match revision {
            _ if self.revisions.is_empty() => true,
            Some(revision) => self.revisions.iter().any(|ours| ours == revision),
            None => !self.strict_revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_ours_by_its_revision_and_without_one_unless_that_is_strict() {
        let ours = |revisions: &[&str], strict_revision, label: Option<&str>| {
            let revisions = revisions.iter().map(|revision| (*revision).to_owned()).collect();
            let installation = Installation { revisions, strict_revision };
            installation
                .covers(&label.map(|label| (REVISION.to_owned(), label.to_owned())).into_iter().collect())
        };
        for (revisions, strict, label, expected) in [
            (&[][..], false, Some("1-30"), true),
            (&[], true, None, true),
            (&["1-31", "stable"], false, Some("1-31"), true),
            (&["1-31", "stable"], true, Some("stable"), true),
            (&["1-31", "stable"], false, Some("1-30"), false),
            (&["1-31", "stable"], false, None, true),
            (&["1-31", "stable"], true, None, false),
        ] {
            assert_eq!(ours(revisions, strict, label), expected, "{revisions:?} {strict} {label:?}");
        }
    }
}
