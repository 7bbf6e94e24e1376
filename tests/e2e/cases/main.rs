//! The cases that only a real mesh can show: `bed run -- e2e [NAME…]`, or `make e2e`.
//!
//! Everything is real but the applications: the API server, istiod, Envoy, and the operator as its chart ships
//! it. Cases share one mesh with mesh-wide STRICT mTLS, and run one after the other, each in namespaces of its own.

mod analyze;
mod auto;
mod bad_input;
mod busy;
mod chaos;
mod clean_up;
mod conflict;
mod counted;
mod declared;
mod exact;
mod expiry;
mod external;
mod first_fencing;
mod fixtures;
mod gateway_routes;
mod history;
mod hostile_logs;
mod leader;
mod limited;
mod limits;
mod limits_average;
mod limits_gateway;
mod limits_global;
mod limits_metrics;
mod limits_taken;
mod limits_under_way;
mod live;
mod mute;
mod names;
mod network;
mod observe;
mod policy;
mod prometheus;
mod prometheus_gone;
mod protocols;
mod quiet;
mod registry_only;
mod restart;
mod revisions;
mod rolling;
mod routes;
mod servers_gone;
mod sidecar_logs;
mod skipped;
mod slime;
mod steady;
mod strict;
mod tracing;
mod world;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use world::World;

fn main() -> Result<()> {
    let mut arguments = Arguments::from_args();
    // Cases measure what the whole mesh does, and share two cores with it.
    arguments.test_threads = Some(1);
    let runtime = Arc::new(Runtime::new()?);
    let world = if arguments.list { None } else { Some(Arc::new(runtime.block_on(World::set_up())?)) };
    let case = |name: &str, run: Case| {
        let (runtime, world) = (runtime.clone(), world.clone());
        Trial::test(name, move || {
            let world = world.ok_or_else(|| Failed::from("there is no mesh"))?;
            let began = Instant::now();
            let done = runtime.block_on(accepted(&world, run));
            let took = began.elapsed();
            let tidied = runtime.block_on(world.tidy());
            eprintln!("{took:.1?}, tidied up in {:.1?}", began.elapsed().saturating_sub(took));
            // The causes without a backtrace, which says nothing and hides them at the end of a log.
            done.and(tidied).map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    let cases = vec![
        case("network", |world| network::run(world).boxed_local()),
        case("protocols", |world| protocols::run(world).boxed_local()),
        case("names", |world| names::run(world).boxed_local()),
        case("routes", |world| routes::run(world).boxed_local()),
        case("declared", |world| declared::run(world).boxed_local()),
        case("strict", |world| strict::run(world).boxed_local()),
        case("policy", |world| policy::run(world).boxed_local()),
        case("tracing", |world| tracing::run(world).boxed_local()),
        case("registry-only", |world| registry_only::run(world).boxed_local()),
        case("observe", |world| observe::run(world).boxed_local()),
        case("skipped", |world| skipped::run(world).boxed_local()),
        case("conflict", |world| conflict::run(world).boxed_local()),
        case("analyze", |world| analyze::run(world).boxed_local()),
        case("external", |world| external::run(world).boxed_local()),
        case("exact", |world| exact::run(world).boxed_local()),
        case("quiet", |world| quiet::run(world).boxed_local()),
        case("limits", |world| limits::run(world).boxed_local()),
        case("limits-gateway", |world| limits_gateway::run(world).boxed_local()),
        case("limits-global", |world| limits_global::run(world).boxed_local()),
        case("limits-under-way", |world| limits_under_way::run(world).boxed_local()),
        case("limits-average", |world| limits_average::run(world).boxed_local()),
        case("limits-metrics", |world| limits_metrics::run(world).boxed_local()),
        case("limits-taken", |world| limits_taken::run(world).boxed_local()),
        case("bad-input", |world| bad_input::run(world).boxed_local()),
        case("slime", |world| slime::run(world).boxed_local()),
        case("revisions", |world| revisions::run(world).boxed_local()),
        case("rolling", |world| rolling::run(world).boxed_local()),
        case("busy", |world| busy::run(world).boxed_local()),
        case("restart", |world| restart::run(world).boxed_local()),
        case("leader", |world| leader::run(world).boxed_local()),
        case("servers-gone", |world| servers_gone::run(world).boxed_local()),
        case("first-fencing", |world| first_fencing::run(world).boxed_local()),
        case("sidecar-logs", |world| sidecar_logs::run(world).boxed_local()),
        case("auto", |world| auto::run(world).boxed_local()),
        case("prometheus", |world| prometheus::run(world).boxed_local()),
        case("expiry", |world| expiry::run(world).boxed_local()),
        case("prometheus-gone", |world| prometheus_gone::run(world).boxed_local()),
        case("live", |world| live::run(world).boxed_local()),
        // The last: it uninstalls.
        case("clean-up", |world| clean_up::run(world).boxed_local()),
        // What is too long to be run always: `make soak` runs it.
        case("chaos", |world| chaos::run(world).boxed_local()).with_ignored_flag(true),
    ];
    libtest_mimic::run(&arguments, cases).exit()
}

/// Runs a case, in which no Envoy may reject what istiod sends it, by its own word and by istiod's.
async fn accepted(world: &World, run: Case) -> Result<()> {
    let (before, of_proxies) = (world.rejections().await?, world.rejecting_proxies().await?);
    run(world).await?;
    let rejecting = world.rejecting_proxies().await?;
    let news: Vec<_> = rejecting.iter().filter(|(pod, count)| of_proxies.get(*pod) != Some(*count)).collect();
    ensure!(news.is_empty(), "proxies have rejected what istiod sent them: {news:?}");
    let after = world.rejections().await?;
    // An istiod that was started again counts anew.
    ensure!(after <= before, "proxies have rejected {} times what istiod sent them", after - before);
    Ok(())
}

type Case = for<'a> fn(&'a World) -> LocalBoxFuture<'a, Result<()>>;
