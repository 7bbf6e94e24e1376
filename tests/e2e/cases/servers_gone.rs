//! The API server and istiod are killed under traffic: known hosts never notice, and the operator picks up by
//! itself where it was.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::steady::{Steady, url};
use crate::world::{SOON, World};

const NS: &str = "servers-gone";
const CALLER: &str = "servers-gone/client";
const OPERATOR: &str = "palisade-system/palisade";
const ISTIOD: &str = "istio-system/istiod";
const SERVERS: usize = 7;
/// Long enough for every watch and probe to notice.
const OUTAGE: Duration = Duration::from_secs(6);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let steady = Steady::start(world, NS, SERVERS, 200).await?;
    let (restarts, _) = world.mesh.restarts(OPERATOR).await?;

    without_api_server(world, 3, OUTAGE).await.context("an outage of the API server")?;
    world.until_direct(CALLER, &url(4)).await.context("learning after it")?;
    without_api_server(world, 5, Duration::ZERO).await.context("a crash of the API server")?;
    without_istiod(world, 6).await.context("a crash of istiod")?;
    world.until_direct(CALLER, &url(7)).await.context("learning after it")?;

    steady.end().await?;
    let now = world.mesh.restarts(OPERATOR).await?;
    ensure!(now == (restarts, true), "the operator's restarts and readiness: {now:?}, {restarts} before");
    Ok(())
}

/// A host is called for the first time while nothing can be written; it is learned when that is possible again,
/// without a further call.
async fn without_api_server(world: &World, number: usize, outage: Duration) -> Result<()> {
    let caller = world.mesh.caller(CALLER).await?;
    world.mesh.stop_api_server().await?;
    let call = world.mesh.calls_from(&caller, &[&url(number)], &[]).await?.swap_remove(0);
    tokio::time::sleep(outage).await;
    world.mesh.start_api_server().await?;
    ensure!(call.ok, "the first call failed: {call:?}");
    routed(world, number).await?;
    ready(world).await
}

/// A host is called for the first time while no proxy hears of anything new.
async fn without_istiod(world: &World, number: usize) -> Result<()> {
    let (restarts, _) = world.mesh.restarts(ISTIOD).await?;
    world.mesh.kill(ISTIOD, "discovery").await?;
    world.mesh.call(CALLER, &url(number)).await?;
    routed(world, number).await?;
    world.mesh.until_restarted(ISTIOD, restarts + 1).await?;
    world.until_direct(CALLER, &url(number)).await?;
    ready(world).await
}

async fn routed(world: &World, number: usize) -> Result<()> {
    let host = format!("{NS}/s{number}.{NS}.svc.cluster.local");
    until(&format!("{host} is routed"), SOON, async || {
        let routed = world.routed(NS, "client").await?;
        ensure!(routed.contains(&host), "{routed:?}");
        Ok(())
    })
    .await
}

/// Makes sure that the operator is ready again.
async fn ready(world: &World) -> Result<()> {
    until("the operator is ready", SOON, async || {
        let (restarts, ready) = world.mesh.restarts(OPERATOR).await?;
        ensure!(ready, "it is not; restarts: {restarts}");
        Ok(())
    })
    .await
}
