//! Sidecars that somebody else wrote: a fence composes with a default, steps back from one for its pods, carries it, or
//! takes it over and gives it back; not one call is lost, and Events tell of each change once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use serde_json::Value;

use crate::fixtures::{client, server};
use crate::live::flawless;
use crate::world::{SOON, World};

const NS: &str = "conflict";
const OTHER: &str = "conflict-other";
const CALLER: &str = "conflict/client";
const IDLE: &str = "conflict/idle";
const LOAD: [&str; 3] = ["--rate=200", "--connections=8", "--new-connection-share=0.2"];
const WEB: &str = "conflict/web.conflict.svc.cluster.local";
const DB: &str = "conflict-other/db.conflict-other.svc.cluster.local";
const NO_CONFLICT: (&str, &str) = ("False", "AsExpected");
const CONFLICT: (&str, &str) = ("True", "SidecarConflict");
const FENCED: (&str, &str) = ("True", "Fenced");
const OPEN: (&str, &str) = ("True", "Open");
const INGRESS: &str =
    "ingress: [{port: {number: 9090, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}]";
const SIDECAR: &str = "sidecars.networking.istio.io";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OTHER, true).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]),
        server(OTHER, "db", &[("http", 8080), ("tcp", 3306)]),
        client(NS, "client"),
        client(NS, "idle"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OTHER).await?;
    let urls = ["http://web:8080/", &format!("http://db.{OTHER}:8080/")];
    let load = world.mesh.load(CALLER, &urls, &LOAD).await?;
    world.apply_fence(NS, "client", &fence("Defer", true)).await?;
    until_fenced(world).await?;
    world.until_routed(NS, "client", &[DB, WEB]).await?;

    bound(world).await.context("a default with a listener of its own")?;
    let done = default(world).await.context("a default of the root namespace");
    let rest = ["delete", SIDECAR, "bed-default", "--namespace=istio-system", "--ignore-not-found"];
    world.mesh.kubectl(&rest).await?;
    done?;
    withdraw(world).await.context("a fence leaves its pods to a default")?;
    defer(world).await.context("Defer")?;
    compose(world).await.context("Compose")?;
    adopt(world).await.context("Adopt")?;
    contest(world).await.context("somebody writes what was taken over")?;
    told(world).await.context("Events")?;
    flawless("the load", &load.end().await?)
}

/// A listener of its own, by which a pod calls, stays when a fence comes and carries it.
async fn bound(world: &World) -> Result<()> {
    let listener = format!(
        "{{port: {{number: 3306, protocol: TCP, name: local}}, bind: 127.0.0.1, captureMode: NONE, hosts: [{DB}]}}"
    );
    let default = sidecar("default", NS, "", "", &["./*", DB]);
    world.mesh.apply(&default.replace("egress: [", &format!("egress: [{listener}, "))).await?;
    let local = "tcp://127.0.0.1:3306";
    let answered = async || {
        let call = world.mesh.call(IDLE, local).await?;
        ensure!(call.ok, "{call:?}");
        Ok(())
    };
    until("the default's own listener is there", SOON, answered).await?;
    let load = world.mesh.load(IDLE, &[local], &LOAD).await?;
    world.fence(NS, "idle", &fence_of("idle", "Defer", true)).await?;
    world.until_routed(NS, "idle", &[DB]).await?;
    world.until_said(NS, "idle", "Conflict", NO_CONFLICT).await?;
    flawless("calls to the default's own listener", &load.end().await?)?;
    world.mesh.kubectl(&["delete", SIDECAR, "default", "--namespace", NS]).await?;
    world.until_routed(NS, "idle", &[]).await?;
    world.until_trimmed(NS, "client").await
}

/// A fence for a pod that calls nobody shows what it lists for the default's sake.
async fn default(world: &World) -> Result<()> {
    let default = sidecar("bed-default", "istio-system", "", "", &["./*", DB]);
    world.mesh.apply(&default).await?;
    world.until_routed(NS, "idle", &[DB]).await?;
    world.until_said(NS, "idle", "Conflict", NO_CONFLICT).await?;
    world.mesh.kubectl(&["delete", SIDECAR, "bed-default", "--namespace=istio-system"]).await?;
    world.until_routed(NS, "idle", &[]).await?;
    world.until_trimmed(NS, "client").await
}

