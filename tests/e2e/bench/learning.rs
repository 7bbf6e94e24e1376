//! The operator alone against a real API server: entry received → Sidecar written, and its memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::{AccessLog, Mesh, entry, is_trimmed};
use bed::wait::until;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::api_server::histogram;
use crate::node::{self, NODE};
use crate::operator::{ACCESS_LOG, Operator, apply_crds, sidecars, until_at_rest};
use crate::summarize;

const NS: &str = "bench";
const SERVICES: usize = 1000;
const PODS: usize = 1000;
const FENCES: usize = 200;
/// Edges learned back to back.
const EDGES: usize = 400;
/// Edges learned one by one.
const APART: usize = 100;
const PARALLEL: usize = 24;
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) async fn run(mesh: &Mesh) -> Result<()> {
    println!("operator alone, real API server: {SERVICES} services, {PODS} pods, {FENCES} fences");
    apply_crds(mesh).await?;
    let node = node::create(mesh).await?;
    populate(mesh).await?;
    until_at_rest(mesh).await?;
    let started = Instant::now();
    let operator = Operator::start(mesh, &["--drain", "1s", "--open-settle", "1s"])?;
    until_fenced(mesh).await?;
    println!("{:<58} {:.1} s", "start → all Sidecars written", started.elapsed().as_secs_f64());
    until_at_rest(mesh).await?;
    let result = measure(mesh, &operator).await;
    operator.print_memory("operator's resident memory")?;
    drop(operator);
    node.abort();
    mesh.kubectl(&[
        "patch",
        "servicefences",
        "--all",
        "-n",
        NS,
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])
    .await
    .ok();
    mesh.kubectl(&["delete", "namespace", NS, "--wait=false"]).await?;
    result
}

/// Histograms that tell where the time goes: the sum in seconds, and the count.
type Shares = [(&'static str, (f64, f64)); 4];

async fn shares(mesh: &Mesh, operator: &Operator) -> Result<Shares> {
    let (applied, status) =
        (["resource=\"sidecars\"", "verb=\"APPLY\""], ["resource=\"servicefences\"", "verb=\"APPLY\""]);
    let request = "apiserver_request_duration_seconds";
    let webhook = "apiserver_admission_webhook_admission_duration_seconds";
    Ok([
        (
            "operator: call seen → Sidecar with its cluster applied",
            operator.histogram("palisade_learning_duration_seconds").await?,
        ),
        ("API server: applying a Sidecar, webhook included", histogram(mesh, request, &applied).await?),
        ("API server: istiod's webhook", histogram(mesh, webhook, &["validation.istio.io"]).await?),
        ("API server: applying a fence's status", histogram(mesh, request, &status).await?),
    ])
}

/// The processor time that each has used, in seconds.
async fn cpu(mesh: &Mesh, operator: &Operator) -> Result<[(&'static str, f64); 3]> {
    let of = async |component| mesh.metric(component, "process_cpu_seconds_total", &[]).await;
    Ok([
        ("operator", operator.cpu()?),
        ("API server", of(Component::Apiserver).await?),
        ("istiod", of(Component::Istiod).await?),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "for the eye")]
fn print_cpu(edges: usize, before: [(&'static str, f64); 3], after: [(&'static str, f64); 3]) {
    for ((what, earlier), (_, later)) in before.into_iter().zip(after) {
        println!(
            "  {:<56} {:.1} ms",
            format!("{what}: processor time for an edge"),
            (later - earlier) * 1000.0 / edges as f64
        );
    }
}

fn print_shares(before: Shares, after: Shares) {
    for ((what, (earlier, first)), (_, (sum, count))) in before.into_iter().zip(after) {
        let (times, mean) = (count - first, (sum - earlier) * 1000.0 / (count - first));
        println!("  {what:<56} n={times:<5} mean {mean:.1} ms");
    }
}

async fn populate(mesh: &Mesh) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NS}}))?;
    Api::all(mesh.client().clone()).create(&PostParams::default(), &namespace).await?;
    // The namespace's own ServiceAccount is made a moment later, and pods need it.
    let accounts = ["get", "serviceaccount", "default", "--namespace", NS];
    until("the ServiceAccount", LIMIT, async || mesh.kubectl(&accounts).await).await?;
    let objects = (0..SERVICES).map(|number| service(mesh, number));
    stream::iter(objects).buffer_unordered(PARALLEL).try_collect::<()>().await?;
    stream::iter((0..PODS).map(|number| pod(mesh, number)))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    stream::iter((0..FENCES).map(|number| fence(mesh, number))).buffer_unordered(PARALLEL).try_collect().await
}

async fn service(mesh: &Mesh, number: usize) -> Result<()> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": format!("s{number}")},
        "spec": {"ports": [{"name": "http", "port": 8080}], "selector": {"app": format!("s{number}")}},
    }))?;
    Api::namespaced(mesh.client().clone(), NS).create(&PostParams::default(), &service).await?;
    Ok(())
}

