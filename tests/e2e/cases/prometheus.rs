//! A live workload is fenced with what Prometheus remembers of it: it is warm before its first call, its open TCP
//! connection stays, and nothing that it has used takes the detour.

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::PROMETHEUS;
use bed::wait::until;
use serde_json::Value;

use crate::counted::{CACHE, ask_prometheus, ask_with, listed, set_up, sources, until_counted, url};
use crate::world::{SOON, World};

const NS: &str = "warm";
const CLIENT: &str = "warm/client";
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
    until_counted(world, NS, "client", &["idle", "used", "cache"]).await?;

    let before = world.detours().await?;
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
    let taken = world.detours().await? - before;
    ensure!(taken == 0, "{taken} connections came over the global proxy");
    for name in ["cache", "idle", "used"] {
        let sources = sources(world, NS, "client", name).await?;
        ensure!(sources == ["Prometheus"], "{name}: {sources:?}");
    }
    let summary = conversation.end().await?;
    ensure!(summary.ok > 0 && summary.failed == 0, "the open connection was cut: {summary:?}");
    Ok(())
}

async fn what_is_new_takes_the_detour(world: &World) -> Result<()> {
    let (_, detour) = world.watched_call(CLIENT, &url("spare")).await?;
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
