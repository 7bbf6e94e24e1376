use std::sync::Arc;

use super::{Aliases, Want};

/// What holds for the whole mesh, for as long as we run.
#[derive(Clone, Debug)]
pub struct MeshWide {
    /// The cluster's DNS domain (`cluster.local`).
    pub cluster_domain: Arc<str>,
    /// The namespace of the global proxy: what is not exported to it cannot be learned there.
    pub global_proxy_namespace: Arc<str>,
    /// The label that tells the pods of a fence that names none and has no Service of its name.
    pub service_label: Arc<str>,
    /// What every fence asks for.
    pub wants: Vec<Want>,
    /// The further names of hosts.
    pub aliases: Arc<Aliases>,
}

impl Default for MeshWide {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".into(),
            global_proxy_namespace: "palisade-system".into(),
            service_label: "app".into(),
            wants: Vec::new(),
            aliases: Arc::default(),
        }
    }
}
