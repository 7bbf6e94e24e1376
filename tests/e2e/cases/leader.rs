//! Two replicas: the leader stops, is killed, and stands still. Learning goes on, and nothing that was learned is lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::steady::{Steady, url};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "leader";
const CALLER: &str = "leader/client";
/// Two hosts are known from the start; each change of the leader has one that is new.
const SERVERS: usize = 5;
/// A leader that stops hands over: the next one's pause between two looks, and the learning itself.
const HANDED_OVER: Duration = Duration::from_secs(10);
/// When the API server takes a lease for expired; before, nobody else may lead.
const EXPIRY: Duration = Duration::from_secs(10);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let done = two_replicas(world).await;
    // The other cases have one replica.
    done.and(world.install().await)
}

async fn two_replicas(world: &World) -> Result<()> {
    world.install_with(&["replicas=2"]).await?;
    let steady = Steady::start(world, NS, SERVERS, 200).await?;

    it_stops(world).await.context("a leader that stops")?;
    it_is_killed(world).await.context("a leader that is killed")?;
    it_stands_still(world).await.context("a leader that stands still")?;

    steady.end().await?.made_before_broken(CALLER)
}

async fn it_stops(world: &World) -> Result<()> {
    let before = leader(world).await?;
    world.mesh.kubectl(&["delete", "pod", &before, "--namespace", PALISADE]).await?;
    let took = learned(world, 3).await?;
    ensure!(took < HANDED_OVER, "it took {took:?}");
    let after = leader(world).await?;
    ensure!(after != before, "{before} leads yet");
    world.mesh.rollout(PALISADE).await
}

/// Its container is started again, and need not wait for its own lease.
async fn it_is_killed(world: &World) -> Result<()> {
    world.mesh.kill(&format!("{PALISADE}/{}", leader(world).await?), "palisade").await?;
    let took = learned(world, 4).await?;
    ensure!(took < SOON, "it took {took:?}");
    world.mesh.rollout(PALISADE).await
}

/// It stands still with something to write, and goes on when another one leads: it must not write, and end.
async fn it_stands_still(world: &World) -> Result<()> {
    let before = leader(world).await?;
    let pod = format!("{PALISADE}/{before}");
    let restarts = restarts(world, &before).await?;
    world.mesh.call(CALLER, &url(5)).await?;
    world.mesh.freeze(&pod, "palisade").await?;
    let took = learned(world, 5).await?;
    let after = leader(world).await?;
    ensure!(after == before || took >= EXPIRY, "{after} leads although the lease had not expired");
    until("another replica leads", SOON, async || {
        let after = leader(world).await?;
        ensure!(after != before, "{after} leads yet");
        Ok(())
    })
    .await?;
    world.mesh.thaw(&pod, "palisade").await?;
    until("the old leader has ended and is back", SOON, async || {
        let now = self::restarts(world, &before).await?;
        ensure!(now == restarts + 1, "{now} restarts, {restarts} before");
        Ok(())
    })
    .await?;
    let log = world.mesh.log(&pod, "palisade").await?;
    ensure!(log.contains("another replica leads"), "it did not end by itself");
    ensure!(leader(world).await? != before, "{before} leads again");
    Ok(())
}

/// Calls a host until it is learned, and tells how long that took.
async fn learned(world: &World, number: usize) -> Result<Duration> {
    let began = Instant::now();
    world.until_direct(CALLER, &url(number)).await?;
    Ok(began.elapsed())
}

async fn leader(world: &World) -> Result<String> {
    let path = "--output=jsonpath={.spec.holderIdentity}";
    let name = world.mesh.kubectl(&["get", "lease", "palisade", "--namespace", PALISADE, path]).await?;
    Ok(name.trim().to_owned())
}

async fn restarts(world: &World, pod: &str) -> Result<u32> {
    let path = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
    let count = world.mesh.kubectl(&["get", "pod", pod, "--namespace", PALISADE, path]).await?;
    Ok(count.trim().parse()?)
}
