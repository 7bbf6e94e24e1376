use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Aliases, DefaultExport, ExternalPolicy, Identity, Want};

/// What holds for the whole mesh, for as long as we run.
#[derive(Clone, Debug)]
pub struct MeshWide {
    /// The cluster's DNS domain (`cluster.local`).
    pub cluster_domain: Arc<str>,
    /// Istio's root namespace: what is there holds for the workloads of all namespaces.
    pub root_namespace: Arc<str>,
    /// The namespace of the global proxy: what is not exported to it cannot be learned there.
    pub global_proxy_namespace: Arc<str>,
    /// Its host: calls to it are detours, and nobody uses it by its own wish.
    pub global_proxy: Arc<str>,
    /// Who it is. A policy whose pattern means it too (`*`) names nobody in particular: it treats a first call as it treats the
    /// next one.
    pub global_proxy_identity: Option<Identity>,
    /// The label that tells the pods of a fence that names none and has no Service of its name.
    pub service_label: Arc<str>,
    /// What every fence asks for.
    pub wants: Vec<Want>,
    /// The further names of hosts.
    pub aliases: Arc<Aliases>,
    /// Which external hosts get a `ServiceEntry` of ours.
    pub external: ExternalPolicy,
}

impl Default for MeshWide {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            global_proxy_namespace: "palisade-system".into(),
            global_proxy: "global-proxy.palisade-system.svc.cluster.local".into(),
            global_proxy_identity: None,
            service_label: "app".into(),
            wants: Vec::new(),
            aliases: Arc::default(),
            external: ExternalPolicy::default(),
        }
    }
}

/// What matters of Istio's mesh configuration, which may change while we run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshConfig {
    /// The hosts that it names, which proxies need whatever their workload calls.
    pub hosts: BTreeSet<Arc<str>>,
    /// Whether calls to what the mesh does not know are refused, where no `Sidecar` says otherwise.
    pub registry_only: bool,
    /// Who sees Services and `ServiceEntry`s that do not say.
    pub services_export: DefaultExport,
    /// Who sees `VirtualService`s that do not say.
    pub virtual_services_export: DefaultExport,
    /// Who sees `DestinationRule`s that do not say.
    pub destination_rules_export: DefaultExport,
}
