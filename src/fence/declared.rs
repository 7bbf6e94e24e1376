use std::collections::BTreeMap;

use super::domains::state;
use crate::api::{Dependency, DependencySource};
use crate::graph::{Graph, ObjectKey};

/// Adds the hosts that are declared for a fence, at most `limit` of them for the sake of policies.
pub(super) fn add(
    domains: &mut BTreeMap<String, Dependency>,
    graph: &Graph,
    fence: &ObjectKey,
    limit: usize,
) {
    let mut room = limit;
    for (host, source) in graph.declared(fence) {
        if source == DependencySource::Policy {
            let Some(left) = room.checked_sub(1) else { continue };
            room = left;
        }
        state(domains, &host, source, graph.registry());
    }
}

/// What a fence lists because of the mesh configuration, or of what it says where objects say nothing.
const BY_MESH_CONFIG: [DependencySource; 4] = [
    DependencySource::MeshConfig,
    DependencySource::Visibility,
    DependencySource::VirtualService,
    DependencySource::DestinationRule,
];

/// Keeps what the mesh configuration brought the fence, while the configuration has not been read (again), and what policies
/// and `EnvoyFilter`s did, while no pod says who the workload is, or which labels it has: the next one is to have it from the start. `before` is what the status says.
pub(super) fn keep_unread(
    domains: &mut BTreeMap<String, Dependency>,
    graph: &Graph,
    fence: &ObjectKey,
    before: &BTreeMap<String, Dependency>,
) {
    let (unread, nobody) =
        (graph.mesh_config().is_none(), graph.workloads().of_fence(fence).next().is_none());
    let kept = |source: &&DependencySource| match **source {
        DependencySource::Policy | DependencySource::EnvoyFilter => nobody,
        source => unread && BY_MESH_CONFIG.contains(&source),
    };
    if !unread && !nobody {
        return;
    }
    for (host, domain) in before {
        for source in domain.sources.iter().filter(kept) {
            state(domains, host, *source, graph.registry());
        }
    }
}

/// How many hosts policies declare beyond `limit`.
pub(super) fn left_out(graph: &Graph, fence: &ObjectKey, limit: usize) -> usize {
    let declared = graph.declared(fence);
    let policies = declared.iter().filter(|(_, source)| *source == DependencySource::Policy);
    policies.count().saturating_sub(limit)
}
