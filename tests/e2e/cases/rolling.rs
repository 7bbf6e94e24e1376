//! A fenced Deployment is updated again and again under load: no request fails, and its new pods know from their
//! first call what the old ones had learned.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::fixtures::{client, graceful, server};
use crate::world::World;

const NS: &str = "rolling";
const CALLER: &str = "rolling/client";
/// The front calls the back for each request, and is what is updated.
const URL: &str = "http://front:8080/call?url=http%3A%2F%2Fback%3A8080%2F";
const LOAD: [&str; 4] = ["--rate=500", "--connections=48", "--new-connection-share=0.1", "--timeout=10s"];
const UPDATES: u32 = 3;
/// From one update's beginning to the next: the machine starts proxies and carries the load with the same two cores.
const EVERY: Duration = Duration::from_secs(20);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [server(NS, "back", &[("http", 8080)]), graceful(NS, "front"), client(NS, "client")];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    for name in ["client", "front"] {
        let fence = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
        world.fence(NS, name, &fence).await?;
    }
    world.until_direct(CALLER, URL).await?;

    let (load, detours) = (world.mesh.load(CALLER, &[URL], &LOAD).await?, world.detours().await?);
    for _ in 0..UPDATES {
        update(world).await.context("updating")?;
    }
    let load = load.end().await?;
    eprintln!(
        "rolling: {UPDATES} updates, {} requests, {} sent again after a close, {:?}",
        load.sent, load.retried_stale, load.latency_ms
    );
    ensure!(load.failed + load.retried_unanswered == 0, "of {}: {:#?}", load.sent, load.errors);
    let more = world.detours().await? - detours;
    ensure!(more == 0, "{more} connections took the detour, although all was known");
    world.until_routed(NS, "front", &["rolling/back.rolling.svc.cluster.local"]).await
}

/// Replaces all pods of the front.
async fn update(world: &World) -> Result<()> {
    let (began, front) = (Instant::now(), ["deployment/front", "--namespace", NS]);
    world.mesh.kubectl(&[&["rollout", "restart"], &front[..]].concat()).await?;
    world.mesh.kubectl(&[&["rollout", "status", "--timeout=120s"], &front[..]].concat()).await?;
    tokio::time::sleep(EVERY.saturating_sub(began.elapsed())).await;
    Ok(())
}
