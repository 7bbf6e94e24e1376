use kube::ResourceExt;

use crate::graph::{self, ObjectKey};
use crate::istio::{Delegate, VirtualService};

/// What a `VirtualService` means for the graph.
pub(super) fn facts(service: &VirtualService) -> graph::VirtualService {
    let spec = &service.spec;
    let namespace = service.namespace().unwrap_or_default();
    let destinations = spec.routes().flat_map(|route| &route.route).map(|to| &to.destination.host);
    let delegates = spec.routes().filter_map(|route| route.delegate.as_ref());
    graph::VirtualService {
        key: ObjectKey::of(service),
        hosts: spec.hosts.iter().map(|host| host.as_str().into()).collect(),
        destinations: destinations.map(|host| host.as_str().into()).collect(),
        delegates: delegates.map(|delegate| key(delegate, &namespace)).collect(),
    }
}

fn key(delegate: &Delegate, namespace: &str) -> ObjectKey {
    let namespace = if delegate.namespace.is_empty() { namespace } else { &delegate.namespace };
    ObjectKey::new(namespace, delegate.name.as_str())
}
