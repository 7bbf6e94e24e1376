//! What Services and `ServiceEntry`s mean for the graph.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;

use crate::fence::is_ours;
use crate::graph::{self, ExportTo, Labels, ObjectKey, OwnEntry};
use crate::istio::{ServiceEntry, ServicePort};

/// Istio's annotation that says which namespaces see a Service.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// The protocols that tell the host that is called.
const NAMED: [&str; 6] = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS"];

pub(super) fn of_service(service: &Service) -> graph::Service {
    let (key, spec) = (ObjectKey::of(service), service.spec.as_ref());
    let export_to = service.annotations().get(EXPORT_TO).map(String::as_str).unwrap_or_default();
    let external = spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName"));
    graph::Service {
        uid: service.uid().unwrap_or_default().into(),
        labels: Labels::from(service.labels()),
        selector: spec.and_then(|spec| spec.selector.as_ref()).map(Labels::from).unwrap_or_default(),
        headless: spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None"),
        external_name: external.and_then(|spec| spec.external_name.as_deref()).map(Into::into),
        addresses: addresses(spec),
        export_to: ExportTo::parse(export_to.split(','), &key.namespace),
        key,
    }
}

/// The cluster IPs of a Service; a headless one has the word `None`.
fn addresses(spec: Option<&ServiceSpec>) -> Vec<IpAddr> {
    let addresses = spec.and_then(|spec| spec.cluster_ips.as_ref()).into_iter().flatten();
    addresses.filter_map(|address| address.parse().ok()).collect()
}

pub(super) fn of_entry(entry: &ServiceEntry) -> graph::ServiceEntry {
    let key = ObjectKey::of(entry);
    graph::ServiceEntry {
        hosts: entry.spec.hosts.iter().map(|host| host.as_str().into()).collect(),
        export_to: ExportTo::parse(entry.spec.export_to.iter().map(String::as_str), &key.namespace),
        selector: entry
            .spec
            .workload_selector
            .as_ref()
            .map(|of| Labels::from(&of.labels))
            .unwrap_or_default(),
        resolved_by_istiod: resolved_by_istiod(entry),
        own: is_own(entry).then(|| own(entry)),
        key,
    }
}

/// The hosts of which nobody but istiod need know the address, or of which istiod tells another one than others do: that by
/// which it tells connections without a name apart. Who resolves a host itself, or connects to the address that was called, shows
/// that others know it, unless the entry says the address. A wildcard has only that.
fn resolved_by_istiod(entry: &ServiceEntry) -> Vec<Arc<str>> {
    let spec = &entry.spec;
    let named = |port: &ServicePort| NAMED.contains(&port.protocol.to_ascii_uppercase().as_str());
    let addressed = spec.addresses.iter().any(|address| address.parse::<IpAddr>().is_ok());
    let found_otherwise = match &*spec.resolution {
        "STATIC" => false,
        "DNS" | "DNS_ROUND_ROBIN" => {
            spec.endpoints.is_empty() && spec.workload_selector.is_none() && spec.ports.iter().all(named)
        }
        _ => true,
    };
    let hosts = spec.hosts.iter().filter(|host| addressed || (!found_otherwise && !host.starts_with('*')));
    hosts.map(|host| host.as_str().into()).collect()
}

/// Whether we wrote it, by its label and its name: with the one alone, somebody may have copied it.
fn is_own(entry: &ServiceEntry) -> bool {
    let name = |host: &String| *graph::entry_key("", host).name == *entry.name_any();
    is_ours(entry) && matches!(&*entry.spec.hosts, [host] if name(host))
}