/// A pod that nobody runs: it has an address and a sidecar, and its labels put it into the fence of its number.
async fn pod(mesh: &Mesh, number: usize) -> Result<()> {
    let api = Api::<Pod>::namespaced(mesh.client().clone(), NS);
    let name = format!("p{number}");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": format!("s{}", number % SERVICES)}},
        "spec": {"nodeName": NODE, "containers": [
            {"name": "app", "image": "none"},
            {"name": "istio-proxy", "image": "none", "args": ["proxy", "sidecar"]},
        ]},
    }))?;
    api.create(&PostParams::default(), &pod).await?;
    let ip = address(number).to_string();
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

fn address(number: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 246, high, low))
}

async fn fence(mesh: &Mesh, number: usize) -> Result<()> {
    let fence: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "microservice.slime.io/v1alpha1", "kind": "ServiceFence",
        "metadata": {"name": format!("s{number}")}, "spec": {"enable": true},
    }))?;
    let resource = kube::core::ApiResource::from_gvk_with_plural(
        &kube::core::GroupVersionKind::gvk("microservice.slime.io", "v1alpha1", "ServiceFence"),
        "servicefences",
    );
    Api::namespaced_with(mesh.client().clone(), NS, &resource).create(&PostParams::default(), &fence).await?;
    Ok(())
}

async fn until_fenced(mesh: &Mesh) -> Result<()> {
    let api = sidecars(mesh, NS);
    until("every fence has its Sidecar, with nothing to drain", LIMIT, async || {
        let all = api.list(&kube::api::ListParams::default()).await?.items;
        let done = all.iter().filter(|sidecar| is_trimmed(&sidecar.data)).count();
        ensure!(done == FENCES, "{done} of {FENCES}");
        Ok(())
    })
    .await
}

/// Learns edges, each of another fence than the one before, and takes the time from the entry that is sent to the
/// Sidecar that a watch shows. First each edge waits until the one before is routed to, as in a mesh that was not changed
/// just now; then until the one before has its cluster only, so that its status and its route are written meanwhile.
async fn measure(mesh: &Mesh, operator: &Operator) -> Result<()> {
    let api = sidecars(mesh, NS);
    let version =
        api.list(&kube::api::ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let events = api.watch(&WatchParams::default(), &version).await?.boxed();
    let mut course = Course { events, log: AccessLog::open(ACCESS_LOG).await?, sent: HashMap::new() };
    for (how, edges, until) in
        [("one by one", 0..APART, State::Routed), ("back to back", APART..APART + EDGES, State::Warm)]
    {
        let before = (shares(mesh, operator).await?, cpu(mesh, operator).await?);
        let (mut warm, mut routed) = (Vec::new(), Vec::new());
        for edge in edges.clone() {
            course.send(edge).await?;
            course.follow(until, &mut warm, &mut routed).await?;
        }
        summarize(&format!("{how}: entry sent → first Sidecar write seen"), "ms", warm);
        summarize(&format!("{how}: → routing Sidecar write seen (settle 300 ms)"), "ms", routed);
        print_shares(before.0, shares(mesh, operator).await?);
        print_cpu(edges.len(), before.1, cpu(mesh, operator).await?);
    }
    Ok(())
}

/// How far an edge has come.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Warm,
    Routed,
}

/// Edges on their way, by the name of the fence: the host that was called, and when.
struct Course<S> {
    events: S,
    log: AccessLog,
    sent: HashMap<String, (String, Instant)>,
}

impl<S: futures::Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Unpin> Course<S> {
    async fn send(&mut self, edge: usize) -> Result<()> {
        let fence = edge % FENCES;
        let host = format!("s{}.{NS}.svc.cluster.local", FENCES + edge);
        self.sent.insert(format!("s{fence}"), (host.clone(), Instant::now()));
        self.log.send(vec![entry(address(fence), &host)]).await
    }

    /// Reads events until an edge is in this state, the one that was sent last; notes what others came to meanwhile.
    async fn follow(&mut self, until: State, warm: &mut Vec<f64>, routed: &mut Vec<f64>) -> Result<()> {
        loop {
            let event = tokio::time::timeout(LIMIT, self.events.try_next()).await;
            let event = event.context("no Sidecar was written")??;
            let WatchEvent::Modified(sidecar) = event.context("the watch ended")? else { continue };
            let Some((host, at)) = self.sent.get(&sidecar.name_any()) else { continue };
            let took = at.elapsed().as_secs_f64() * 1000.0;
            let state = state(&sidecar, host);
            match state {
                Some(State::Warm) => warm.push(took),
                Some(State::Routed) => {
                    routed.push(took);
                    self.sent.remove(&sidecar.name_any());
                }
                None => {}
            }
            if state == Some(until) {
                return Ok(());
            }
        }
    }
}

/// What a Sidecar does with a host: the listener without a port is for the captured traffic.
fn state(sidecar: &DynamicObject, host: &str) -> Option<State> {
    let listeners = sidecar.data["spec"]["egress"].as_array().cloned().unwrap_or_default();
    let lists = |captured: bool| {
        let mut some = listeners.iter().filter(|listener| listener.get("port").is_none() == captured);
        some.any(|listener| listener["hosts"].to_string().contains(host))
    };
    if lists(true) { Some(State::Routed) } else { lists(false).then_some(State::Warm) }
}
