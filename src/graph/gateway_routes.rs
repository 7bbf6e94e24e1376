//! Routes of the Gateway API that are attached to Services. istiod makes `VirtualService`s of them (Istio 1.31,
//! `pilot/pkg/config/kube/gateway`), and so does this.
//!
//! A route in the namespace of the Service is its producer's, and holds for all callers. One in another namespace is a
//! consumer's: only callers of that namespace follow it (`buildSidecarVirtualHostsForVirtualService` in Istio's
//! `pilot/pkg/networking/core/route`). The global proxy is none of these, so their first call must not go there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::routes::{Audience, Source, VirtualService};
use super::{ExportTo, Graph, Labels, ObjectKey};

/// What matters of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRoute {
    /// Its kind.
    pub kind: RouteKind,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The Services whose calls it routes.
    pub parents: Vec<ObjectKey>,
    /// Where it sends calls.
    pub backends: Vec<Backend>,
}

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// `HTTPRoute`
    Http,
    /// `GRPCRoute`
    Grpc,
    /// `TCPRoute`
    Tcp,
    /// `TLSRoute`
    Tls,
}

/// Where a route sends calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// To a Service.
    Service(ObjectKey),
    /// To a host of the registry.
    Host(Arc<str>),
}

/// What stands between the parts of the name of a `VirtualService` that is a route's: no object has it in its own.
const SEPARATOR: char = '/';

impl RouteKind {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tcp => "TCPRoute",
            Self::Tls => "TLSRoute",
        }
    }

    /// The key of the part of a route that has this audience.
    fn part(self, route: &ObjectKey, audience: Audience) -> ObjectKey {
        let part = if audience == Audience::Namespace { "consumer" } else { "producer" };
        let name = [self.name(), part, &*route.name].join(&SEPARATOR.to_string());
        ObjectKey::new(route.namespace.clone(), name)
    }

    /// The key of the route of this kind of which `part` is the key of a part.
    fn route(self, part: &ObjectKey) -> Option<ObjectKey> {
        let mut parts = part.name.split(SEPARATOR);
        let is_mine = parts.next() == Some(self.name());
        is_mine.then_some(ObjectKey::new(part.namespace.clone(), parts.nth(1)?))
    }
}

impl Graph {
    /// Every `VirtualService`, to find those that are gone after a fresh listing.
    pub fn virtual_service_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.routes.keys().filter(|key| !key.name.contains(SEPARATOR))
    }

    /// Every route of a kind that is attached to a Service, to find those that are gone after a fresh listing.
    #[must_use]
    pub fn gateway_route_keys(&self, kind: RouteKind) -> BTreeSet<ObjectKey> {
        self.routes.keys().filter_map(|key| kind.route(key)).collect()
    }

    pub(super) fn apply_gateway_route(&mut self, route: &GatewayRoute) -> BTreeSet<ObjectKey> {
        let parts = [Audience::Mesh, Audience::Namespace].map(|audience| self.part(route, audience));
        let affected = parts.map(|part| {
            if part.hosts.is_empty() {
                self.remove_virtual_service(&part.key)
            } else {
                self.apply_virtual_service(part)
            }
        });
        affected.into_iter().flatten().collect()
    }

    pub(super) fn remove_gateway_route(&mut self, kind: RouteKind, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let parts = [Audience::Mesh, Audience::Namespace].map(|audience| kind.part(key, audience));
        parts.iter().flat_map(|part| self.remove_virtual_service(part)).collect()
    }

    /// What a route is for all callers, or for those of its own namespace only.
    fn part(&self, route: &GatewayRoute, audience: Audience) -> VirtualService {
        let consumed = audience == Audience::Namespace;
        let namespace = &route.key.namespace;
        let parents = route.parents.iter().filter(|parent| (parent.namespace != *namespace) == consumed);
        let destinations = route.backends.iter().map(|backend| match backend {
            Backend::Service(key) => self.registry.host_of(key),
            Backend::Host(host) => host.clone(),
        });
        let own = Source { namespace: Some(namespace.clone()), labels: Labels::default() };
        VirtualService {
            key: route.kind.part(&route.key, audience),
            hosts: parents.map(|parent| self.registry.host_of(parent)).collect(),
            audience,
            destinations: destinations.collect(),
            delegates: Vec::new(),
            callers: consumed.then_some(own).into_iter().collect(),
            // It has no `exportTo`; what the mesh says of `VirtualService`s without one holds.
            export_to: ExportTo::default(),
        }
    }
}
