//! The watches of the Gateway API's routes, of kinds that a cluster need not serve.

use kube::ResourceExt;

use super::watch::Kind;
use crate::graph::{self, Backend, Change, ObjectKey, RouteKind};
use crate::istio::{GRPCRoute, GatewayRoute, HTTPRoute, Reference, TCPRoute, TLSRoute};

pub(super) const HTTP: Kind<HTTPRoute> = Kind {
    changed: |route| changed(RouteKind::Http, route),
    gone: |key| Change::GatewayRouteGone(RouteKind::Http, key),
    known: |graph| graph.gateway_route_keys(RouteKind::Http).into_iter().collect(),
};

pub(super) const GRPC: Kind<GRPCRoute> = Kind {
    changed: |route| changed(RouteKind::Grpc, route),
    gone: |key| Change::GatewayRouteGone(RouteKind::Grpc, key),
    known: |graph| graph.gateway_route_keys(RouteKind::Grpc).into_iter().collect(),
};

pub(super) const TCP: Kind<TCPRoute> = Kind {
    changed: |route| changed(RouteKind::Tcp, route),
    gone: |key| Change::GatewayRouteGone(RouteKind::Tcp, key),
    known: |graph| graph.gateway_route_keys(RouteKind::Tcp).into_iter().collect(),
};

pub(super) const TLS: Kind<TLSRoute> = Kind {
    changed: |route| changed(RouteKind::Tls, route),
    gone: |key| Change::GatewayRouteGone(RouteKind::Tls, key),
    known: |graph| graph.gateway_route_keys(RouteKind::Tls).into_iter().collect(),
};

/// What a route means for the graph. What it says of Gateways is none of the mesh's workloads' business.
fn changed<R: GatewayRoute>(kind: RouteKind, route: &R) -> Change {
    let (key, spec) = (ObjectKey::of(route), route.spec());
    let namespace = route.namespace().unwrap_or_default();
    let parents = spec.parent_refs.iter().filter(|parent| parent.is_parent_service());
    let backends = spec.rules.iter().flat_map(|rule| &rule.backend_refs);
    Change::GatewayRoute(graph::GatewayRoute {
        kind,
        key,
        parents: parents.map(|parent| service(parent, &namespace)).collect(),
        backends: backends.filter_map(|to| backend(to, &namespace)).collect(),
    })
}

fn backend(to: &Reference, namespace: &str) -> Option<Backend> {
    if to.is_backend_host() {
        return Some(Backend::Host(to.name.as_str().into()));
    }
    to.is_backend_service().then(|| Backend::Service(service(to, namespace)))
}

fn service(of: &Reference, namespace: &str) -> ObjectKey {
    ObjectKey::new(of.namespace.as_deref().unwrap_or(namespace), of.name.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> (Vec<String>, Vec<Backend>) {
        let metadata = json!({ "namespace": "shop", "name": "web" });
        let route: HTTPRoute = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        let Change::GatewayRoute(route) = changed(RouteKind::Http, &route) else { panic!("not a route") };
        (route.parents.iter().map(ToString::to_string).collect(), route.backends)
    }

    #[test]
    fn parents_that_are_services_and_all_backends_are_read() {
        let (parents, backends) = read(&json!({
            "parentRefs": [
                { "kind": "Service", "group": "", "name": "web", "port": 80 },
                { "kind": "Service", "group": "", "name": "web", "namespace": "other" },
                { "name": "gateway" },
                { "kind": "Service", "name": "of-no-group" },
                { "kind": "ServiceEntry", "group": "networking.istio.io", "name": "external" },
            ],
            "rules": [
                { "matches": [{ "path": { "value": "/x" } }], "backendRefs": [{ "name": "web-v2", "port": 80 }] },
                { "backendRefs": [
                    { "kind": "Service", "group": "", "name": "web", "namespace": "other", "weight": 1 },
                    { "kind": "Hostname", "group": "networking.istio.io", "name": "www.example.com" },
                    { "kind": "InferencePool", "group": "inference.networking.k8s.io", "name": "llm" },
                ] },
                {},
            ],
        }));
        assert_eq!(parents, ["shop/web", "other/web"]);
        let service = |namespace: &str, name: &str| Backend::Service(ObjectKey::new(namespace, name));
        let host = Backend::Host("www.example.com".into());
        assert_eq!(backends, [service("shop", "web-v2"), service("other", "web"), host]);
        assert_eq!(read(&json!({})), (vec![], vec![]));
    }
}
