//! A caller under load is fenced, learns, forgets, is opened and fenced again: not one request fails, and none
//! stays on the detour.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::app::load::Summary;
use bed::mesh::Stats;
use bed::wait::until;

use crate::fixtures::{client, crowd, server};
use crate::history::History;
use crate::world::{PALISADE, SOON, World};

const NS: &str = "live";
const CROWD: &str = "live-crowd";
const CALLER: &str = "live/client";
/// How many services there are that nobody calls.
const SERVICES: usize = 2000;
/// The name of a server and its port.
const SERVERS: [(&str, (&str, u16)); 5] = [
    ("web", ("http", 8080)),
    ("h2c", ("http2", 8081)),
    ("unary", ("grpc", 8082)),
    ("late", ("http", 8080)),
    ("old", ("http", 8080)),
];
/// Called all the time.
const URLS: [&str; 3] = ["http://web:8080/", "h2c://h2c:8081/", "grpc://unary:8082/"];
/// What a client would do: most requests over kept connections, some over new ones.
const LOAD: [&str; 4] = ["--rate=1000", "--connections=24", "--new-connection-share=0.2", "--timeout=10s"];
/// How long no request may be seen on the detour, at 1,000 and more a second.
const WINDOW: Duration = Duration::from_secs(3);

/// In a large registry and under such a load, a push of everything takes longer than in the other cases.
const SETTLE: &str = "fence.openSettle=3s";

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    world.install_with(&[SETTLE]).await?;
    let done = loaded(world).await;
    world.install().await?;
    done
}

async fn loaded(world: &World) -> Result<()> {
    set_up(world).await?;
    let full = full_configuration(world).await?;
    let history = History::start(world).await?;
    // Which request failed when, on which kind of connection: for whoever has to find out why.
    let failures = format!("--failures={}", world.mesh.bed().path().join("live-failures.jsonl").display());
    let load = world.mesh.load(CALLER, &URLS, &[&LOAD[..], &[&failures]].concat()).await?;
    // Called until it is removed from the spec, under load like the others.
    let old = world.mesh.load(CALLER, &["http://old:8080/"], &["--rate=100"]).await?;
    let step = |what: &'static str| eprintln!("live: {what}");

    step("fence");
    world.fence(NS, "client", &fence(true, true)).await?;
    world.until_routed(NS, "client", &hosts(&["h2c", "old", "unary", "web"])).await?;
    nothing_on_the_detour(world).await.context("after learning")?;

    step("learn one more, beside others on its port");
    let late = world
        .mesh
        .load(CALLER, &["http://late:8080/"], &["--rate=200", "--new-connection-share=0.2"])
        .await?;
    world.until_routed(NS, "client", &hosts(&["h2c", "late", "old", "unary", "web"])).await?;
    nothing_on_the_detour(world).await.context("after learning one more")?;

    step("remove one");
    flawless("a host that is removed later", &old.end().await?)?;
    world.apply_fence(NS, "client", &fence(true, false)).await?;
    world.until_routed(NS, "client", &hosts(&["h2c", "late", "unary", "web"])).await?;
    world.until_trimmed(NS, "client").await?;

    step("disable");
    world.apply_fence(NS, "client", &fence(false, false)).await?;
    world.until_gone(NS, "client").await?;
    world.until_clusters(CALLER, full).await?;

    step("fence again");
    world.fence(NS, "client", &fence(true, false)).await?;
    world.until_routed(NS, "client", &hosts(&["h2c", "late", "unary", "web"])).await?;
    nothing_on_the_detour(world).await.context("after fencing again")?;

    step("delete");
    world.delete_fence(NS, "client").await?;
    world.until_gone(NS, "client").await?;
    world.until_clusters(CALLER, full).await?;

    let (load, late) = (load.end().await?, late.end().await?);
    flawless("the load on known hosts", &load)?;
    flawless("the load on a host that is learned late", &late)?;
    history.made_before_broken(CALLER)
}

async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(CROWD, false).await?;
    let servers = SERVERS.iter().map(|(name, port)| server(NS, name, &[*port]));
    let manifests: Vec<_> = servers.chain([client(NS, "client")]).collect();
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.create(&crowd(CROWD, SERVICES)).await?;
    world.mesh.rollout(NS).await
}

/// How many outbound clusters the caller has when it has everything.
async fn full_configuration(world: &World) -> Result<usize> {
    let last = format!("crowd-{}.{CROWD}.svc.cluster.local", SERVICES - 1);
    for pod in [CALLER, &format!("{PALISADE}/global-proxy")] {
        world.until_pushed(pod, &[&last, "old.live.svc.cluster.local"]).await?;
    }
    let count = world.mesh.outbound_clusters(CALLER).await?.len();
    ensure!(count > SERVICES, "only {count} clusters");
    Ok(count)
}

fn fence(enable: bool, old: bool) -> String {
    let host = if old { format!("{{old.{NS}.svc.cluster.local: {{}}}}") } else { "{}".to_owned() };
    format!("{{enable: {enable}, host: {host}, workloadSelector: {{labels: {{app: client}}}}}}")
}

fn hosts(names: &[&'static str]) -> Vec<&'static str> {
    let host = |name: &&str| match *name {
        "web" => "live/web.live.svc.cluster.local",
        "h2c" => "live/h2c.live.svc.cluster.local",
        "unary" => "live/unary.live.svc.cluster.local",
        "late" => "live/late.live.svc.cluster.local",
        _ => "live/old.live.svc.cluster.local",
    };
    names.iter().map(host).collect()
}

/// Waits until the last connection over the global proxy has ended, and makes sure that for a while not one
/// byte comes over it although the load goes on.
async fn nothing_on_the_detour(world: &World) -> Result<()> {
    until("the global proxy carries no connection", SOON, async || {
        let proxy = format!("{PALISADE}/global-proxy");
        let clusters = world.mesh.envoy(&proxy, "/clusters?filter=^global-proxy-loopback$").await?;
        let active: Vec<_> = clusters.lines().filter(|line| line.contains("_active::")).collect();
        ensure!(!active.is_empty() && active.iter().all(|line| line.ends_with("::0")), "{active:?}");
        Ok(())
    })
    .await?;
    let before = hop(world).await?;
    tokio::time::sleep(WINDOW).await;
    let after = hop(world).await?;
    ensure!(before == after, "calls still go over the global proxy: {before:?}, then {after:?}");
    Ok(())
}

async fn hop(world: &World) -> Result<Stats> {
    let stats =
        world.mesh.stats(&format!("{PALISADE}/global-proxy"), "^tcp.global-proxy-hop.*_total$").await?;
    ensure!(!stats.is_empty(), "the global proxy does not count");
    Ok(stats)
}

/// Makes sure that a load lost nothing.
pub fn flawless(what: &str, load: &Summary) -> Result<()> {
    eprintln!(
        "live: {what}: {} requests, {} new connections, {} sent again after a close, late by {} ms at most, {:?}",
        load.sent, load.fresh, load.retried_stale, load.late_ms_max, load.latency_ms
    );
    ensure!(load.sent > 0, "{what}: no request was sent");
    let lost = load.failed + load.retried_unanswered;
    ensure!(
        lost == 0,
        "{what}: {} failed, {} unanswered of {}: {:#?}",
        load.failed,
        load.retried_unanswered,
        load.sent,
        load.errors
    );
    Ok(())
}
