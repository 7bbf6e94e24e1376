use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkloadSelector;

/// The part of Istio's `ServiceEntry` that tells which hosts it adds to the registry, and that Palisade writes.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntrySpec {
    /// The hosts that the entry defines; a name may begin with `*.`.
    #[serde(default)]
    pub hosts: Vec<String>,

    /// The namespaces that see it: `*`, `.` (its own), `~` (none), or their names.
    #[serde(default)]
    pub export_to: Vec<String>,

    /// On which ports, and what is spoken there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,

    /// Whether its hosts are part of the mesh: `MESH_EXTERNAL` or `MESH_INTERNAL`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,

    /// The pods of its namespace that it is served by, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,

    /// How a proxy finds an address: with `NONE` it connects to the one that the application called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resolution: String,

    /// The addresses by which its hosts are called. Palisade writes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,

    /// Where it is served. Palisade writes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a host, of which nothing matters but that it is there.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Endpoint {}

/// A port of a host.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct ServicePort {
    /// Its number.
    #[serde(default)]
    pub number: u32,
    /// What is spoken on it: `TLS` routes by the server name.
    #[serde(default)]
    pub protocol: String,
    /// Its name, unique in its entry.
    #[serde(default)]
    pub name: String,
}
