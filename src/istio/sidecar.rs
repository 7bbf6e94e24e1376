use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part of Istio's `Sidecar` that Palisade writes and reads back, and what it carries over from others'.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "Sidecar",
    plural = "sidecars",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct SidecarSpec {
    /// The pods that get this configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,

    /// What these pods may call. A missing list means everything (`*/*`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressListener>,

    /// Listeners for what comes in, as others wrote them. A missing list means those of the pods' Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<serde_json::Value>,

    /// How many connections and requests are let in, as others wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_connection_pool: Option<serde_json::Value>,

    /// Where calls to hosts that are not listed go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Pods by their labels.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct WorkloadSelector {
    /// Labels that a pod must all have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Hosts that one listener of the proxy knows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EgressListener {
    /// The listener's own port; none for the captured traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,

    /// The listener's own address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bind: String,

    /// `NONE` for a listener to which no traffic is redirected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capture_mode: String,

    /// `namespace/host`, sorted.
    #[serde(default)]
    pub hosts: Vec<String>,
}

impl EgressListener {
    /// Whether it is for a port or an address of its own, not for whatever is captured.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.port.is_some() || !self.bind.is_empty()
    }
}

/// A listener's port. Number 0 goes with a Unix domain socket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Port {
    /// Its number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u32,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What becomes of calls to hosts that are not listed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OutboundTrafficPolicy {
    /// Whether such calls are let out at all. Without it they are not: `REGISTRY_ONLY` is the first value of Istio's enum.
    #[serde(default)]
    pub mode: Mode,

    /// The service that takes them instead of their destination. In Istio's CRD, hidden in its docs; istiod
    /// honours it for the TCP catch-all chain and for the `allow_any` route of HTTP listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<EgressProxy>,
}

/// Istio's answers to an unknown destination.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuse it. A policy that names no mode means this (Istio's API: the enum's value 0).
    #[default]
    #[serde(rename = "REGISTRY_ONLY")]
    RegistryOnly,
    /// Let it pass, or hand it to the egress proxy.
    #[serde(rename = "ALLOW_ANY")]
    AllowAny,
    /// Let it pass, and resolve the names of HTTP requests and TLS connections on the way (since Istio 1.31).
    #[serde(rename = "ALLOW_ANY_DYNAMIC_DNS")]
    AllowAnyDynamicDns,
}

/// A service that takes unknown traffic.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct EgressProxy {
    /// Its host name.
    #[serde(default)]
    pub host: String,
    /// Its subset, if others wrote one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subset: String,
    /// Its port.
    #[serde(default)]
    pub port: PortSelector,
}

/// A port of a service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct PortSelector {
    /// Its number.
    #[serde(default)]
    pub number: u32,
}
