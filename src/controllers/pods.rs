use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use crate::graph::{self, Change, Labels, ObjectKey, Proxy};
use crate::istio::{REVISION, workload_name};

/// The container that Istio injects, in sidecars, gateways and waypoints alike (Istio 1.31's templates).
const ISTIO_PROXY: &str = "istio-proxy";

/// The variable by which Istio has a proxy answer the names that its pod asks for (Istio 1.31, `proxyMetadata`).
const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";
/// The words that it takes for yes (Go's `strconv.ParseBool`).
const YES: [&str; 6] = ["1", "t", "T", "true", "TRUE", "True"];

/// What is read of a Pod. A mesh has many, and nine parts in ten of one are nobody's business here: a listing of them
/// all is taken in a fraction of the memory.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "v1::Pod")]
pub(super) struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    host_network: bool,
    service_account_name: Option<Arc<str>>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    args: Vec<String>,
    env: Vec<Variable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Address>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// What a Pod means for the graph. One that has ended will never call again.
pub(super) fn changed(pod: &Pod) -> Change {
    if matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Change::PodGone(ObjectKey::of(pod));
    }
    let proxy = proxy(&pod.spec);
    let ips = if proxy == Proxy::HostNetwork { Vec::new() } else { addresses(&pod.status) };
    Change::Pod(graph::Pod {
        key: ObjectKey::of(pod),
        ips,
        labels: Labels::from(pod.labels()),
        account: account(&pod.spec),
        proxy,
        captures_dns: captures_dns(&pod.spec),
        revision: pod.annotations().get(REVISION).map(|revision| revision.as_str().into()),
        workload: workload_name(&pod.metadata).into(),
        ready: is_ready(pod),
    })
}

/// What puts a pod among its Service's endpoints, and what takes it out of them.
fn is_ready(pod: &Pod) -> bool {
    let ready = pod.status.conditions.iter().filter(|of| of.type_ == "Ready").any(|of| of.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The service account, which the API server fills in.
fn account(spec: &Spec) -> Arc<str> {
    spec.service_account_name.clone().unwrap_or_else(|| "default".into())
}

fn addresses(status: &Status) -> Vec<IpAddr> {
    status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect()
}

/// Which proxy a pod has: told by the arguments that Istio's templates give it, `proxy sidecar`, `proxy router`
/// or `proxy waypoint`. A native sidecar is an init container.
fn proxy(spec: &Spec) -> Proxy {
    if spec.host_network {
        return Proxy::HostNetwork;
    }
    match istio_proxy(spec).map(role) {
        Some("router") => Proxy::Gateway,
        Some("waypoint") => Proxy::Waypoint,
        Some(_) => Proxy::Sidecar,
        None => Proxy::None,
    }
}

fn istio_proxy(spec: &Spec) -> Option<&Container> {
    spec.containers.iter().chain(&spec.init_containers).find(|container| container.name == ISTIO_PROXY)
}

fn captures_dns(spec: &Spec) -> bool {
    let variables = istio_proxy(spec).into_iter().flat_map(|proxy| &proxy.env);
    let mut capture = variables.filter(|variable| variable.name == DNS_CAPTURE);
    capture.any(|variable| variable.value.as_deref().is_some_and(|value| YES.contains(&value)))
}

fn role(proxy: &Container) -> &str {
    proxy.args.get(1).map_or("sidecar", String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value, status: &Value) -> Pod {
        let metadata = json!({ "namespace": "shop", "name": "client-1", "labels": { "app": "client" } });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": status })).unwrap()
    }

    fn read(spec: &Value) -> Proxy {
        proxy(&pod(spec, &json!({})).spec)
    }

    #[test]
    fn the_proxy_of_a_pod_is_told_by_what_istio_injects() {
        let app = json!({ "name": "app", "args": ["proxy", "router"] });
        let istio = |role: &str| json!({ "name": "istio-proxy", "args": ["proxy", role, "--domain", "x"] });
        let cases = [
            ("a sidecar", json!({ "containers": [app, istio("sidecar")] }), Proxy::Sidecar),
            (
                "a native sidecar",
                json!({ "containers": [app], "initContainers": [{ "name": "istio-init" }, istio("sidecar")] }),
                Proxy::Sidecar,
            ),
            (
                "a proxy with arguments of its own",
                json!({ "containers": [{ "name": "istio-proxy" }] }),
                Proxy::Sidecar,
            ),
            ("a gateway", json!({ "containers": [istio("router")] }), Proxy::Gateway),
            ("a waypoint", json!({ "containers": [istio("waypoint")] }), Proxy::Waypoint),
            ("no proxy", json!({ "containers": [app] }), Proxy::None),
            (
                "the host's network, whatever runs there",
                json!({ "hostNetwork": true, "containers": [istio("sidecar")] }),
                Proxy::HostNetwork,
            ),
        ];
        for (what, spec, expected) in cases {
            assert_eq!(read(&spec), expected, "{what}");
        }
    }

    #[test]
    fn a_proxy_captures_dns_if_istio_tells_it_to() {
        let pod = |name: &str, value: &str| {
            let env = json!([{ "name": "POD_NAME", "valueFrom": {} }, { "name": "ISTIO_META_DNS_CAPTURE", "value": value }]);
            captures_dns(&pod(&json!({ "containers": [{ "name": name, "env": env }] }), &json!({})).spec)
        };
        for (name, value, expected) in [
            ("istio-proxy", "true", true),
            ("istio-proxy", "1", true),
            ("istio-proxy", "false", false),
            ("istio-proxy", "", false),
            ("app", "true", false),
        ] {
            assert_eq!(pod(name, value), expected, "{name} {value}");
        }
    }

    #[test]
    fn the_revision_of_a_pod_is_what_istio_noted_when_it_injected_the_proxy() {
        let revision = |metadata: Value| match changed(
            &serde_json::from_value(json!({ "metadata": metadata })).unwrap(),
        ) {
            Change::Pod(pod) => pod.revision,
            other => panic!("{other:?}"),
        };
        let annotated = json!({ "name": "a", "labels": { "istio.io/rev": "prod" }, "annotations": { "istio.io/rev": "1-31" } });
        assert_eq!(revision(annotated).as_deref(), Some("1-31"));
        assert_eq!(revision(json!({ "name": "a", "labels": { "istio.io/rev": "prod" } })), None);
    }

    #[test]
    fn a_pod_calls_from_its_own_addresses_until_it_ends() {
        let status =
            |phase: &str| json!({ "phase": phase, "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "no" }] });
        let ips = |spec: &Value, status: &Value| match changed(&pod(spec, status)) {
            Change::Pod(pod) => Some(pod.ips),
            _ => None,
        };
        let own = json!({ "containers": [] });
        let shared = json!({ "containers": [], "hostNetwork": true });
        assert_eq!(ips(&own, &status("Running")), Some(vec![IpAddr::from([10, 0, 0, 1])]));
        assert_eq!(ips(&own, &json!({})), Some(Vec::new()), "it has no address yet");
        assert_eq!(ips(&shared, &status("Running")), Some(Vec::new()), "the address is the node's");
        for ended in ["Succeeded", "Failed"] {
            assert_eq!(ips(&own, &status(ended)), None, "{ended}");
        }
    }
}
