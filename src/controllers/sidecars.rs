use std::sync::Arc;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::api::ServiceFence;
use crate::fence::{consent, standing};
use crate::graph::{self, Change, ObjectKey, Origin};
use crate::istio::{REVISION, Sidecar};

/// What a `Sidecar` means for the graph.
pub(super) fn changed(sidecar: &Sidecar) -> Change {
    let origin = if is_of_a_fence(sidecar) {
        Origin::Fence(standing(sidecar))
    } else {
        Origin::Other(Arc::new(sidecar.spec.clone()), consent(sidecar))
    };
    let (key, created, revision) = (ObjectKey::of(sidecar), created(sidecar), revision(sidecar));
    Change::Sidecar(graph::Sidecar { key, created, revision, origin })
}

/// Whether the fence of its name wrote it.
fn is_of_a_fence(sidecar: &Sidecar) -> bool {
    sidecar.owner_references().iter().any(|owner| {
        owner.controller == Some(true)
            && owner.kind == ServiceFence::kind(&())
            && owner.api_version == ServiceFence::api_version(&())
            && owner.name == sidecar.name_any()
    })
}

/// When an object was made.
pub(super) fn created(object: &impl Resource) -> Option<Timestamp> {
    object.meta().creation_timestamp.as_ref().map(|time| time.0)
}

/// Which istiods read it; none: all.
pub(super) fn revision(object: &impl ResourceExt) -> Option<Arc<str>> {
    object.labels().get(REVISION).map(|revision| revision.as_str().into())
}
