use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde_json::Value;

use crate::graph::{Extension, Labels, ObjectKey, is_dns_name};
use crate::istio::{ConfigPatch, EnvoyFilter, EnvoyFilterSpec, service_host};

/// An annotation with hosts that the patches need, a comma between them. To istiod it matters for gateways and waypoints (Istio
/// 1.31), where it filters clusters; whoever writes it says what we ask for.
const REFERENCED_SERVICES: &str = "envoyfilter.istio.io/referenced-services";
/// What the name of each cluster for calls to a service begins with: `outbound|<port>|<subset>|<host>`.
const OUTBOUND: &str = "outbound|";
/// How many hosts of one `EnvoyFilter` are heeded.
const MAX_SERVICES: usize = 64;

/// What an `EnvoyFilter` that somebody wrote means for the graph. What ours name, every fence lists by configuration.
pub(super) fn facts(filter: &EnvoyFilter) -> Extension {
    let selector = filter.spec.workload_selector.as_ref().map(|selector| Labels::from(&selector.labels));
    Extension {
        key: ObjectKey::of(filter),
        selector: selector.unwrap_or_default(),
        hosts: services(&filter.spec, filter.annotations()).into_iter().map(Into::into).collect(),
    }
}

/// The hosts of the services whose clusters patches of sidecars name, be it in a setting (rate limits, external authorization)
/// or in a script (Lua's `httpCall`), and those that an annotation names. Without its cluster Envoy rejects the listener, or has
/// nobody to ask.
fn services<'a>(spec: &'a EnvoyFilterSpec, annotations: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    if !spec.target_refs.is_empty() {
        return BTreeSet::new();
    }
    let (mut hosts, mut patches) =
        (BTreeSet::new(), spec.config_patches.iter().filter(|it| is_for_sidecars(it)).peekable());
    if patches.peek().is_some() {
        let referenced = annotations.get(REFERENCED_SERVICES).into_iter().flat_map(|list| list.split(','));
        let named = referenced.map(|service| service_host(service.trim()));
        hosts.extend(named.filter(|host| is_dns_name(host)));
    }
    for patch in patches {
        collect(&patch.patch, &mut hosts);
    }
    hosts.into_iter().take(MAX_SERVICES).collect()
}

/// One without a context is for all proxies.
fn is_for_sidecars(patch: &ConfigPatch) -> bool {
    !matches!(patch.matches.get("context").and_then(Value::as_str), Some("GATEWAY" | "WAYPOINT"))
}

fn collect<'a>(value: &'a Value, hosts: &mut BTreeSet<&'a str>) {
    match value {
        Value::String(text) => hosts.extend(text.split(OUTBOUND).skip(1).filter_map(host_of_cluster)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, hosts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, hosts)),
        _ => {}
    }
}

/// The host of `<port>|<subset>|<host>` and whatever follows; none for a wildcard, which would stand for too much.
fn host_of_cluster(text: &str) -> Option<&str> {
    let mut parts = text.splitn(3, '|');
    let (port, _subset, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let end = rest.find(|end: char| !(end.is_ascii_alphanumeric() || matches!(end, '.' | '-' | '*')));
    let host = &rest[..end.unwrap_or(rest.len())];
    (port.parse::<u16>().is_ok() && is_dns_name(host)).then_some(host)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn services(spec: Value, annotation: &str) -> Vec<String> {
        let mut filter = EnvoyFilter::new("limits", serde_json::from_value(spec).unwrap());
        filter.annotations_mut().insert(REFERENCED_SERVICES.to_owned(), annotation.to_owned());
        facts(&filter).hosts.iter().map(ToString::to_string).collect()
    }

    fn patch(context: &str, value: &Value) -> Value {
        json!({ "configPatches": [{
            "applyTo": "HTTP_FILTER", "match": { "context": context }, "patch": { "operation": "ADD", "value": value },
        }] })
    }

    fn of_cluster(name: &str) -> Value {
        json!({ "typed_config": { "grpc_service": [{ "envoy_grpc": { "cluster_name": name } }] } })
    }

    #[test]
    fn every_cluster_of_a_service_that_a_patch_names_is_found() {
        let script =
            "h:httpCall(\"outbound|80||auth.shop.svc.cluster.local\", {}) -- outbound|81|v1|b.example.com";
        for (name, expected) in [
            ("outbound|8081||limits.shop.svc.cluster.local", vec!["limits.shop.svc.cluster.local"]),
            ("outbound|8081|v1|limits.example.com", vec!["limits.example.com"]),
            (script, vec!["auth.shop.svc.cluster.local", "b.example.com"]),
            ("outbound|8081||", vec![]),
            ("outbound|8081||*.local", vec![]),
            ("outbound|8081|limits.example.com", vec![]),
            ("outbound|http||limits.example.com", vec![]),
            ("outbound|80||Limits_example", vec![]),
            ("inbound|8081||", vec![]),
            ("rate_limit_cluster", vec![]),
        ] {
            assert_eq!(services(patch("SIDECAR_INBOUND", &of_cluster(name)), ""), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_for_sidecars_names_nothing() {
        let value = of_cluster("outbound|80||limits.example.com");
        for (context, names) in
            [("ANY", true), ("SIDECAR_OUTBOUND", true), ("GATEWAY", false), ("WAYPOINT", false)]
        {
            assert_eq!(!services(patch(context, &value), "").is_empty(), names, "{context}");
        }
        let mut targeted = patch("ANY", &value);
        targeted["targetRefs"] = json!([{ "kind": "Gateway", "name": "entry" }]);
        assert!(services(targeted, "a.example.com").is_empty());
    }

    #[test]
    fn an_annotation_names_more_and_nonsense_names_nothing() {
        let hosts = "b.example.com, shop/a.example.com,,not a host";
        assert_eq!(services(patch("ANY", &json!({})), hosts), ["a.example.com", "b.example.com"]);
        assert_eq!(services(patch("GATEWAY", &json!({})), hosts), [""; 0]);
        assert!(
            services(json!({ "configPatches": [{}, { "match": 3, "patch": "outbound|" }] }), "").is_empty()
        );
    }

    #[test]
    fn one_object_names_a_bounded_number_of_hosts() {
        let many: Vec<_> = (0..1000).map(|n| format!("outbound|80||h{n}.example.com")).collect();
        assert_eq!(services(patch("ANY", &json!(many)), "").len(), MAX_SERVICES);
    }
}
