use std::sync::Arc;

use kube::{Resource, ResourceExt};

use crate::api::ServiceFence;
use crate::fence::{consent, standing};
use crate::graph::{self, Change, ObjectKey, Origin};
use crate::istio::{Sidecar, revision};

/// What a `Sidecar` means for the graph.
pub(super) fn changed(sidecar: &Sidecar) -> Change {
    let origin = if is_of_a_fence(sidecar) {
        Origin::Fence(standing(sidecar))
    } else {
        Origin::Other(Arc::new(sidecar.spec.clone()), consent(sidecar))
    };
    let (key, revision) = (ObjectKey::of(sidecar), revision(sidecar));
    let created = sidecar.creation_timestamp().map(|time| time.0);
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
