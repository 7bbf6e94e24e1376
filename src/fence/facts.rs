//! What a fence means for the graph.

use kube::ResourceExt;

use super::domains::remembered;
use super::wants::{selection, wants};
use crate::api::ServiceFence;
use crate::graph::{Fence, ObjectKey, Terms};
use crate::istio::revision;

/// What the graph is told of a fence, as it was read.
#[must_use]
pub fn facts(fence: &ServiceFence) -> Fence {
    let status = fence.status.as_ref();
    Fence {
        key: ObjectKey::of(fence),
        selection: selection(fence),
        wants: wants(fence),
        known: status.map(|status| remembered(&status.domains)).unwrap_or_default(),
        learning: fence.spec.learning.clone(),
        terms: Terms {
            created: fence.creation_timestamp().map(|time| time.0),
            enabled: fence.spec.enable && fence.metadata.deletion_timestamp.is_none(),
            mode: fence.spec.mode,
            sidecar_policy: fence.spec.sidecar_policy,
            revision: revision(fence),
        },
    }
}
