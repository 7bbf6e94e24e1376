//! Limits of what a pod has under way: TCP connections, and requests by how fast they are answered; and the limits of subsets.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::limits::nothing_was_rejected;
use crate::world::{SOON, World};

const NS: &str = "limits-under-way";
const CALLER: &str = "limits-under-way/client";
/// How long load is kept.
const WATCHED: Duration = Duration::from_secs(8);

const LIMITS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: limits-under-way}
spec: {host: web, subsets: [{name: one, labels: {version: one}}, {name: two, labels: {version: two}}]}
---
apiVersion: microservice.slime.io/v1alpha2
kind: SmartLimiter
metadata: {name: web, namespace: limits-under-way}
spec:
  sets:
    _base:
      descriptor:
      - {condition: 'true', action: {quota: '4', strategy: connections}, target: {port: 7000}}
    one:
      descriptor:
      - {condition: 'true', action: {quota: '4', strategy: adaptive}, target: {port: 8080}}
    two:
      descriptor:
      - {condition: 'true', action: {quota: '1', strategy: connections}, target: {port: 7000}}
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let web = server(NS, "web", &[("http", 8080), ("tcp", 7000)]);
    world.mesh.apply(&[web, client(NS, "client")].join("\n---\n")).await?;
    label(world, "one").await?;
    ensure!(open(world).await? == 6, "connections are limited before there is a limit");
    let before = load(world).await.context("before there is a limit")?;
    ensure!(before == 0, "{before} requests failed before there is a limit");
    world.mesh.apply(LIMITS).await?;
    world.until_limiter_said(NS, "web", "Ready", ("True", "Limiting")).await?;
    until_open(world, 4).await.context("the limit of all pods")?;
    let refused = load(world).await.context("requests under way")?;
    ensure!(refused > 0, "no request was refused");
    label(world, "two").await?;
    until_open(world, 1).await.context("the limit of a subset")?;
    let refused = load(world).await.context("requests of another subset")?;
    ensure!(refused == 0, "{refused} requests were refused");
    nothing_was_rejected(world, &[&format!("{NS}/web"), CALLER]).await
}

/// Has the pods be of a version.
async fn label(world: &World, version: &str) -> Result<()> {
    let patch =
        format!(r#"{{"spec": {{"template": {{"metadata": {{"labels": {{"version": "{version}"}}}}}}}}}}"#);
    world.mesh.kubectl(&["patch", "deployment/web", "-n", NS, "--patch", &patch]).await?;
    world.mesh.rollout(NS).await?;
    until("the pods of before are gone", SOON, async || {
        let pods =
            world.mesh.kubectl(&["get", "pods", "-n", NS, "--selector=app=web", "--output=name"]).await?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })
    .await
}

async fn until_open(world: &World, count: usize) -> Result<()> {
    until(&format!("{count} connections at a time"), SOON, async || {
        let open = open(world).await?;
        ensure!(open == count, "{open} are open");
        Ok(())
    })
    .await
}

/// How many of six connections that are open at a time have an answer.
async fn open(world: &World) -> Result<usize> {
    let script = "for n in 3 4 5 6 7 8; do eval \"exec $n<>/dev/tcp/web/7000\"; echo hello >&$n; done 2>/dev/null; \
                  for n in 3 4 5 6 7 8; do read -t 2 -u $n line && echo answered; done; true";
    let text = world.mesh.exec(CALLER, &["bash", "-c", script]).await?;
    Ok(text.lines().filter(|line| *line == "answered").count())
}

/// How many requests are refused with 503 if 15 are under way at a time.
async fn load(world: &World) -> Result<u64> {
    let load =
        world.mesh.load(CALLER, &["http://web:8080/delay/300"], &["--rate=50", "--connections=20"]).await?;
    tokio::time::sleep(WATCHED).await;
    let summary = load.end().await?;
    ensure!(summary.ok > 0, "no request passed: {:?}", summary.errors);
    let other: Vec<_> = summary.errors.iter().filter(|group| !group.error.contains("503")).collect();
    ensure!(other.is_empty(), "requests were not refused, but failed: {other:?}");
    Ok(summary.failed)
}
