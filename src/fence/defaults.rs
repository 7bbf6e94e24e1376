use serde::Deserialize;

/// What the operator's configuration says of all fences.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Hosts that every fence lists: full host names, or whole namespaces (`shop/*`), as in `spec.host`.
    pub stable_host: Vec<String>,
    /// The namespaces of the cluster's and the mesh's own, in which nothing is fenced.
    pub system_namespaces: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        let system = ["kube-system", "kube-public", "kube-node-lease", "istio-system"];
        Self { stable_host: Vec::new(), system_namespaces: system.map(str::to_owned).to_vec() }
    }
}
