use std::sync::Arc;

use serde::Deserialize;

use crate::api::{DependencySource, Mode, Retention, SidecarPolicy};
use crate::graph::{DomainAlias, Learning, MAX_HOSTS, Want, Wanted};

/// What the operator's configuration says of all fences.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Hosts that every fence lists: full host names, or whole namespaces (`shop/*`), as in `spec.host`.
    pub stable_host: Vec<String>,
    /// The further names that hosts have. A rule that cannot be understood is left out, and the others stand.
    pub domain_aliases: Vec<DomainAlias>,
    /// The namespaces of the cluster's and the mesh's own, in which nothing is fenced.
    pub system_namespaces: Vec<String>,
    /// How long a learned host may be unused, as in `spec.learning.retention`.
    pub retention: Retention,
    /// How many hosts a fence may learn, as in `spec.learning.maxHosts`.
    pub max_hosts: u32,
    /// The namespaces of which hosts may be learned, as in `spec.learning.namespaces`; empty: all.
    pub learn_namespaces: Vec<String>,
    /// How many hosts a fence lists at most because policies, routes, rules, filters and entries declare them: beside the hosts that it may
    /// learn, there is room for a quarter more in its status.
    pub max_declared_hosts: usize,
    /// The label that tells the pods of a fence that names no labels and has no Service of its name.
    pub service_label_key: Arc<str>,
    /// The mode of fences that do not say.
    pub mode: Mode,
    /// The policy of fences that do not say.
    pub sidecar_policy: SidecarPolicy,
}

impl Default for Defaults {
    fn default() -> Self {
        let system = ["kube-system", "kube-public", "kube-node-lease", "istio-system"];
        Self {
            stable_host: Vec::new(),
            domain_aliases: Vec::new(),
            system_namespaces: system.map(str::to_owned).to_vec(),
            retention: Retention::default(),
            max_hosts: MAX_HOSTS,
            learn_namespaces: Vec::new(),
            max_declared_hosts: 250,
            service_label_key: "app".into(),
            mode: Mode::default(),
            sidecar_policy: SidecarPolicy::default(),
        }
    }
}

impl Defaults {
    /// How fences learn that do not say it themselves.
    #[must_use]
    pub fn learning(&self) -> Learning {
        Learning {
            retention: self.retention,
            max_hosts: self.max_hosts,
            namespaces: Arc::new(self.learn_namespaces.iter().map(|n| n.as_str().into()).collect()),
        }
    }

    /// What every fence asks for.
    #[must_use]
    pub fn wants(&self) -> Vec<Want> {
        let hosts = self.stable_host.iter().map(|host| Wanted::parse(host));
        hosts.map(|hosts| Want::always(hosts, DependencySource::Configuration)).collect()
    }
}
