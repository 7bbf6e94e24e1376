//! A live workload is observed and then fenced in a mesh without Prometheus: what its own proxy has counted is reported, and in
//! the fence before anything of it could take the detour, and an open TCP connection lives on.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use serde_json::json;

use crate::fixtures::{counted_client, server};
use crate::history::History;
use crate::world::{SOON, World};

const NS: &str = "first-fencing";
const CALLER: &str = "first-fencing/client";
const WEB: &str = "web.first-fencing.svc.cluster.local";
const CACHE: &str = "cache.first-fencing.svc.cluster.local";

/// The case. The installation is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    world.install_with(&["proxyMetrics.enabled=true"]).await?;
    let done = fenced(world).await;
    world.install().await?;
    done
}

async fn fenced(world: &World) -> Result<()> {
    set_up(world).await?;
    // A pod that is ready is known to the caller's proxy a moment later.
    until("the first call", SOON, async || world.mesh.call(CALLER, "http://web:8080/").await).await?;
    until("the cache has an endpoint", SOON, async || endpoint(world).await).await?;
    let open = world.mesh.load(CALLER, &["tcp://cache:6379"], &["--rate=5", "--connections=1"]).await?;
    until("a connection is open", SOON, async || one_connection(world).await).await?;
    let (history, detours) = (History::start(world).await?, world.detours().await?);

    let fence =
        |mode| format!("{{enable: true, mode: {mode}, workloadSelector: {{labels: {{app: client}}}}}}");
    // There is no detour yet, and no Prometheus.
    world.apply_fence(NS, "client", &fence("Observe")).await?;
    until("what is used is reported", SOON, async || {
        let observed = &world.fence_of(NS, "client").await?["status"]["observed"];
        ensure!(observed["kept"] == 3, "the two, and the global proxy: {observed}");
        Ok(())
    })
    .await?;

    // Until the old listeners have drained, too.
    world.fence(NS, "client", &fence("Enforce")).await?;
    let hosts = [CACHE, WEB].map(|host| format!("{NS}/{host}"));
    world.until_routed(NS, "client", &hosts.each_ref().map(String::as_str)).await?;
    let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
    for host in [CACHE, WEB] {
        ensure!(domains[host]["sources"] == json!(["ProxyMetrics"]), "{domains}");
        ensure!(domains.as_object().is_some_and(|domains| domains.len() == 2), "{domains}");
    }
    for state in history.of(CALLER).iter().filter(|state| !state.is_open()) {
        ensure!(
            hosts.iter().all(|host| state.has(host)),
            "what is in use was left out for a while: {state:?}"
        );
    }
    one_connection(world).await.context("after the fencing")?;
    let (_, detour) = world.watched_call(CALLER, "http://web:8080/").await?;
    ensure!(!detour && world.detours().await? == detours, "something went over the global proxy");
    let open = open.end().await?;
    ensure!(open.sent > 0 && open.failed + open.retried_stale == 0, "{open:?}");
    let (_, detour) = world.watched_call(CALLER, "http://other:8080/").await?;
    ensure!(detour, "what was never called is direct");
    Ok(())
}

async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]),
        server(NS, "other", &[("http", 8080)]),
        server(NS, "cache", &[("tcp", 6379)]),
        counted_client(NS, "client"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await
}

async fn endpoint(world: &World) -> Result<()> {
    let stats = world.mesh.stats(CALLER, "6379.*cache.*membership_healthy$").await?;
    ensure!(stats.values().eq([&1]), "{stats:?}");
    Ok(())
}

/// Makes sure that the client has just one connection to the cache, the one that it opened first.
async fn one_connection(world: &World) -> Result<()> {
    let stats = world.mesh.stats(CALLER, "6379.*cache.*upstream_cx_(active|total)$").await?;
    let counts: Vec<_> = stats.values().copied().collect();
    ensure!(counts == [1, 1], "{stats:?}");
    Ok(())
}
