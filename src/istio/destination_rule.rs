use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part of Istio's `DestinationRule` that tells the subsets of a host.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "DestinationRule",
    plural = "destinationrules",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// The host that it is for: a full name, or a short one of its own namespace.
    #[serde(default)]
    pub host: String,
    /// The subsets of the host's pods.
    #[serde(default)]
    pub subsets: Vec<Subset>,
}

/// Some of a host's pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Subset {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Labels that its pods have besides those that the Service asks for.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}
