//! Prometheus is gone for several retentions, and comes back without its data: while it is gone no host leaves, and
//! afterwards none until it has watched for a whole retention.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::mesh::Load;
use bed::wait::until;
use jiff::Timestamp;

use crate::counted::{ask_prometheus, listed, set_up, until_counted, url};
use crate::history::History;
use crate::world::World;

const NS: &str = "gone";
const CALLER: &str = "gone/client";
/// How long a host is kept.
const RETENTION: Duration = Duration::from_secs(12);
/// How long Prometheus is gone.
const OUTAGE: Duration = RETENTION.saturating_mul(2);
/// By when one has left that nobody uses: the back-off with which Prometheus was asked while it was gone, the retention,
/// what `lastSeen` may be behind, and a margin.
const LEFT: Duration = Duration::from_secs(100);

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = outage(world).await;
    world.install().await?;
    done
}

async fn outage(world: &World) -> Result<()> {
    world.mesh.start_prometheus().await?;
    set_up(world, NS, &["client"]).await?;
    ask_prometheus(world, &[]).await?;
    let calls = world.mesh.load(CALLER, &[&url("idle"), &url("used")], &["--rate=10"]).await?;
    until_counted(world, NS, "client", &["idle", "used"]).await?;
    let spec = format!(
        "{{enable: true, workloadSelector: {{labels: {{app: client}}}}, learning: {{retention: {}s}}}}",
        RETENTION.as_secs()
    );
    world.fence(NS, "client", &spec).await?;
    known(world).await?;
    world.mesh.stop_prometheus().await?;
    flawless(calls).await?;

    let history = History::start(world).await?;
    // A new pod's proxy has counted nothing: only who was there knows when the host was called last.
    world.mesh.kubectl(&["rollout", "restart", "deployment/client", "--namespace", NS]).await?;
    let status = ["rollout", "status", "deployment/client", "--timeout=60s", "--namespace", NS];
    world.mesh.kubectl(&status).await?;
    let calls = world.mesh.load(CALLER, &[&url("used")], &["--rate=5"]).await?;
    nothing_leaves(world).await?;
    history.nothing_lost(CALLER).context("while Prometheus is gone")?;
    known(world).await?;

    let back = Instant::now();
    world.mesh.start_prometheus().await?;
    until_left(world, &history).await?;
    ensure!(back.elapsed() >= RETENTION, "it left after {:?}", back.elapsed());
    history.never_left(CALLER, &listed(NS, "used"))?;
    flawless(calls).await
}

async fn known(world: &World) -> Result<()> {
    let routed = world.routed(NS, "client").await?;
    let expected = ["idle", "used"].map(|name| listed(NS, name));
    ensure!(expected.iter().all(|host| routed.contains(host)), "{routed:?}");
    Ok(())
}

/// Has the operator look at the fence, as it does by itself every minute at least while hosts may leave.
async fn look(world: &World) -> Result<()> {
    let looked = format!("looked={}", Timestamp::now());
    let line = ["annotate", "--overwrite", "servicefence", "client", "--namespace", NS, &looked];
    world.mesh.kubectl(&line).await.map(drop)
}

/// However often the fence is looked at.
async fn nothing_leaves(world: &World) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < OUTAGE {
        look(world).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn until_left(world: &World, history: &History) -> Result<()> {
    until("the idle host has left", LEFT, async || {
        look(world).await?;
        let state = history.last(CALLER);
        ensure!(!state.has(&listed(NS, "idle")), "{state:?}");
        Ok(())
    })
    .await
}

async fn flawless(load: Load) -> Result<()> {
    let load = load.end().await?;
    ensure!(load.ok > 0 && load.failed == 0, "{load:?}");
    Ok(())
}