fn own(entry: &ServiceEntry) -> OwnEntry {
    let ports = entry.spec.ports.iter().filter_map(|port| u16::try_from(port.number).ok());
    let owners = entry.owner_references().iter().map(|owner| owner.uid.as_str().into());
    OwnEntry { ports: ports.collect(), owners: owners.collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fence::{MANAGED_BY, MANAGER};

    fn service(annotations: &Value, spec: &Value) -> graph::Service {
        let metadata = json!({ "namespace": "shop", "name": "reviews", "annotations": annotations });
        of_service(&serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn only(names: &[&str]) -> ExportTo {
        ExportTo::Only(names.iter().map(|name| (*name).into()).collect())
    }

    #[test]
    fn a_service_says_what_it_stands_for_and_who_sees_it() {
        let plain =
            service(&json!({}), &json!({ "clusterIP": "10.96.0.1", "selector": { "app": "reviews" } }));
        assert_eq!((plain.headless, plain.external_name, plain.export_to), (false, None, ExportTo::Unsaid));
        let hidden = service(&json!({ EXPORT_TO: "., web" }), &json!({ "clusterIP": "None" }));
        assert_eq!((hidden.headless, hidden.export_to), (true, only(&["shop", "web"])));
        let external = json!({ "type": "ExternalName", "externalName": "www.example.com" });
        assert_eq!(service(&json!({}), &external).external_name.as_deref(), Some("www.example.com"));
        let no_more = json!({ "type": "ClusterIP", "externalName": "www.example.com" });
        assert_eq!(service(&json!({}), &no_more).external_name, None);
    }

    #[test]
    fn a_service_entry_says_its_hosts_and_who_sees_them() {
        let entry = |spec: &Value| {
            let metadata = json!({ "namespace": "shop", "name": "e" });
            let entry =
                json!({ "apiVersion": "v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec });
            of_entry(&serde_json::from_value(entry).unwrap())
        };
        let own = entry(&json!({ "hosts": ["*.example.com"], "exportTo": ["."] }));
        assert_eq!((own.hosts, own.export_to), (vec!["*.example.com".into()], only(&["shop"])));
        assert_eq!(entry(&json!({ "hosts": [] })).export_to, ExportTo::Unsaid);
    }

    #[test]
    fn istiod_alone_resolves_hosts_that_no_proxy_resolves_or_that_have_ports_without_names() {
        let (http, tcp) = (json!({ "protocol": "HTTP" }), json!({ "protocol": "TCP" }));
        let (mail, both) = (&["mail.internal"][..], &["mail.internal", "*.internal"][..]);
        for (resolution, ports, more, expected) in [
            ("STATIC", json!([http]), json!({ "endpoints": [{ "address": "10.0.0.1" }] }), mail),
            ("DNS", json!([http]), json!({}), &[]),
            ("DNS", json!([http, { "protocol": "https" }]), json!({}), &[]),
            ("DNS", json!([http, tcp]), json!({}), mail),
            ("DNS", json!([{}]), json!({}), mail),
            ("DNS", json!([http]), json!({ "endpoints": [{ "address": "mail.example.com" }] }), mail),
            ("DNS", json!([http]), json!({ "workloadSelector": { "labels": { "app": "mail" } } }), mail),
            ("NONE", json!([tcp]), json!({}), &[]),
            ("NONE", json!([tcp]), json!({ "addresses": ["10.0.0.0/8"] }), &[]),
            ("NONE", json!([tcp]), json!({ "addresses": ["10.0.0.0/8", "10.0.0.1"] }), both),
        ] {
            let mut spec = json!({ "hosts": both, "resolution": resolution, "ports": ports });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let entry = json!({ "apiVersion": "v1", "kind": "ServiceEntry", "metadata": { "namespace": "shop", "name": "e" }, "spec": spec });
            let entry = of_entry(&serde_json::from_value(entry).unwrap());
            let resolved: Vec<_> = entry.resolved_by_istiod.iter().map(|host| &**host).collect();
            assert_eq!(resolved, expected, "{spec}");
        }
    }

    #[test]
    fn an_entry_is_ours_by_label_and_name() {
        let entry = |name: &str, labels: &Value| {
            let owners = json!([{ "apiVersion": "v1", "kind": "k", "name": "n", "uid": "u" }]);
            let metadata =
                json!({ "namespace": "shop", "name": name, "labels": labels, "ownerReferences": owners });
            let spec = json!({ "hosts": ["api.example.org"], "ports": [{ "number": 443, "protocol": "TLS", "name": "tls" }] });
            let entry =
                json!({ "apiVersion": "v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec });
            of_entry(&serde_json::from_value(entry).unwrap()).own
        };
        let ours = json!({ MANAGED_BY: MANAGER });
        let own = OwnEntry { ports: [443].into(), owners: ["u".into()].into() };
        assert_eq!(entry("palisade-api.example.org", &ours), Some(own));
        assert_eq!(entry("palisade-api.example.org", &json!({})), None);
        assert_eq!(entry("a-copy", &ours), None);
    }
}
