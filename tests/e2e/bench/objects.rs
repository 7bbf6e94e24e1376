//! Services and pods of a large mesh, without anybody who runs them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use bed::mesh::Mesh;
use bed::wait::until;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::node::NODE;

const NAMESPACES: usize = 10;
pub(crate) const PODS_PER_SERVICE: usize = 4;
const PARALLEL: usize = 32;
const LIMIT: Duration = Duration::from_mins(1);

/// A mesh of `services` Services, each with [`PODS_PER_SERVICE`] pods that are ready.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
}

impl Size {
    pub(crate) async fn create(self, mesh: &Mesh) -> Result<()> {
        for name in namespaces() {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            Api::all(mesh.client().clone()).create(&PostParams::default(), &namespace).await?;
            // The namespace's own ServiceAccount is made a moment later, and pods need it.
            let accounts = ["get", "serviceaccount", "default", "--namespace", &name];
            until("the ServiceAccount", LIMIT, async || mesh.kubectl(&accounts).await).await?;
        }
        all("Services", self.services, |number| service(mesh, number)).await?;
        let pods = self.services * PODS_PER_SERVICE;
        all("Pods", pods, |number| pod(mesh, number, self.services)).await
    }
}

/// Creates an object for each of so many Services, from its namespace and its name.
pub(crate) async fn create_for_each(
    mesh: &Mesh,
    services: usize,
    manifest: impl Fn(&str, &str) -> String,
) -> Result<()> {
    let manifests = (0..services).map(|number| manifest(&namespace_of(number), &format!("s{number}")));
    mesh.create(&manifests.collect::<Vec<_>>().join("\n---\n")).await
}

/// Does `work` for every number, many at a time, and says how it gets on.
pub(crate) async fn all<F: Future<Output = Result<()>>>(
    what: &str,
    count: usize,
    work: impl Fn(usize) -> F,
) -> Result<()> {
    let (started, mut done) = (Instant::now(), 0);
    let mut results = stream::iter((0..count).map(work)).buffer_unordered(PARALLEL);
    while results.try_next().await?.is_some() {
        done += 1;
        if done % 5000 == 0 || done == count {
            println!("  {done} of {count} {what} after {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// The mesh's namespaces.
pub(crate) fn namespaces() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(name)
}

fn name(namespace: usize) -> String {
    format!("scale-{namespace}")
}

/// The namespace of a Service, its pods and whatever is for them.
pub(crate) fn namespace_of(service: usize) -> String {
    name(service % NAMESPACES)
}

/// The host of a Service.
pub(crate) fn host(service: usize) -> String {
    format!("s{service}.{}.svc.cluster.local", namespace_of(service))
}

/// The name of a pod, by its number and that of its Service.
pub(crate) fn pod_name(pod: usize, service: usize) -> String {
    format!("s{service}-7d4f8b9c6d-{pod:05}")
}

/// The address of the first pod of a Service.
pub(crate) fn caller(service: usize) -> IpAddr {
    address(service)
}

fn address(pod: usize) -> IpAddr {
    let [_, high, middle, low] = u32::try_from(pod).unwrap_or_default().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(11, high, middle, low))
}

async fn service(mesh: &Mesh, number: usize) -> Result<()> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": format!("s{number}"), "labels": {"app": format!("s{number}")}},
        "spec": {"ports": [{"name": "http", "port": 8080}], "selector": {"app": format!("s{number}")}},
    }))?;
    let api = Api::namespaced(mesh.client().clone(), &namespace_of(number));
    api.create(&PostParams::default(), &service).await.map(drop)?;
    Ok(())
}

async fn pod(mesh: &Mesh, number: usize, services: usize) -> Result<()> {
    let service = number % services;
    let api = Api::<Pod>::namespaced(mesh.client().clone(), &namespace_of(service));
    let name = pod_name(number, service);
    api.create(&PostParams::default(), &serde_json::from_value(pod_of(&name, service))?).await?;
    let ip = address(number).to_string();
    let ready = json!({"type": "Ready", "status": "True"});
    let status =
        json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// A pod as Istio's injector leaves one, in labels and size, on a node that is none.
fn pod_of(name: &str, service: usize) -> Value {
    let app = format!("s{service}");
    let variables: Vec<_> = (0..30)
        .map(|number| json!({"name": format!("ISTIO_META_VARIABLE_{number}"), "value": "a value of the usual length"}))
        .collect();
    json!({
        "metadata": {
            "name": name,
            "labels": {
                "app": app, "version": "v1", "pod-template-hash": "7d4f8b9c6d",
                "security.istio.io/tlsMode": "istio",
                // What owner references tell of other pods: a pod whose owner is not there is collected.
                "service.istio.io/workload-name": app,
                "service.istio.io/canonical-name": app, "service.istio.io/canonical-revision": "v1",
            },
            "annotations": {"sidecar.istio.io/status": r#"{"containers":["istio-proxy"],"revision":"default"}"#},
        },
        "spec": {
            "nodeName": NODE,
            "containers": [
                {"name": "app", "image": "none", "ports": [{"containerPort": 8080}]},
                {"name": "istio-proxy", "image": "none", "env": variables},
            ],
        },
    })
}
