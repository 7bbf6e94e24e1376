use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::domains::{list, state};
use crate::api::{Dependency, DependencySource};
use crate::graph::{EgressHost, Graph, ObjectKey};

/// The hosts that are declared for a fence, and how many of them are too many.
pub(super) struct Declared {
    /// Each with who declares it, and as a `Sidecar` imports it.
    hosts: Vec<(Arc<str>, DependencySource, BTreeSet<EgressHost>)>,
    pub(super) left_out: usize,
}

impl Declared {
    /// At most `limit` of them, besides those that every proxy of the mesh needs: anybody may write what declares others.
    pub(super) fn of(fence: &ObjectKey, graph: &Graph, limit: usize) -> Self {
        let all = graph.declared(fence).into_iter();
        let all = all.map(|(host, source)| {
            let imported = graph.registry().resolve(&host);
            (host, source, imported)
        });
        let (mut hosts, mut others): (Vec<_>, Vec<_>) =
            all.partition(|(_, source, _)| *source == DependencySource::MeshConfig);
        others.retain(|(.., imported)| !imported.is_empty());
        // Without what policies are about a call is refused, and what has no address is not called at all; others come after.
        let first = |source| matches!(source, DependencySource::Policy | DependencySource::Dns);
        others.sort_by_key(|(_, source, _)| !first(*source));
        let mut seen = BTreeSet::new();
        let names = others.iter().map(|(host, ..)| host.clone());
        let names: Vec<_> = names.filter(|host| seen.insert(host.clone())).collect();
        let kept: BTreeSet<_> = names.iter().take(limit).cloned().collect();
        hosts.extend(others.into_iter().filter(|(host, ..)| kept.contains(host)));
        Self { hosts, left_out: names.len() - kept.len() }
    }

    pub(super) fn add(&self, domains: &mut BTreeMap<String, Dependency>) {
        for (host, source, imported) in &self.hosts {
            list(domains, host, imported.iter().cloned(), *source);
        }
    }
}

/// Keeps what the mesh configuration brought the fence, or what it says where objects say nothing, while it has not been read
/// (again); and what others did, while no pod says who the workload is and which labels it has: the next one is to have it from
/// the start. `before` is what the status says.
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
        DependencySource::DestinationRule | DependencySource::VirtualService | DependencySource::Dns => {
            nobody || unread
        }
        DependencySource::MeshConfig | DependencySource::Visibility => unread,
        _ => false,
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
