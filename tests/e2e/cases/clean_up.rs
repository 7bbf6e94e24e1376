//! Whatever ends a fence, its workload has its full configuration back before anything is taken away.

use anyhow::{Context as _, Result, ensure};
use bed::mesh::Load;
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::history::History;
use crate::world::{PALISADE, SOON, World};

const NS: &str = "clean-up";
const CALLER: &str = "clean-up/client";
const FENCE: &str = "{enable: true, workloadSelector: {labels: {app: client}}}";
const DISABLED: &str = "{enable: false, workloadSelector: {labels: {app: client}}}";
const URLS: [&str; 2] = ["http://s1:8080/", "http://s2:8080/"];

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let servers = (1..=5).map(|number| server(NS, &format!("s{number}"), &[("http", 8080)]));
    let manifests: Vec<_> = servers.chain([client(NS, "client")]).collect();
    world.mesh.namespace(NS, true).await?;
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.until_pushed(CALLER, &["s5.clean-up.svc.cluster.local"]).await?;
    let full = world.mesh.outbound_clusters(CALLER).await?.len();

    deleted(world, full).await.context("a fence is deleted")?;
    disabled(world, full).await.context("a fence is disabled")?;
    collected(world, full).await.context("a fence goes by force while the operator is away")?;
    deleted_unseen(world, full).await.context("a fence is deleted while the operator is away")?;
    uninstalled(world).await.context("the chart is uninstalled")
}

async fn deleted(world: &World, full: usize) -> Result<()> {
    let load = fenced(world).await?;
    let history = History::start(world).await?;
    world.delete_fence(NS, "client").await?;
    opened(world, &history, full).await?;
    flawless(load).await
}

async fn disabled(world: &World, full: usize) -> Result<()> {
    let load = fenced(world).await?;
    let history = History::start(world).await?;
    world.apply_fence(NS, "client", DISABLED).await?;
    opened(world, &history, full).await?;
    let fence = world.fence_of(NS, "client").await?;
    ensure!(fence["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty), "{fence:#}");
    world.delete_fence(NS, "client").await?;
    flawless(load).await
}

/// Garbage collection by ownerReference takes the Sidecar of a fence that could not be opened.
async fn collected(world: &World, full: usize) -> Result<()> {
    let load = fenced(world).await?;
    world.scale_operator(0).await?;
    let no_finalizer = ["patch", "servicefence", "client", "--namespace", NS, "--type=merge"];
    world
        .mesh
        .kubectl(&[&no_finalizer[..], &["--patch={\"metadata\":{\"finalizers\":null}}"]].concat())
        .await?;
    world.delete_fence(NS, "client").await?;
    world.until_gone(NS, "client").await?;
    world.until_clusters(CALLER, full).await?;
    world.scale_operator(1).await?;
    flawless(load).await
}

/// A fence waits for its operator, and is opened as soon as that is back.
async fn deleted_unseen(world: &World, full: usize) -> Result<()> {
    let load = fenced(world).await?;
    world.scale_operator(0).await?;
    let history = History::start(world).await?;
    world.mesh.kubectl(&["delete", "servicefence", "client", "--namespace", NS, "--wait=false"]).await?;
    // Known and unknown hosts alike.
    for url in [URLS[0], "http://s5:8080/"] {
        world.mesh.call(CALLER, url).await?;
    }
    ensure!(history.of(CALLER).len() == 1, "somebody changed the Sidecar: {:?}", history.of(CALLER));
    world.scale_operator(1).await?;
    opened(world, &history, full).await?;
    let left = world.mesh.kubectl(&["get", "servicefences", "--namespace", NS, "--output=name"]).await?;
    ensure!(left.trim().is_empty(), "the fence is still there: {left}");
    flawless(load).await
}

async fn uninstalled(world: &World) -> Result<()> {
    let load = fenced(world).await?;
    let history = History::start(world).await?;
    // One that nobody has learned: it is on the detour when the uninstallation begins.
    let unknown =
        world.mesh.load(CALLER, &["http://s4:8080/"], &["--rate=20", "--new-connection-share=0.5"]).await?;
    world.mesh.uninstall("palisade", PALISADE).await?;

    let selector = "--selector=app.kubernetes.io/managed-by=palisade";
    let left =
        world.mesh.kubectl(&["get", "sidecars.networking.istio.io", "-A", "-o=name", selector]).await?;
    ensure!(left.trim().is_empty(), "Sidecars are left: {left}");
    let left = world
        .mesh
        .kubectl(&["get", "deployments,services,jobs,configmaps", "-n", PALISADE, "-o=name"])
        .await?;
    let left: Vec<_> =
        left.lines().filter(|name| name.contains("palisade") || name.contains("global-proxy")).collect();
    ensure!(left.is_empty(), "the uninstallation left {left:?}");
    history.made_before_broken(CALLER)?;
    let fence = world.fence_of(NS, "client").await?;
    ensure!(
        fence["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty),
        "nobody will open it: {fence:#}"
    );
    world.mesh.call(CALLER, "http://s5:8080/").await?;

    world.install().await?;
    world.until_trimmed(NS, "client").await.context("after installing again")?;
    flawless(unknown).await?;
    flawless(load).await?;
    world.delete_fence(NS, "client").await
}

/// Fences the caller, and has it call what it knows.
async fn fenced(world: &World) -> Result<Load> {
    world.fence(NS, "client", FENCE).await?;
    for url in URLS {
        world.until_direct(CALLER, url).await?;
    }
    world.until_trimmed(NS, "client").await?;
    world.mesh.load(CALLER, &URLS, &["--rate=100", "--new-connection-share=0.2"]).await
}

async fn opened(world: &World, history: &History, full: usize) -> Result<()> {
    world.until_gone(NS, "client").await?;
    world.until_clusters(CALLER, full).await?;
    until("the watch has seen the end", SOON, async || {
        ensure!(history.last(CALLER).gone, "{:?}", history.last(CALLER));
        Ok(())
    })
    .await?;
    history.made_before_broken(CALLER)
}

async fn flawless(load: Load) -> Result<()> {
    let load = load.end().await?;
    ensure!(load.sent > 0, "no request was sent");
    ensure!(load.failed + load.retried_unanswered == 0, "calls failed: {:#?}", load.errors);
    Ok(())
}
