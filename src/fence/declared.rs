use std::collections::BTreeMap;
use std::sync::Arc;

use super::domains::state;
use crate::api::{Dependency, DependencySource};
use crate::graph::{Graph, ObjectKey};

/// The hosts that are declared for a fence, and how many of them are too many.
pub(super) struct Declared {
    hosts: Vec<(Arc<str>, DependencySource)>,
    pub(super) left_out: usize,
}

impl Declared {
    /// At most `limit` of them, besides those that every proxy of the mesh needs: anybody may write what declares others.
    pub(super) fn of(fence: &ObjectKey, graph: &Graph, limit: usize) -> Self {
        let all = graph.declared(fence).into_iter();
        let (mut hosts, others): (Vec<_>, Vec<_>) =
            all.partition(|(_, source)| *source == DependencySource::MeshConfig);
        let left_out = others.len().saturating_sub(limit);
        hosts.extend(others.into_iter().take(limit));
        Self { hosts, left_out }
    }

    pub(super) fn add(&self, domains: &mut BTreeMap<String, Dependency>, graph: &Graph) {
        for (host, source) in &self.hosts {
            state(domains, host, *source, graph.registry());
        }
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
