//! A live workload is fenced with what Prometheus remembers of it: it is warm before its first call, its open TCP
//! connection stays, and nothing that it has used takes the detour: there need not be one.

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::PROMETHEUS;
use bed::wait::until;
use serde_json::Value;

use crate::counted::{CACHE, ask_prometheus, ask_with, listed, set_up, sources, until_counted, url};
use crate::live::flawless;
use crate::world::{PALISADE, SOON, World};

const NS: &str = "warm";
const CLIENT: &str = "warm/client";
const LOAD: [&str; 3] = ["--rate=50", "--connections=4", "--new-connection-share=0.2"];
/// How users have Prometheus asked for Envoy's own counters.
const DOCUMENT: &str = include_str!("../../../docs/prometheus.md");

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = warm(world).await;
    world.install().await?;
    done
}

async fn warm(world: &World) -> Result<()> {
    set_up(world, NS, &["early", "client", "plain"]).await?;
    ask_prometheus(world, &[]).await?;
    a_fence_without_prometheus_goes_on(world).await.context("before Prometheus is there")?;
    world.mesh.start_prometheus().await?;
    a_live_workload_is_warm(world).await.context("with Istio's metrics")?;
    what_is_new_takes_the_detour(world).await?;
    envoys_own_counters_do_as_well(world).await.context("with Envoy's own counters")
}

/// Its answer does not come, and is asked for ever more rarely.
async fn a_fence_without_prometheus_goes_on(world: &World) -> Result<()> {
    fence(world, "early").await?;
    until_ready(world, "early", "AwaitingHistory").await?;
    until_ready(world, "early", "Fencing").await?;
    let failed = world
        .mesh
        .metric(Component::Palisade, "palisade_prometheus_passes_total", &["result=\"failure\""])
        .await?;
    ensure!(failed > 0.0, "no pass has failed, although there is no Prometheus");
    Ok(())
}

async fn a_live_workload_is_warm(world: &World) -> Result<()> {
    let conversation = world.mesh.load(CLIENT, &[CACHE], &["--rate=2", "--connections=1"]).await?;
    for name in ["idle", "used"] {
        world.mesh.call(CLIENT, &url(name)).await?;
    }
    let fenced = fenced_without_a_global_proxy(world).await;
    // The other cases need it, whatever became of this one.
    fenced.and(scale_global_proxy(world, 1).await)?;
    for name in ["cache", "idle", "used"] {
        let sources = sources(world, NS, "client", name).await?;
        ensure!(sources == ["Prometheus"], "{name}: {sources:?}");
    }
    let summary = conversation.end().await?;
    ensure!(summary.ok > 0 && summary.failed == 0, "the open connection was cut: {summary:?}");
    Ok(())
}

/// There is nobody to learn from but Prometheus, and a call that took the detour would fail: none does, from before the
/// fencing until the old listeners have drained.
async fn fenced_without_a_global_proxy(world: &World) -> Result<()> {
    let counted = until_counted(world, NS, "client", &["idle", "used", "cache"]);
    tokio::try_join!(counted, scale_global_proxy(world, 0))?;
    let calls = world.mesh.load(CLIENT, &[&url("idle"), &url("used")], &LOAD).await?;
    world.mesh.freeze(PROMETHEUS.0, PROMETHEUS.1).await?;
    fence(world, "client").await?;
    until_ready(world, "client", "AwaitingHistory").await?;
    ensure!(world.sidecar(NS, "client").await.is_err(), "it is fenced before its history is told");
    world.mesh.thaw(PROMETHEUS.0, PROMETHEUS.1).await?;
    world.until_trimmed(NS, "client").await?;
    let expected = ["cache", "idle", "used"].map(|name| listed(NS, name));
    world.until_routed(NS, "client", &expected.each_ref().map(String::as_str)).await?;
    for name in ["idle", "used"] {
        world.mesh.call(CLIENT, &url(name)).await?;
    }
    flawless("calls without a global proxy", &calls.end().await?)
}

/// Has so many pods of the global proxy, and waits until they are ready and no other is left.
async fn scale_global_proxy(world: &World, replicas: usize) -> Result<()> {
    let deployment = ["deployment/global-proxy", "--namespace", PALISADE];
    let scale = ["scale", &format!("--replicas={replicas}")];
    world.mesh.kubectl(&[&scale[..], &deployment[..]].concat()).await?;
    let line = ["get", "pods", "--selector=app=global-proxy", "--output=name", "--namespace", PALISADE];
    // One that goes lets its connections end first, for as long as terminationGracePeriodSeconds says.
    until(&format!("{replicas} pods of the global proxy"), 3 * SOON, async || {
        let pods = world.mesh.kubectl(&line).await?;
        ensure!(pods.lines().count() == replicas, "{pods}");
        Ok(())
    })
    .await?;
    let ready = ["rollout", "status", "--timeout=120s"];
    world.mesh.kubectl(&[&ready[..], &deployment[..]].concat()).await.map(drop)
}

async fn what_is_new_takes_the_detour(world: &World) -> Result<()> {
    // That the global proxy is back, the caller's proxy hears a moment later.
    let first = async || world.watched_call(CLIENT, &url("spare")).await;
    let (_, detour) = until("the first call", SOON, first).await?;
    ensure!(detour, "a host that was never called is reached without the global proxy");
    world.until_direct(CLIENT, &url("spare")).await?;
    let sources = sources(world, NS, "client", "spare").await?;
    ensure!(sources.iter().any(|source| source == "AccessLog"), "{sources:?}");
    Ok(())
}

/// The queries of the documentation, asked of a real Prometheus for what a real Envoy counts.
async fn envoys_own_counters_do_as_well(world: &World) -> Result<()> {
    ask_with(world, &documented_values()?, &[]).await?;
    let conversation = world.mesh.load("warm/plain", &[CACHE], &["--rate=2", "--connections=1"]).await?;
    world.mesh.call("warm/plain", &url("used")).await?;
    until_counted(world, NS, "plain", &["used", "cache"]).await?;
    fence(world, "plain").await?;
    let expected = ["cache", "used"].map(|name| listed(NS, name));
    world.until_trimmed(NS, "plain").await?;
    world.until_routed(NS, "plain", &expected.each_ref().map(String::as_str)).await?;
    let sources = sources(world, NS, "plain", "used").await?;
    ensure!(sources == ["Prometheus"], "{sources:?}");
    let summary = conversation.end().await?;
    ensure!(summary.ok > 0 && summary.failed == 0, "the open connection was cut: {summary:?}");
    Ok(())
}

/// The values in the documentation: its indented block that begins with `prometheus:`.
fn documented_values() -> Result<String> {
    let lines: Vec<_> = DOCUMENT
        .lines()
        .skip_while(|line| *line != "    prometheus:")
        .take_while(|line| line.starts_with("    "))
        .collect();
    let values = lines.join("\n");
    let read: Value = serde_saphyr::from_str(&values)?;
    ensure!(read["prometheus"]["queries"].as_array().is_some_and(|queries| queries.len() == 2), "{values}");
    Ok(values)
}

async fn fence(world: &World, name: &str) -> Result<()> {
    let spec = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
    world.apply_fence(NS, name, &spec).await
}

async fn until_ready(world: &World, fence: &str, reason: &str) -> Result<()> {
    until(&format!("{fence} is {reason}"), SOON, async || {
        let conditions = &world.fence_of(NS, fence).await?["status"]["conditions"];
        let ready =
            conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
        ensure!(ready.is_some_and(|ready| ready["reason"] == reason), "{conditions}");
        Ok(())
    })
    .await
}
