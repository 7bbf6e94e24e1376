//! The operator alone against a real API server and istiod's webhook, in a mesh of 5,000 Services, 20,000 pods and
//! 5,000 fences: its start, its memory, its idling, bursts of new edges, and a restart with nothing changed.
//!
//! `BENCH_SERVICES` makes the mesh smaller, `BENCH_IDLE` the idle time shorter (seconds).

mod floor;
mod sidecars;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bed::mesh::{AccessLog, Mesh, Writes, entry};

use self::sidecars::Sidecars;
use crate::api_server::{until_quiet, written};
use crate::objects::{PODS_PER_SERVICE, Size, caller, create_for_each, host};
use crate::operator::{ACCESS_LOG, Operator, apply_crds};
use crate::{figure, node, variable};

/// Hosts that each fence of a burst learns.
const HOSTS: usize = 100;
/// How many fences take part in a burst, one burst after the other. The smaller one is over so soon that one is not enough.
const BURSTS: [usize; 4] = [200, 200, 200, 1000];
/// Entries of one message, as Envoy sends them at 16 KiB.
const ENTRIES: usize = 50;
/// What did not fit into its queue. Nobody calls again here, so that would never be learned.
const DROPPED: &str = "palisade_observations_dropped_total";
/// What the operator alone writes. Its Events cannot be told from others'.
const WRITTEN: [&str; 3] = ["sidecars", "servicefences", "servicefences/status"];

pub(crate) async fn run(mesh: &Mesh) -> Result<()> {
    let size = Size { services: variable("BENCH_SERVICES", 5000)? };
    let pods = size.services * PODS_PER_SERVICE;
    println!("operator alone: {} services, {pods} pods, {} fences", size.services, size.services);
    apply_crds(mesh).await?;
    let node = node::create(mesh).await?;
    size.create(mesh).await?;
    create_for_each(mesh, size.services, fence).await?;
    settle(mesh).await?;
    floor::measure(mesh, size).await?;
    settle(mesh).await?;
    let operator = first_start(mesh, size).await?;
    let operator = restart(mesh, operator, "unchanged restart").await?;
    idle(mesh, &operator).await?;
    for fences in bursts(size) {
        burst(mesh, &operator, fences).await?;
    }
    restart(mesh, operator, "unchanged restart after the bursts").await?.kill().await?;
    node.abort();
    Ok(())
}

/// The fences of each burst that a mesh is large enough for: others each time.
fn bursts(size: Size) -> impl Iterator<Item = Range<usize>> {
    let begun = |end: &mut usize, fences| {
        let begin = std::mem::replace(end, *end + fences);
        Some(begin..*end)
    };
    BURSTS.into_iter().scan(0, begun).take_while(move |fences| fences.end + HOSTS <= size.services)
}

/// Lets the rest of the control plane come to rest before anything is measured.
async fn settle(mesh: &Mesh) -> Result<()> {
    let started = Instant::now();
    until_quiet(mesh, |_| true).await?;
    println!("  the control plane has come to rest after {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

async fn first_start(mesh: &Mesh, size: Size) -> Result<Operator> {
    let (before, mut sidecars) = (mesh.writes().await?, Sidecars::watch(mesh).await?);
    let started = Instant::now();
    let operator = Operator::start(mesh, &[])?;
    figure("start → all Sidecars written", sidecars.until_written(size.services, started).await?);
    println!("{:<58} {:.1} s", "  processor time until then", operator.cpu()?);
    figure("start → all Sidecars trimmed", sidecars.until_trimmed(size.services, started).await?);
    until_quiet(mesh, is_ours).await?;
    println!("{:<58} {:.1} s", "  processor time until nothing is left to do", operator.cpu()?);
    println!("{:<58} {:?}", "  writes", ours(mesh, &before).await?);
    operator.print_memory("resident memory")?;
    Ok(operator)
}

async fn restart(mesh: &Mesh, operator: Operator, what: &str) -> Result<Operator> {
    operator.kill().await?;
    let before = mesh.writes().await?;
    let started = Instant::now();
    let operator = Operator::start(mesh, &[])?;
    operator.until_ready().await?;
    figure(&format!("{what} → ready"), started.elapsed());
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!("{:<58} {:?}", "  writes within 20 s after that", ours(mesh, &before).await?);
    println!("{:<58} {:.1} s", "  processor time", operator.cpu()?);
    operator.print_memory("  resident memory")?;
    Ok(operator)
}

async fn idle(mesh: &Mesh, operator: &Operator) -> Result<()> {
    let seconds = variable("BENCH_IDLE", 300)?;
    let (before, cpu) = (mesh.writes().await?, operator.cpu()?);
    tokio::time::sleep(Duration::from_secs(u64::try_from(seconds)?)).await;
    println!("{seconds} idle seconds");
    println!("{:<58} {:?}", "  writes", ours(mesh, &before).await?);
    println!("{:<58} {:.2} s", "  processor time", operator.cpu()? - cpu);
    operator.print_memory("  resident memory")
}

/// Every edge once, as fast as the operator takes them. The fences of a burst have not learned anything before.
async fn burst(mesh: &Mesh, operator: &Operator, fences: Range<usize>) -> Result<()> {
    let (calls, fences) = (interleaved(&fences), fences.len());
    let mut edges = HashMap::<_, HashSet<_>>::new();
    for (fence, called) in &calls {
        edges.entry(format!("s{fence}")).or_default().insert(host(*called));
    }
    let (before, mut sidecars) = (mesh.writes().await?, Sidecars::watch(mesh).await?);
    let (log, cpu, started) = (AccessLog::open(ACCESS_LOG).await?, operator.cpu()?, Instant::now());
    for entries in calls.chunks(ENTRIES) {
        let entries = entries.iter().map(|(fence, called)| entry(caller(*fence), &host(*called)));
        log.send(entries.collect()).await?;
    }
    println!("burst of {} new edges, {fences} fences", calls.len());
    figure("  sent", started.elapsed());
    let listed = sidecars.until_listed(edges, started).await;
    let dropped: f64 = operator.metric(DROPPED).await?.values().sum();
    let (first, complete) =
        listed.with_context(|| format!("{dropped} calls did not fit into the operator's queue so far"))?;
    figure("  first edge in a Sidecar", first);
    for (what, share) in [("half", 50), ("nine tenths", 90)] {
        figure(&format!("  all edges of {what} of the fences"), complete[(fences * share).div_ceil(100) - 1]);
    }
    figure("  all edges in Sidecars", complete[fences - 1]);
    until_quiet(mesh, is_ours).await?;
    println!("{:<58} {:.1} s", "  processor time until nothing is left to do", operator.cpu()? - cpu);
    println!("{:<58} {:?}", "  writes", ours(mesh, &before).await?);
    operator.print_memory("  resident memory")
}

/// One edge of each fence after the other: as a mesh calls, and the worst for whoever gathers a fence's edges.
fn interleaved(fences: &Range<usize>) -> Vec<(usize, usize)> {
    (1..=HOSTS).flat_map(|next| fences.clone().map(move |fence| (fence, fence + next))).collect()
}

fn is_ours(kind: &str) -> bool {
    WRITTEN.contains(&kind)
}

async fn ours(mesh: &Mesh, before: &Writes) -> Result<BTreeMap<String, u64>> {
    written(mesh, before, is_ours).await
}

fn fence(namespace: &str, name: &str) -> String {
    format!(
        "{{apiVersion: microservice.slime.io/v1alpha1, kind: ServiceFence, \
         metadata: {{name: {name}, namespace: {namespace}}}, spec: {{enable: true}}}}"
    )
}
