//! How much is written to the API server, by its own counters: little for what is new, nothing for the rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::mesh::Writes;
use bed::wait::until;
use futures::future::try_join_all;

use crate::fixtures::{aliases, client, server};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "quiet";
const CALLER: &str = "quiet/client";
const BURST: usize = 200;
/// The chart's default.
const SETTLE: Duration = Duration::from_millis(300);
/// What comes late must come within this time to be seen: a settle time is 0.3 s, the proxies' drain 4 s here.
const WATCHED: Duration = Duration::from_secs(6);

/// What other components write by themselves while nothing happens: leader elections, heartbeats, tokens.
const OTHERS: [&str; 7] = [
    "configmaps",
    "nodes",
    "nodes/status",
    "pods/status",
    "serviceaccounts/token",
    "subjectaccessreviews",
    "tokenreviews",
];
/// What a fence may make the operator write.
const SIDECARS: &str = "sidecars";
const STATUS: &str = "servicefences/status";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    set_up(world).await?;
    the_counters_count(world).await?;
    one_dependency(world).await.context("one dependency")?;
    a_burst(world).await.context("many dependencies at once")?;
    a_burst_after_fencing(world).await.context("many dependencies at once, just fenced")?;
    repeated_calls(world).await.context("repeated calls")?;
    a_restart(world).await.context("a restart")
}

async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]),
        server(NS, "last", &[("http", 8080)]),
        client(NS, "client"),
        client(NS, "busy"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.create(&aliases(NS, "web", BURST, ("http", 8080))).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    let all: Vec<_> = (0..BURST).map(alias).collect();
    // What the global proxy does not know yet would not be learned.
    world
        .until_pushed(
            &format!("{PALISADE}/global-proxy"),
            &all.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await
}

async fn the_counters_count(world: &World) -> Result<()> {
    let before = world.mesh.writes().await?;
    world.mesh.kubectl(&["create", "secret", "generic", "known", "--namespace", NS]).await?;
    ensure_written(world, &before, &[("secrets", 1)]).await?;
    world.mesh.kubectl(&["delete", "secret", "known", "--namespace", NS]).await?;
    ensure_written(world, &before, &[("secrets", 2)]).await
}

async fn one_dependency(world: &World) -> Result<()> {
    let before = world.mesh.writes().await?;
    world.until_direct(CALLER, "http://web:8080/").await?;
    world.until_routed(NS, "client", &[&format!("{NS}/web.{NS}.svc.cluster.local")]).await?;
    tokio::time::sleep(WATCHED).await;
    // What was learned is made durable once; the Sidecar first warms the cluster and then routes to it.
    ensure_written(world, &before, &[(SIDECARS, 2), (STATUS, 1)]).await
}

/// Everything at once, by a workload that has been fenced for long.
async fn a_burst(world: &World) -> Result<()> {
    burst(world, "client", &[&format!("web.{NS}.svc.cluster.local")], 3).await
}

/// Everything at once, by a workload that has just been fenced: while its old routes drain it has every cluster.
async fn a_burst_after_fencing(world: &World) -> Result<()> {
    world.apply_fence(NS, "busy", "{enable: true, workloadSelector: {labels: {app: busy}}}").await?;
    until("the fence is in force", SOON, async || {
        let status = &world.fence_of(NS, "busy").await?["status"];
        ensure!(status["conditions"][0]["reason"] == "Fenced", "{status}");
        Ok(())
    })
    .await?;
    // One more: the Sidecar lets go of what has drained.
    burst(world, "busy", &[], 4).await
}

/// Lets a workload call all aliases at once. At most one write of each kind is allowed in each settle time of the
/// burst, and `more`.
async fn burst(world: &World, caller: &str, known: &[&str], more: u64) -> Result<()> {
    let before = world.mesh.writes().await?;
    let urls: Vec<_> = (0..BURST).map(|number| format!("http://alias-{number}:8080/")).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let (pod, began) = (format!("{NS}/{caller}"), Instant::now());
    let calls = try_join_all(urls.chunks(BURST / 8).map(|urls| world.mesh.calls(&pod, urls, &[]))).await?;
    let lasted = began.elapsed();
    let failed: Vec<_> = calls.into_iter().flatten().filter(|call| !call.ok).collect();
    ensure!(failed.is_empty(), "{} calls failed, the first: {:?}", failed.len(), failed.first());
    let hosts = (0..BURST).map(alias).chain(known.iter().map(|host| (*host).to_owned()));
    let mut hosts: Vec<_> = hosts.map(|host| format!("{NS}/{host}")).collect();
    hosts.sort();
    world.until_routed(NS, caller, &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    tokio::time::sleep(WATCHED).await;
    let written = written(world, &before).await?;
    let allowed = u64::try_from(lasted.as_millis() / SETTLE.as_millis())? + more;
    let count = |kind: &str| written.get(kind).copied().unwrap_or_default();
    let few = count(SIDECARS).max(count(STATUS)) <= allowed;
    ensure!(few, "a burst of {BURST} in {lasted:?} caused {written:?}, of which {allowed} each are allowed");
    ensure!(written.keys().all(|kind| kind == SIDECARS || kind == STATUS), "a burst caused {written:?}");
    Ok(())
}

async fn repeated_calls(world: &World) -> Result<()> {
    let before = world.mesh.writes().await?;
    let calls = world.mesh.calls(CALLER, &["http://web:8080/"], &["--repeat", "1000"]).await?;
    let failed = calls.iter().filter(|call| !call.ok).count();
    ensure!(calls.len() == 1000 && failed == 0, "of {} calls {failed} failed", calls.len());
    ensure_written(world, &before, &[]).await
}

async fn a_restart(world: &World) -> Result<()> {
    let before = world.mesh.writes().await?;
    let deployment = ["deployment/palisade", "--namespace", PALISADE];
    world.mesh.kubectl(&[&["rollout", "restart"], &deployment[..]].concat()).await?;
    let wait = ["rollout", "status", "--timeout=120s"];
    world.mesh.kubectl(&[&wait[..], &deployment[..]].concat()).await?;
    tokio::time::sleep(WATCHED).await;
    ensure_fences_untouched(world, &before).await?;
    // That it works again shows that it had the time to write.
    world.until_direct(CALLER, "http://last:8080/").await?;
    until("the fence is learned by the new operator", SOON, async || {
        let routed = world.routed(NS, "client").await?;
        ensure!(routed.len() == BURST + 2, "{} hosts", routed.len());
        Ok(())
    })
    .await
}

async fn ensure_fences_untouched(world: &World, before: &Writes) -> Result<()> {
    let mut written = written(world, before).await?;
    // The Deployment's own rollout is none of the operator's.
    written.retain(|kind, _| kind == SIDECARS || kind.starts_with("servicefences"));
    ensure!(written.is_empty(), "a restart wrote {written:?}");
    Ok(())
}

fn alias(number: usize) -> String {
    format!("alias-{number}.{NS}.svc.cluster.local")
}

async fn ensure_written(world: &World, before: &Writes, expected: &[(&str, u64)]) -> Result<()> {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    let written = written(world, before).await?;
    ensure!(written == expected, "written: {written:?}, expected: {expected:?}");
    Ok(())
}

async fn written(world: &World, before: &Writes) -> Result<BTreeMap<String, u64>> {
    let mut written = world.mesh.writes().await?.since(before);
    written.retain(|kind, _| !OTHERS.contains(&kind.as_str()));
    Ok(written)
}