/// Pods go over to a trimmed `Sidecar` of somebody else when the fence's says the same.
async fn withdraw(world: &World) -> Result<()> {
    world.mesh.apply(&sidecar("default", NS, "", "", &["./*", DB])).await?;
    world.until_routed(NS, "client", &[DB, WEB]).await?;
    world.apply_fence(NS, "client", &fence("Defer", false)).await?;
    until("the fence's Sidecar says what theirs does", SOON, async || {
        let spec = &world.sidecar(NS, "client").await?["spec"];
        let route =
            spec["egress"].as_array().and_then(|listeners| listeners.last()).context("no listener")?;
        ensure!(route["hosts"] == serde_json::json!(["./*", DB]), "{spec}");
        ensure!(spec["outboundTrafficPolicy"].is_null(), "{spec}");
        Ok(())
    })
    .await?;
    world.until_gone(NS, "client").await?;
    world.until_said(NS, "client", "Ready", OPEN).await?;
    world.apply_fence(NS, "client", &fence("Defer", true)).await?;
    world.until_routed(NS, "client", &[DB, WEB]).await?;
    world.mesh.kubectl(&["delete", SIDECAR, "default", "--namespace", NS]).await?;
    until_fenced(world).await
}

async fn defer(world: &World) -> Result<()> {
    world.mesh.apply(&sidecar("theirs", NS, "app: client", "", &["*/*"])).await?;
    let message = world.until_said(NS, "client", "Conflict", CONFLICT).await?;
    ensure!(message.contains("conflict/theirs"), "{message}");
    world.until_gone(NS, "client").await?;
    world.mesh.kubectl(&["delete", SIDECAR, "theirs", "--namespace", NS]).await?;
    world.until_said(NS, "client", "Conflict", NO_CONFLICT).await?;
    until_fenced(world).await
}

async fn compose(world: &World) -> Result<()> {
    world.apply_fence(NS, "idle", &fence_of("idle", "Compose", true)).await?;
    let younger = sidecar("younger", NS, "app: idle", "", &[DB]);
    world.mesh.apply(&younger.replace("egress:", &format!("{INGRESS}, egress:"))).await?;
    world.until_routed(NS, "idle", &[DB]).await?;
    world.until_said(NS, "idle", "Conflict", NO_CONFLICT).await?;
    until_inbound(world, true).await.context("while it is there")?;
    world.mesh.kubectl(&["delete", SIDECAR, "younger", "--namespace", NS]).await?;
    world.until_routed(NS, "idle", &[]).await?;
    until_inbound(world, false).await.context("when it is gone")
}

/// Waits until the pod's proxy has the ingress listener of the younger Sidecar, or has it no more.
async fn until_inbound(world: &World, there: bool) -> Result<()> {
    until(&format!("the listener is there: {there}"), SOON, async || {
        let clusters = world.mesh.envoy(IDLE, "/clusters?filter=^inbound").await?;
        ensure!(clusters.contains("inbound|9090||") == there, "{clusters}");
        Ok(())
    })
    .await
}

async fn adopt(world: &World) -> Result<()> {
    world.delete_fence(NS, "client").await?;
    let theirs = |annotation| sidecar("client", NS, "app: client", annotation, &["./*", DB]);
    world.mesh.apply(&theirs("")).await?;
    world.apply_fence(NS, "client", &fence("Adopt", true)).await?;
    let message = world.until_said(NS, "client", "Conflict", CONFLICT).await?;
    ensure!(message.contains("palisade.io/adopt"), "{message}");
    world.mesh.apply(&theirs("palisade.io/adopt: \"true\"")).await?;
    world.until_said(NS, "client", "Conflict", NO_CONFLICT).await?;
    world.until_said(NS, "client", "Enforced", FENCED).await?;
    until_fenced(world).await?;
    world.until_routed(NS, "client", &[DB, WEB]).await?;

    world.apply_fence(NS, "client", &fence("Adopt", false)).await?;
    until_theirs(world).await?;
    world.until_said(NS, "client", "Ready", OPEN).await?;
    world.apply_fence(NS, "client", &fence("Adopt", true)).await?;
    world.until_said(NS, "client", "Enforced", FENCED).await?;
    world.until_routed(NS, "client", &[DB, WEB]).await
}

