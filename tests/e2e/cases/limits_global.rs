//! A limit that the rate limit service keeps for all pods: how exact it is, what each value has for itself, and what becomes
//! of it when the service or the limiter goes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::limited::{Limiter, admitted, limiter, rejects_in_its_own_words, until_limits};
use crate::limits::nothing_was_rejected;
use crate::world::{PALISADE, SOON, World};

const NS: &str = "limits-global";
const CALLER: &str = "limits-global/client";
const URL: &str = "http://web:8080/";
const SERVICE: &str = "palisade-rate-limit";
/// Pods that share the limit.
const PODS: usize = 3;
/// What they let pass in a second.
const QUOTA: u32 = 40;
/// How long that is watched.
const WATCHED: Duration = Duration::from_secs(15);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    set_up(world).await?;
    without_the_service(world).await.context("before there is a service")?;
    // The bed shares two cores: an answer may be late there.
    world.install_with(&["limiter.global.enabled=true", "limiter.global.timeout=2s"]).await?;
    world.mesh.rollout(PALISADE).await?;
    all_pods_share_it(world).await.context("the limit of all pods")?;
    each_value_for_itself(world).await.context("each value")?;
    the_service_goes(world).await.context("the service goes")?;
    the_limiter_goes_while_nobody_looks(world).await.context("the limiter goes")?;
    nothing_was_rejected(world, &[&format!("{NS}/web"), CALLER, &format!("{PALISADE}/{SERVICE}")]).await?;
    world.install().await
}

/// The pods are fenced: that they may ask the service is the fence's doing.
async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.apply(&[server(NS, "web", &[("http", 8080)]), client(NS, "client")].join("\n---\n")).await?;
    world.mesh.kubectl(&["scale", "deployment/web", "-n", NS, &format!("--replicas={PODS}")]).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "web", "{enable: true}").await
}

fn descriptor(quota: u32, seconds: u32, more: &str) -> String {
    format!(
        "{{condition: 'true', action: {{quota: '{quota}', fill_interval: {{seconds: {seconds}}}, strategy: global}}, target: {{port: 8080}}, {more}}}"
    )
}

async fn limit(world: &World, failure_mode_deny: bool, descriptors: &[String]) -> Result<()> {
    limiter(world, NS, "web", &Limiter { failure_mode_deny, ..Limiter::of(descriptors) }).await?;
    world.until_limiter_said(NS, "web", "Ready", ("True", "Limiting")).await.map(drop)
}

/// Waits until every pod has filters with so many limits, and none is left of others.
async fn until_all_have(world: &World, limits: &[usize]) -> Result<()> {
    let names = ["get", "pods", "-n", NS, "--selector=app=web", "--output=name"];
    let names = world.mesh.kubectl(&names).await?;
    ensure!(names.lines().count() == PODS, "{names}");
    for name in names.lines().filter_map(|line| line.strip_prefix("pod/")) {
        until_limits(world, &format!("{NS}/{name}"), "virtualInbound", limits).await?;
    }
    Ok(())
}

async fn without_the_service(world: &World) -> Result<()> {
    limiter(world, NS, "web", &Limiter::of(&[descriptor(QUOTA, 1, "")])).await?;
    let message = world.until_limiter_said(NS, "web", "Ready", ("False", "NoRateLimitService")).await?;
    ensure!(message.contains("limiter.global.enabled"), "{message}");
    Ok(())
}

/// The same object, once there is a service.
async fn all_pods_share_it(world: &World) -> Result<()> {
    world.until_limiter_said(NS, "web", "Ready", ("True", "Limiting")).await?;
    until_all_have(world, &[1]).await?;
    let load = world.mesh.load(CALLER, &[URL], &["--rate=120", "--connections=12"]).await?;
    let began = Instant::now();
    tokio::time::sleep(WATCHED).await;
    let (seconds, summary) = (began.elapsed().as_secs_f64(), load.end().await?);
    let passed = f64::from(u32::try_from(summary.ok)?);
    // What is filled in that time, and what the bucket held.
    let expected = f64::from(QUOTA) * (seconds + 1.0);
    eprintln!(
        "limits-global: {passed} passed in {seconds:.1} s, {expected:.0} were expected, {} did not",
        summary.failed
    );
    let other: Vec<_> = summary.errors.iter().filter(|group| !group.error.contains("429")).collect();
    ensure!(other.is_empty(), "requests were not limited, but failed: {other:?}");
    ensure!((0.95..=1.05).contains(&(passed / expected)), "{passed} passed, and {expected:.0} should have");
    Ok(())
}

