//! A limit that all pods share, while pods come and go under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::app::load::Summary;
use bed::mesh::Load;
use bed::wait::until;

use crate::fixtures::{client, graceful};
use crate::limited::{Limiter, limiter, tokens};
use crate::world::{SOON, World};

const NS: &str = "limits-average";
const CALLER: &str = "limits-average/client";
/// What all pods together let pass in a second.
const QUOTA: u32 = 40;
/// How long each number of pods is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.apply(&[graceful(NS, "web"), client(NS, "client")].join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    let descriptor = format!(
        "{{condition: 'true', action: {{quota: '{QUOTA}', fill_interval: {{seconds: 1}}, strategy: average}}, target: {{port: 8080}}}}"
    );
    limiter(world, NS, "web", &Limiter::of(&[descriptor])).await?;
    for (pods, share) in [(2, 20), (4, 10), (1, 40)] {
        let (load, began) = (start(world).await?, Instant::now());
        scale(world, pods).await?;
        until_shared(world, pods, share).await?;
        // A pod that comes has the share that the others had before, until it has its own.
        judge(&load.end().await?, began, 0.5, 3.0)
            .with_context(|| format!("while it becomes {pods} pods"))?;
        let (load, began) = (start(world).await?, Instant::now());
        tokio::time::sleep(WATCHED).await;
        let summary = load.end().await?;
        judge(&summary, began, 0.85, 1.0).with_context(|| format!("{pods} pods"))?;
        // Nothing else is in the way of a request.
        let other: Vec<_> = summary.errors.iter().filter(|group| !group.error.contains("429")).collect();
        ensure!(other.is_empty(), "{pods} pods: requests were not limited, but failed: {other:?}");
    }
    Ok(())
}

async fn start(world: &World) -> Result<Load> {
    world.mesh.load(CALLER, &["http://web:8080/"], &["--rate=160", "--connections=16"]).await
}

/// Whether of an ended load in each second at least `least` of the quota have passed, and in all time no more than the quota
/// and what full buckets hold, `most` times.
fn judge(summary: &Summary, began: Instant, least: f64, most: f64) -> Result<()> {
    let seconds = began.elapsed().as_secs_f64();
    let (passed, quota) = (u32::try_from(summary.ok)?, f64::from(QUOTA));
    let passed = f64::from(passed);
    eprintln!("limits-average: {passed} passed in {seconds:.1} s, {} did not", summary.failed);
    ensure!(passed >= quota * seconds * least, "{passed} passed in {seconds} s, too few");
    ensure!(passed <= quota * (seconds + most) * 1.05, "{passed} passed in {seconds} s, too many");
    Ok(())
}

async fn scale(world: &World, pods: usize) -> Result<()> {
    world.mesh.kubectl(&["scale", "deployment/web", "-n", NS, &format!("--replicas={pods}")]).await?;
    world.mesh.rollout(NS).await
}

/// Waits until each pod that there is has its share of the quota.
async fn until_shared(world: &World, pods: usize, share: u64) -> Result<()> {
    until(&format!("each of {pods} pods has {share}"), SOON, async || {
        let names = ["get", "pods", "-n", NS, "--selector=app=web", "--output=name"];
        let names = world.mesh.kubectl(&names).await?;
        ensure!(names.lines().count() == pods, "{names}");
        for name in names.lines().filter_map(|line| line.strip_prefix("pod/")) {
            let tokens = tokens(world, &format!("{NS}/{name}"), "virtualInbound").await?;
            ensure!(tokens == [share], "{name} has {tokens:?}");
        }
        Ok(())
    })
    .await
}
