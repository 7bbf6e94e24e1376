//! The Gateway API's routes, as far as they are for the calls of workloads (its initiative GAMMA).

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The group of the Gateway API's kinds, and the one of what a parent refers to by default.
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The group of Istio's kind of backend that is a host name.
const ISTIO: &str = "networking.istio.io";

/// The part of the Gateway API's routes that tells which Services' calls they route, and where to: the same in all
/// four kinds, which Istio 1.31 reads in version `v1`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// What it is attached to.
    #[serde(default)]
    pub parent_refs: Vec<Reference>,
    /// Its rules, without what they match.
    #[serde(default)]
    pub rules: Vec<RouteRule>,
}

/// One rule.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// Where it sends calls, by weight.
    #[serde(default)]
    pub backend_refs: Vec<Reference>,
}

/// A reference to an object, of a kind that depends on where it stands if it does not say one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// The object's group; empty for Kubernetes' own.
    #[serde(default)]
    pub group: Option<String>,
    /// Its kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// Its namespace; none for that of the route.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

impl Reference {
    /// Whether it is to a Service, as a parent: by default a parent is a Gateway.
    #[must_use]
    pub fn is_parent_service(&self) -> bool {
        self.is_of(GATEWAY_API, "Gateway", "", "Service")
    }

    /// Whether it is to a Service, as a backend.
    #[must_use]
    pub fn is_backend_service(&self) -> bool {
        self.is_of("", "Service", "", "Service")
    }

    /// Whether its name is that of a host, as a backend (Istio's kind `Hostname`).
    #[must_use]
    pub fn is_backend_host(&self) -> bool {
        self.is_of("", "Service", ISTIO, "Hostname")
    }

    fn is_of(&self, default_group: &str, default_kind: &str, group: &str, kind: &str) -> bool {
        self.group.as_deref().unwrap_or(default_group) == group
            && self.kind.as_deref().unwrap_or(default_kind) == kind
    }
}

/// A route of any kind.
pub trait GatewayRoute: kube::Resource<DynamicType = ()> {
    /// What it says.
    fn spec(&self) -> &RouteSpec;
}

/// One kind of route.
macro_rules! route {
    ($spec:ident, $route:ident, $kind:literal, $plural:literal) => {
        #[doc = concat!("What an `", $kind, "` says.")]
        #[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
        #[kube(group = "gateway.networking.k8s.io", version = "v1", kind = $kind, plural = $plural)]
        #[kube(namespaced, schema = "disabled")]
        #[serde(transparent)]
        pub struct $spec(pub RouteSpec);

        impl GatewayRoute for $route {
            fn spec(&self) -> &RouteSpec {
                &self.spec.0
            }
        }
    };
}

route!(HTTPRouteSpec, HTTPRoute, "HTTPRoute", "httproutes");
route!(GRPCRouteSpec, GRPCRoute, "GRPCRoute", "grpcroutes");
route!(TCPRouteSpec, TCPRoute, "TCPRoute", "tcproutes");
route!(TLSRouteSpec, TLSRoute, "TLSRoute", "tlsroutes");
