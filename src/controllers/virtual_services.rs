use kube::ResourceExt;

use crate::graph::{self, Audience, ExportTo, Labels, ObjectKey};
use crate::istio::{Delegate, VirtualService, VirtualServiceSpec};

/// Istio's word for the calls of workloads, among the names of gateways.
const MESH: &str = "mesh";

/// What a `VirtualService` means for the graph.
pub(super) fn facts(service: &VirtualService) -> graph::VirtualService {
    let spec = &service.spec;
    let namespace = service.namespace().unwrap_or_default();
    let destinations = spec.routes().flat_map(|route| &route.route).map(|to| &to.destination.host);
    let delegates = spec.routes().filter_map(|route| route.delegate.as_ref());
    graph::VirtualService {
        key: ObjectKey::of(service),
        hosts: spec.hosts.iter().map(|host| host.as_str().into()).collect(),
        audience: audience(&spec.gateways),
        destinations: destinations.map(|host| host.as_str().into()).collect(),
        callers: callers(spec),
        export_to: ExportTo::parse(spec.export_to.iter().map(String::as_str), &namespace),
        delegates: delegates.map(|delegate| key(delegate, &namespace)).collect(),
    }
}

fn audience(gateways: &[String]) -> Audience {
    let mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH);
    if mesh { Audience::Mesh } else { Audience::Gateways }
}

fn callers(spec: &VirtualServiceSpec) -> Vec<graph::Source> {
    let matches = spec.routes().flat_map(|route| &route.matches);
    let particular = matches.filter(|of| !of.source_labels.is_empty() || !of.source_namespace.is_empty());
    let sources = particular.map(|of| graph::Source {
        namespace: Some(of.source_namespace.as_str())
            .filter(|namespace| !namespace.is_empty())
            .map(Into::into),
        labels: Labels::from(&of.source_labels),
    });
    sources.collect()
}

fn key(delegate: &Delegate, namespace: &str) -> ObjectKey {
    let namespace = if delegate.namespace.is_empty() { namespace } else { &delegate.namespace };
    ObjectKey::new(namespace, delegate.name.as_str())
}
