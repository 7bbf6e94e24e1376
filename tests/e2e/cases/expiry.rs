//! A learned host that nobody uses any more leaves on Prometheus's word, its route before its clusters; what is still
//! called stays, and so does what has an open connection. A short outage of Prometheus changes none of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bed::cli::Component;
use bed::mesh::PROMETHEUS;
use bed::wait::until;

use crate::counted::{CACHE, ask_prometheus, host, listed, set_up, until_counted, url};
use crate::history::History;
use crate::world::{SOON, World};

const NS: &str = "expiry";
const CALLER: &str = "expiry/client";
/// How long a host is kept. `lastSeen` may be an eighth of that behind.
const RETENTION: Duration = Duration::from_secs(16);
/// By when it has left: the retention, what `lastSeen` may be behind, a look every minute at least, and a margin.
const LEFT: Duration = Duration::from_secs(100);

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = watched(world).await;
    world.install().await?;
    done
}

async fn watched(world: &World) -> Result<()> {
    world.mesh.start_prometheus().await?;
    set_up(world, NS, &["client"]).await?;
    ask_prometheus(world, &[]).await?;
    let conversation = world.mesh.load(CALLER, &[CACHE], &["--rate=1", "--connections=1"]).await?;
    let calls = world.mesh.load(CALLER, &[&url("used")], &["--rate=5"]).await?;
    world.mesh.call(CALLER, &url("idle")).await?;
    let called = Instant::now();
    until_counted(world, NS, "client", &["idle", "used", "cache"]).await?;

    let history = History::start(world).await?;
    world.fence(NS, "client", &spec()).await?;
    let expected = ["cache", "idle", "used"].map(|name| listed(NS, name));
    world.until_routed(NS, "client", &expected.each_ref().map(String::as_str)).await?;
    until_left(world, &history, "idle").await?;
    ensure!(called.elapsed() >= RETENTION, "it left after {:?}", called.elapsed());
    world.mesh.call(CALLER, &url("idle")).await?;

    a_short_outage(world).await?;
    for name in ["cache", "used"] {
        history.never_left(CALLER, &listed(NS, name))?;
    }
    history.made_before_broken(CALLER)?;
    for load in [conversation.end().await?, calls.end().await?] {
        ensure!(load.ok > 0 && load.failed == 0, "{load:?}");
    }
    Ok(())
}

/// Slime's scenario A10: Prometheus is killed, and comes back with its data.
async fn a_short_outage(world: &World) -> Result<()> {
    let (restarts, _) = world.mesh.restarts(PROMETHEUS.0).await?;
    world.mesh.kill(PROMETHEUS.0, PROMETHEUS.1).await?;
    world.until_direct(CALLER, &url("spare")).await?;
    world.mesh.until_restarted(PROMETHEUS.0, restarts + 1).await?;
    let before = passes(world).await?;
    until("Prometheus is asked again", SOON, async || {
        ensure!(passes(world).await? > before, "not yet");
        Ok(())
    })
    .await
}

async fn passes(world: &World) -> Result<f64> {
    let success = ["result=\"success\""];
    world.mesh.metric(Component::Palisade, "palisade_prometheus_passes_total", &success).await
}

async fn until_left(world: &World, history: &History, name: &str) -> Result<()> {
    let gone = listed(NS, name);
    until(&format!("{name} has left"), LEFT, async || {
        let state = history.last(CALLER);
        ensure!(!state.has(&gone), "{state:?}");
        Ok(())
    })
    .await?;
    let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
    ensure!(domains.get(host(NS, name)).is_none(), "{domains}");
    Ok(())
}

fn spec() -> String {
    let retention = RETENTION.as_secs();
    format!(
        "{{enable: true, workloadSelector: {{labels: {{app: client}}}}, learning: {{retention: {retention}s}}}}"
    )
}
