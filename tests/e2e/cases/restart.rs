//! The operator is killed while it learns: calls go on, nothing that was learned is lost, and no host ever
//! leaves a Sidecar.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::history::History;
use crate::steady::{Steady, name, url};
use crate::world::{SOON, World};

const NS: &str = "restart";
const CALLER: &str = "restart/client";
const OPERATOR: &str = "palisade-system/palisade";
/// Two hosts are known from the start; each kill has one that is new.
const SERVERS: usize = 8;
/// When the operator is killed, after the call that teaches it something.
const AFTER_CALL: [u64; 3] = [0, 20, 150];
/// How long a new host has a cluster only: long beside what a look at the mesh takes, so that no kill comes too late.
const SETTLE: &str = "fence.settle=6s";
/// When it is killed within that time.
const AFTER_WARMING: [u64; 3] = [0, 1500, 3000];

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let steady = Steady::start(world, NS, SERVERS, 100).await?;
    let history = &steady.history;

    for (round, millis) in AFTER_CALL.into_iter().enumerate() {
        killed_after_call(world, history, round + 3, millis)
            .await
            .with_context(|| format!("killed {millis} ms after a call"))?;
    }
    world.install_with(&[SETTLE]).await?;
    for (round, millis) in AFTER_WARMING.into_iter().enumerate() {
        let number = round + 3 + AFTER_CALL.len();
        killed_while_warming(world, history, number, millis)
            .await
            .with_context(|| format!("killed {millis} ms after warming"))?;
    }
    world.install().await?;

    steady.end().await?.made_before_broken(CALLER)?;
    all_known(world, SERVERS).await
}

async fn killed_after_call(world: &World, history: &History, number: usize, millis: u64) -> Result<()> {
    let (restarts, _) = world.mesh.restarts(OPERATOR).await?;
    let (_, detour) = world.watched_call(CALLER, &url(number)).await?;
    ensure!(detour, "the first call did not go over the global proxy");
    tokio::time::sleep(Duration::from_millis(millis)).await;
    back_from_the_dead(world, history, number, restarts).await
}

async fn killed_while_warming(world: &World, history: &History, number: usize, millis: u64) -> Result<()> {
    let (restarts, _) = world.mesh.restarts(OPERATOR).await?;
    // After an upgrade the global proxy may not have found the new leader yet: then the next call teaches it.
    until("the new host has a cluster", SOON, async || {
        world.mesh.call(CALLER, &url(number)).await?;
        let state = history.last(CALLER);
        ensure!(state.keeps.contains(&host(number)), "{state:?}");
        Ok(())
    })
    .await?;
    until("the new host is durable", SOON, async || all_known(world, number).await).await?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    let state = history.last(CALLER);
    ensure!(!state.routes.contains(&host(number)), "the kill came too late: it is routed already");
    back_from_the_dead(world, history, number, restarts).await?;
    ensure!(history.last(CALLER).routes.contains(&host(number)), "{:?}", history.last(CALLER));
    history.never_left(CALLER, &host(number))
}

/// Kills the operator, calls while it is down, and waits until it is back and has learned all that was called.
async fn back_from_the_dead(world: &World, history: &History, number: usize, restarts: i32) -> Result<()> {
    let before = history.last(CALLER);
    world.mesh.kill(OPERATOR, "palisade").await?;
    let calls: Vec<_> = (1..=number).map(url).collect();
    let calls: Vec<_> = calls.iter().map(String::as_str).collect();
    for call in world.mesh.calls(CALLER, &calls, &[]).await? {
        ensure!(call.ok, "while the operator was down: {call:?}");
    }
    world.mesh.until_restarted(OPERATOR, restarts + 1).await?;
    world.until_direct(CALLER, &url(number)).await?;
    let after = history.last(CALLER);
    ensure!(before.routes.iter().all(|host| after.has(host)), "before: {before:?}\nafter: {after:?}");
    all_known(world, number).await
}

/// Makes sure that the fence's status knows the first `count` hosts.
async fn all_known(world: &World, count: usize) -> Result<()> {
    let fence = world.fence_of(NS, "client").await?;
    let domains = fence["status"]["domains"].as_object().context("no domains")?;
    let missing: Vec<_> = (1..=count).filter(|number| !domains.contains_key(&full_name(*number))).collect();
    ensure!(missing.is_empty(), "{missing:?} are missing of {domains:#?}");
    Ok(())
}

fn full_name(number: usize) -> String {
    format!("{}.{NS}.svc.cluster.local", name(number))
}

fn host(number: usize) -> String {
    format!("{NS}/{}", full_name(number))
}
