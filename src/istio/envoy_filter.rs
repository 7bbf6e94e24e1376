use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::WorkloadSelector;

/// Istio's `EnvoyFilter`: changes to what istiod sends to some proxies. The patches are Envoy's own API, in JSON.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "networking.istio.io",
    version = "v1alpha3",
    kind = "EnvoyFilter",
    plural = "envoyfilters",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyFilterSpec {
    /// The pods of its namespace that it is for; without it, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,

    /// The gateways or Services that it is for instead: then it is for no sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<Value>,

    /// When it is applied: those with smaller numbers first, and of equal ones the older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,

    /// The changes, in their order.
    #[serde(default)]
    pub config_patches: Vec<ConfigPatch>,
}

/// One change.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPatch {
    /// What is changed (`HTTP_FILTER`).
    #[serde(default)]
    pub apply_to: String,
    /// Which of them.
    #[serde(default, rename = "match")]
    pub matches: Value,
    /// How.
    #[serde(default)]
    pub patch: Value,
}
