//! Names that istiod alone resolves. Proxies that capture DNS (`ISTIO_META_DNS_CAPTURE`) answer by the table that istiod
//! sends, which has only what the workload's `Sidecar` lists (Istio 1.31, `BuildNameTable`): of a host that it does not list,
//! the workload learns no address, or another one, so no first call of it can come to the global proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Graph, ObjectKey, ServiceEntry};

impl Graph {
    /// The hosts that the pods of a fence can only call when its `Sidecar` lists them.
    pub(super) fn hosts_by_name_table(&self, fence: &ObjectKey) -> BTreeSet<Arc<str>> {
        let captures = self.workloads.of_fence(fence).any(|pod| pod.captures_dns);
        let hosts = captures.then(|| self.registry.resolved_by_istiod(&fence.namespace));
        hosts.into_iter().flatten().cloned().collect()
    }

    /// The fences to which it makes a difference that an entry was so and is so now.
    pub(super) fn fences_by_name_table(
        &self,
        before: Option<&ServiceEntry>,
        after: Option<&ServiceEntry>,
    ) -> BTreeSet<ObjectKey> {
        let told = |entry: &&ServiceEntry| entry.resolved_by_istiod;
        let (before, after) = (before.filter(told), after.filter(told));
        let view = |entry: &ServiceEntry| (entry.hosts.clone(), entry.export_to.clone());
        if before.map(view) == after.map(view) {
            return BTreeSet::new();
        }
        let seen = |namespace: &&Arc<str>| {
            before.into_iter().chain(after).any(|entry| self.registry.is_visible(entry, namespace))
        };
        let namespaces = self.workloads.capturing_dns().filter(seen);
        namespaces.flat_map(|namespace| self.fences.in_namespace(namespace)).cloned().collect()
    }
}