/// A tool that writes the Sidecar from its repository is not fought.
async fn contest(world: &World) -> Result<()> {
    until_fenced(world).await?;
    let manifest = sidecar("client", NS, "app: client", "palisade.io/adopt: \"true\"", &["./*", DB]);
    let line = ["apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "--filename", "-"];
    world.mesh.feed("kubectl", &line, &manifest).await?;
    let message = world.until_said(NS, "client", "Conflict", CONFLICT).await?;
    ensure!(message.contains("gitops"), "{message}");
    world.apply_fence(NS, "client", &fence("Defer", true)).await?;
    until_theirs(world).await
}

/// Each change to what is in force, and to what needs somebody, has one Event, however often the fences were looked at
/// meanwhile. What is under way has none, nor has `Conflict` where `Ready` says the same.
async fn told(world: &World) -> Result<()> {
    // In force at first, after `withdraw`, after `defer`, and twice in `adopt`; open in `withdraw` and in `adopt`; in
    // conflict in `defer`, in `adopt` before the annotation, and in `contest`.
    let client = [("Normal Fenced", 5), ("Normal Open", 2), ("Warning SidecarConflict", 3)];
    until_told(world, "client", &client).await?;
    until_told(world, "idle", &[("Normal Fenced", 1)]).await
}

/// Waits until Events have told of the fences of this name so often.
async fn until_told(world: &World, name: &str, expected: &[(&str, u64)]) -> Result<()> {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(told, times)| ((*told).to_owned(), *times)).collect();
    until(&format!("Events tell of {name} {expected:?}"), SOON, async || {
        let told = events(world, name).await?;
        ensure!(told == expected, "they tell {told:?}");
        Ok(())
    })
    .await
}

/// How often Events have told of the fences of this name, by type and reason; repeated ones may be counted in one object.
async fn events(world: &World, name: &str) -> Result<BTreeMap<String, u64>> {
    let fields = format!("--field-selector=involvedObject.kind=ServiceFence,involvedObject.name={name}");
    let line = ["get", "events", "--namespace", NS, &fields, "--output=json"];
    let list: Value = serde_json::from_str(&world.mesh.kubectl(&line).await?)?;
    let mut told = BTreeMap::<_, u64>::new();
    for event in list["items"].as_array().into_iter().flatten() {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        let counts = [&event["count"], &event["series"]["count"]].into_iter().filter_map(Value::as_u64);
        let times = counts.max().unwrap_or_default().max(1);
        *told.entry(format!("{} {}", text("type"), text("reason"))).or_default() += times;
    }
    Ok(told)
}

/// Waits until the client's fence is in force and says so, which is when an Event tells it.
async fn until_fenced(world: &World) -> Result<()> {
    world.until_trimmed(NS, "client").await?;
    world.until_said(NS, "client", "Ready", FENCED).await.map(drop)
}

/// Waits until the Sidecar is its owner's, as it was.
async fn until_theirs(world: &World) -> Result<()> {
    until("the Sidecar is given back", SOON, async || {
        let sidecar = world.sidecar(NS, "client").await?;
        let metadata = &sidecar["metadata"];
        let ours = [&metadata["ownerReferences"], &metadata["annotations"]["palisade.io/adopted"]];
        ensure!(ours.iter().all(|field| field.is_null()), "{metadata}");
        let spec: Value = serde_json::json!({
            "egress": [{ "hosts": ["./*", DB] }], "workloadSelector": { "labels": { "app": "client" } },
        });
        ensure!(sidecar["spec"] == spec, "{}", sidecar["spec"]);
        Ok(())
    })
    .await
}

fn fence(policy: &str, enable: bool) -> String {
    fence_of("client", policy, enable)
}

fn fence_of(app: &str, policy: &str, enable: bool) -> String {
    format!("{{enable: {enable}, sidecarPolicy: {policy}, workloadSelector: {{labels: {{app: {app}}}}}}}")
}

/// A user's Sidecar, without a selector if there are no labels.
fn sidecar(name: &str, namespace: &str, labels: &str, annotation: &str, hosts: &[&str]) -> String {
    let selector = if labels.is_empty() {
        String::new()
    } else {
        format!("workloadSelector: {{labels: {{{labels}}}}}, ")
    };
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: {name}, namespace: {namespace}, \
         annotations: {{{annotation}}}}}, spec: {{{selector}egress: [{{hosts: [{}]}}]}}}}",
        hosts.join(", ")
    )
}
