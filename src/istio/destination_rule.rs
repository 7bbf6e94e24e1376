use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PolicySelector;

/// The part of Istio's `DestinationRule` that tells the subsets of a host, and what TLS is spoken to it.
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
    /// How it is called.
    #[serde(default)]
    pub traffic_policy: TrafficPolicy,
    /// The pods of its namespace that alone go by it.
    #[serde(default)]
    pub workload_selector: Option<PolicySelector>,
    /// Who sees it.
    #[serde(default)]
    pub export_to: Vec<String>,
}

/// Some of a host's pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Labels that its pods have besides those that the Service asks for.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How they are called.
    #[serde(default)]
    pub traffic_policy: TrafficPolicy,
}

/// How something is called.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// In which TLS.
    #[serde(default)]
    pub tls: Option<ClientTls>,
    /// The same for single ports.
    #[serde(default)]
    pub port_level_settings: Vec<PortSettings>,
    /// The PROXY header that is sent first.
    #[serde(default)]
    pub proxy_protocol: Option<Value>,
    /// The tunnel that is asked for.
    #[serde(default)]
    pub tunnel: Option<Value>,
}

/// How a port is called.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct PortSettings {
    /// In which TLS.
    #[serde(default)]
    pub tls: Option<ClientTls>,
}

/// What TLS a caller speaks.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct ClientTls {
    /// `DISABLE` (which an empty one means), `SIMPLE`, `MUTUAL`, or that of the mesh: `ISTIO_MUTUAL`.
    #[serde(default)]
    pub mode: String,
}

impl DestinationRuleSpec {
    /// Whether some connections are made otherwise than proxies make them by themselves: in another TLS than the mesh's or none, with
    /// a PROXY header, through a tunnel.
    #[must_use]
    pub fn has_own_transport(&self) -> bool {
        let of_subsets = self.subsets.iter().map(|subset| &subset.traffic_policy);
        let policies = of_subsets.chain([&self.traffic_policy]);
        policies.into_iter().any(TrafficPolicy::is_particular)
    }
}

impl TrafficPolicy {
    fn is_particular(&self) -> bool {
        let mut all = self.port_level_settings.iter().map(|port| &port.tls).chain([&self.tls]).flatten();
        self.proxy_protocol.is_some() || self.tunnel.is_some() || all.any(|tls| tls.mode != "ISTIO_MUTUAL")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_way_to_connect_than_that_of_the_mesh_is_found_wherever_it_is_said() {
        let tls = |mode: &str| json!({ "tls": { "mode": mode } });
        let of_port =
            json!({ "portLevelSettings": [{ "port": { "number": 443 }, "tls": { "mode": "SIMPLE" } }] });
        let cases: [(Value, bool); 10] = [
            (json!({}), false),
            (json!({ "trafficPolicy": { "loadBalancer": { "simple": "RANDOM" } } }), false),
            (json!({ "trafficPolicy": tls("ISTIO_MUTUAL") }), false),
            (json!({ "trafficPolicy": tls("SIMPLE") }), true),
            (json!({ "trafficPolicy": tls("MUTUAL") }), true),
            (json!({ "trafficPolicy": { "tls": {} } }), true),
            (json!({ "trafficPolicy": of_port }), true),
            (json!({ "trafficPolicy": { "proxyProtocol": { "version": "V2" } } }), true),
            (
                json!({ "trafficPolicy": { "tunnel": { "targetHost": "a.example.com", "targetPort": 80 } } }),
                true,
            ),
            (json!({ "subsets": [{ "name": "v1", "trafficPolicy": tls("DISABLE") }] }), true),
        ];
        for (spec, expected) in cases {
            let spec: DestinationRuleSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(spec.has_own_transport(), expected, "{spec:?}");
        }
    }
}
