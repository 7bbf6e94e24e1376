//! The resources of Istio and the Gateway API that are read and written, with only the fields that matter here.

mod analysis;
mod authorization_policy;
mod destination_rule;
mod envoy_filter;
mod gateway_route;
mod mesh_config;
mod revision;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_name;

pub use analysis::ANALYZE_SUPPRESS;
pub use authorization_policy::{
    AuthorizationPolicy, AuthorizationPolicySpec, Condition, From, PolicySelector, PolicyTarget, Rule, Source,
};
pub use destination_rule::{
    ClientTls, DestinationRule, DestinationRuleSpec, PortSettings, Subset, TrafficPolicy,
};
pub use envoy_filter::{ConfigPatch, EnvoyFilter, EnvoyFilterSpec};
pub use gateway_route::{
    GRPCRoute, GRPCRouteSpec, GatewayRoute, HTTPRoute, HTTPRouteSpec, Reference, RouteRule, RouteSpec,
    TCPRoute, TCPRouteSpec, TLSRoute, TLSRouteSpec,
};
pub use mesh_config::{MeshConfig, service_host};
pub use revision::{Installation, REVISION, revision};
pub use service_entry::{Endpoint, ServiceEntry, ServiceEntrySpec, ServicePort};
pub use sidecar::{
    EgressListener, EgressProxy, Mode, OutboundTrafficPolicy, Port, PortSelector, Sidecar, SidecarSpec,
    WorkloadSelector,
};
pub use virtual_service::{
    Delegate, Destination, Route, RouteDestination, RouteMatch, VirtualService, VirtualServiceSpec,
};
pub use workload_name::workload_name;