async fn each_value_for_itself(world: &World) -> Result<()> {
    let each = "match: [{name: x-user, present_match_separate: true}], rateLimitHeaders: true";
    let shadow = "match: [{name: x-shadow, present_match: true}], shadow: true";
    // In a time that is none of Envoy's units.
    limit(world, false, &[descriptor(2, 700, each), descriptor(1, 700, shadow)]).await?;
    until_all_have(world, &[2]).await?;
    for (header, expected) in [("x-user:a", 2), ("x-user:b", 2), ("x-shadow:1", 6), ("x-other:1", 6)] {
        let passed = admitted(world, CALLER, URL, &["--header", header], 6).await.context(header)?;
        ensure!(passed == expected, "{header}: {passed} of 6 passed, and {expected} should have");
    }
    let answer =
        world.mesh.exec(CALLER, &["curl", "--silent", "--include", "--header", "x-user: a", URL]).await?;
    ensure!(answer.contains("429") && answer.contains("x-ratelimit-limit: 2"), "{answer}");
    let answer =
        world.mesh.exec(CALLER, &["curl", "--silent", "--include", "--header", "x-shadow: 1", URL]).await?;
    ensure!(answer.contains("200") && !answer.contains("x-ratelimit-limit"), "{answer}");
    rejects_in_its_own_words(world, (NS, "web"), (CALLER, URL, "x-user: a")).await
}

/// What the user chose holds while there is no service; and when it is back, so is the limit.
async fn the_service_goes(world: &World) -> Result<()> {
    let strict = [descriptor(1, 600, "match: [{name: x-strict, present_match: true}]")];
    limit(world, false, &strict).await?;
    until_all_have(world, &[1]).await?;
    let passed = admitted(world, CALLER, URL, &["--header", "x-strict:1"], 6).await?;
    ensure!(passed == 1, "{passed} of 6 passed");
    scale(world, 0).await?;
    let passed = admitted(world, CALLER, URL, &["--header", "x-strict:1"], 6).await?;
    ensure!(passed == 6, "without the service: {passed} of 6 passed, and all should have");

    limit(world, true, &strict).await?;
    until("requests are refused without the service", SOON, async || {
        let calls = world.mesh.calls(CALLER, &[URL], &["--header", "x-strict:1", "--repeat=9"]).await?;
        ensure!(calls.iter().all(|call| call.status == Some(500)), "{calls:?}");
        Ok(())
    })
    .await?;
    let passed = admitted(world, CALLER, URL, &[], 6).await?;
    ensure!(passed == 6, "without the service, what is not limited: {passed} of 6 passed");

    scale(world, 1).await?;
    until("there is an answer again", SOON, async || {
        let calls = world.mesh.calls(CALLER, &[URL], &["--header", "x-strict:1", "--repeat=9"]).await?;
        ensure!(calls.iter().all(|call| call.status == Some(429)), "{calls:?}");
        Ok(())
    })
    .await
}

async fn scale(world: &World, replicas: usize) -> Result<()> {
    let of = format!("deployment/{SERVICE}");
    world.mesh.kubectl(&["scale", &of, "-n", PALISADE, &format!("--replicas={replicas}")]).await?;
    until(&format!("{replicas} rate limit services"), SOON, async || {
        let selector = format!("--selector=app={SERVICE}");
        let pods = world.mesh.kubectl(&["get", "pods", "-n", PALISADE, &selector, "--output=name"]).await?;
        ensure!(pods.lines().count() == replicas, "{pods}");
        Ok(())
    })
    .await?;
    world.mesh.rollout(PALISADE).await
}

async fn the_limiter_goes_while_nobody_looks(world: &World) -> Result<()> {
    world.scale_operator(0).await?;
    world.mesh.kubectl(&["delete", "smartlimiter", "web", "-n", NS, "--timeout=30s"]).await?;
    until_all_have(world, &[]).await?;
    let passed = admitted(world, CALLER, URL, &["--header", "x-strict:1"], 6).await?;
    ensure!(passed == 6, "{passed} of 6 passed");
    let left = ["get", "envoyfilters.networking.istio.io", "-n", NS, "--output=name"];
    let left = world.mesh.kubectl(&left).await?;
    ensure!(left.trim().is_empty(), "{left}");
    world.scale_operator(1).await
}
