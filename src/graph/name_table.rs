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
        let view = |entry: &ServiceEntry| (entry.resolved_by_istiod.clone(), entry.export_to.clone());
        if before.map(view).unwrap_or_default() == after.map(view).unwrap_or_default() {
            return BTreeSet::new();
        }
        before.into_iter().chain(after).flat_map(|entry| self.capturing(entry)).cloned().collect()
    }

    /// The fences that list a host which istiod alone resolves, if `host` makes a difference to that.
    pub(super) fn fences_resolving<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a ObjectKey> {
        let entries = self.workloads.capturing_dns().next().map(|_| self.registry.resolving(host));
        entries.into_iter().flatten().flat_map(|entry| self.capturing(entry))
    }

    /// The fences of namespaces that see the hosts of an entry and have pods whose proxies capture DNS.
    fn capturing<'a>(&'a self, entry: &ServiceEntry) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        let of = |namespace: &&Arc<str>| self.registry.is_visible(entry, namespace);
        let told = !entry.resolved_by_istiod.is_empty();
        let namespaces: Vec<_> = self.workloads.capturing_dns().filter(|_| told).filter(of).collect();
        namespaces.into_iter().flat_map(|namespace| self.fences.in_namespace(namespace))
    }
}
