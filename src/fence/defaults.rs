use serde::Deserialize;

/// What the operator's configuration says of all fences.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Hosts that every fence lists: full host names, or whole namespaces (`shop/*`), as in `spec.host`.
    pub stable_host: Vec<String>,
}
