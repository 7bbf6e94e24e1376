use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part of Istio's `ServiceEntry` that tells which hosts it adds to the registry.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntrySpec {
    /// The hosts that the entry defines; a name may begin with `*.`.
    #[serde(default)]
    pub hosts: Vec<String>,

    /// The namespaces that see it: `*`, `.` (its own), `~` (none), or their names.
    #[serde(default)]
    pub export_to: Vec<String>,
}
