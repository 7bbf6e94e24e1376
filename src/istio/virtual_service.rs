use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part of Istio's `VirtualService` that tells which hosts it routes, and where to.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "VirtualService",
    plural = "virtualservices",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServiceSpec {
    /// The hosts whose calls it routes: full names, or short ones of its own namespace.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The gateways that it is for; none, or the word `mesh` among them, for the calls of workloads.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// The namespaces that see it; none: what the mesh configuration says.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// Routes of HTTP requests.
    #[serde(default)]
    pub http: Vec<Route>,
    /// Routes of TLS connections, by server name.
    #[serde(default)]
    pub tls: Vec<Route>,
    /// Routes of other connections.
    #[serde(default)]
    pub tcp: Vec<Route>,
}

/// One route.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The calls that it is for; any of them.
    #[serde(default, rename = "match")]
    pub matches: Vec<RouteMatch>,
    /// Where it sends calls, by weight.
    #[serde(default)]
    pub route: Vec<RouteDestination>,
    /// The `VirtualService` that decides instead (HTTP).
    #[serde(default)]
    pub delegate: Option<Delegate>,
}

/// Calls by who makes them. What else they are is left out.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// Labels that the caller's pod must all have.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// The caller's namespace; empty for any.
    #[serde(default)]
    pub source_namespace: String,
}

/// One of the destinations of a route.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct RouteDestination {
    /// The destination.
    #[serde(default)]
    pub destination: Destination,
}

/// A host that calls are sent to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Destination {
    /// Its full name, or a short one of the `VirtualService`'s namespace.
    #[serde(default)]
    pub host: String,
}

/// A reference to another `VirtualService`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Delegate {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace; empty for that of the `VirtualService` that delegates.
    #[serde(default)]
    pub namespace: String,
}

impl VirtualServiceSpec {
    /// The routes of all protocols.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.http.iter().chain(&self.tls).chain(&self.tcp)
    }
}
