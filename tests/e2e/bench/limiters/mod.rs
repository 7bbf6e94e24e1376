//! The operator alone against a real API server, istiod's webhook and a real Prometheus: 1,000 limiters, each with a
//! condition on a metric of its own pods, which is one of 50,000 series. Its start, its rest, and pods that come and go.
//!
//! `BENCH_LIMITERS` and `BENCH_SERIES` make it smaller, `BENCH_IDLE` the time at rest shorter (seconds).

mod filters;
mod series;

use std::time::{Duration, Instant};

use anyhow::Result;
use bed::mesh::Mesh;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use self::filters::Filters;
use self::series::{Prometheus, QUERY};
use crate::api_server::{histogram, until_quiet, written};
use crate::http::{Samples, growth};
use crate::objects::{PODS_PER_SERVICE, Size, create_for_each, namespace_of, pod_name};
use crate::operator::{Operator, apply_crds, until_at_rest};
use crate::{figure, node, summarize, variable};

/// What all pods of a limiter let pass together.
const QUOTA: usize = 100;
/// Limiters of which a pod goes and comes again.
const EVENTS: usize = 100;
/// From one pod to the next, at least: so that all of them together take longer than it takes until all metrics are
/// asked for again, and some meet just that.
const PAUSE: Duration = Duration::from_millis(300);
const QUERIES: &str = "palisade_limiter_queries_total";
const WRITES: &str = "palisade_writes_total";

pub(crate) async fn run(mesh: &Mesh) -> Result<()> {
    let size = Size { services: variable("BENCH_LIMITERS", 1000)? };
    let (pods, series) = (size.services * PODS_PER_SERVICE, variable("BENCH_SERIES", 50_000)?);
    println!("operator alone: {} limiters, {pods} pods, at least {series} series", size.services);
    apply_crds(mesh).await?;
    let node = node::create(mesh).await?;
    size.create(mesh).await?;
    create_for_each(mesh, size.services, limiter).await?;
    let prometheus = Prometheus::start(mesh, size, series).await?;
    until_at_rest(mesh).await?;
    let operator = first_start(mesh, size, &prometheus).await?;
    rest(mesh, &operator, &prometheus).await?;
    events(mesh, size, &operator).await?;
    operator.print_memory("resident memory")?;
    operator.kill().await?;
    node.abort();
    Ok(())
}

/// The condition holds, however much the rate jitters, also with a pod less.
fn limiter(namespace: &str, name: &str) -> String {
    format!(
        "{{apiVersion: microservice.slime.io/v1alpha2, kind: SmartLimiter, \
         metadata: {{name: {name}, namespace: {namespace}}}, spec: {{sets: {{_base: {{descriptor: [\
         {{condition: '{{{{._base.load}}}} > 10', target: {{direction: inbound, port: 8080}}, \
         action: {{quota: '{QUOTA}', fill_interval: {{seconds: 1}}, strategy: average}}}}]}}}}}}}}"
    )
}

async fn first_start(mesh: &Mesh, size: Size, prometheus: &Prometheus) -> Result<Operator> {
    let config = mesh.bed().path().join("bench-limiters.json");
    let handlers = json!({"load": {"query": QUERY}});
    let metrics = json!({"url": prometheus.url(), "handlers": handlers});
    std::fs::write(&config, json!({"limiter": {"metrics": metrics}}).to_string())?;
    let (before, mut filters) = (mesh.writes().await?, Filters::watch(mesh).await?);
    let started = Instant::now();
    let operator = Operator::start(mesh, &["--config", &config.to_string_lossy()])?;
    filters.until_written(size.services, tokens(PODS_PER_SERVICE)).await?;
    figure("start → all EnvoyFilters written", started.elapsed());
    println!("{:<58} {:.2} s", "  processor time until then", operator.cpu()?);
    until_quiet(mesh, is_ours).await?;
    println!("{:<58} {:.2} s", "  processor time until nothing is left to do", operator.cpu()?);
    println!("{:<58} {:?}", "  writes", written(mesh, &before, is_ours).await?);
    println!("{:<58} {:?}", "  writes that the operator counts", operator.metric(WRITES).await?);
    println!("{:<58} {:?}", "  queries", operator.metric(QUERIES).await?);
    operator.print_memory("  resident memory")?;
    Ok(operator)
}

/// Nothing changes but what the metrics say, and that changes no limit.
async fn rest(mesh: &Mesh, operator: &Operator, prometheus: &Prometheus) -> Result<()> {
    let seconds = u32::try_from(variable("BENCH_IDLE", 300)?)?;
    let minutes = f64::from(seconds) / 60.0;
    let before = (mesh.writes().await?, operator.metric(QUERIES).await?, operator.metric(WRITES).await?);
    let (asked, cpu) = (prometheus.queries().await?, (operator.cpu()?, prometheus.cpu().await?));
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    println!("{seconds} seconds at rest");
    println!("{:<58} {:?}", "  writes", written(mesh, &before.0, is_ours).await?);
    println!(
        "{:<58} {:?}",
        "  writes that the operator counts",
        growth(&before.2, &operator.metric(WRITES).await?)
    );
    print_rates("  queries a minute", &before.1, &operator.metric(QUERIES).await?, minutes);
    print_rates("  queries a minute that Prometheus counts", &asked, &prometheus.queries().await?, minutes);
    for which in ["wanted", "answered"] {
        let metrics = operator.metric(&format!("palisade_limiter_metrics_{which}")).await?;
        println!("{:<58} {}", format!("  metrics {which}"), metrics.values().sum::<f64>());
    }
    println!("{:<58} {:.2} s", "  processor time a minute", (operator.cpu()? - cpu.0) / minutes);
    let of_prometheus = (prometheus.cpu().await? - cpu.1) / minutes;
    println!("{:<58} {of_prometheus:.2} s", "  Prometheus's processor time a minute, scraping included");
    operator.print_memory("  resident memory")
}

fn print_rates(what: &str, before: &Samples, after: &Samples, minutes: f64) {
    for (labels, count) in growth(before, after) {
        println!("{what:<58} {:.0} {labels}", count / minutes);
    }
}

/// One pod after the other goes and comes again, each a while after the limits of the one before are written.
async fn events(mesh: &Mesh, size: Size, operator: &Operator) -> Result<()> {
    let (mut gone, mut came) = (Vec::new(), Vec::new());
    let (applied, cpu) = (applied(mesh).await?, operator.cpu()?);
    let mut filters = Filters::watch(mesh).await?;
    for service in 0..size.services.min(EVENTS) {
        let filter = format!("s{service}.{}.ratelimit", namespace_of(service));
        for (ready, pods) in [(false, PODS_PER_SERVICE - 1), (true, PODS_PER_SERVICE)] {
            let sent = Instant::now();
            set_ready(mesh, service, ready).await?;
            filters.until_has(&filter, tokens(pods)).await?;
            if ready { &mut came } else { &mut gone }.push(sent.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(PAUSE).await;
        }
    }
    let count = gone.len() + came.len();
    summarize("pod's status sent, no longer ready → EnvoyFilter seen", "ms", gone);
    summarize("pod's status sent, ready again → EnvoyFilter seen", "ms", came);
    print_shares(mesh, applied).await?;
    let of_one = (operator.cpu()? - cpu) * 1000.0 / f64::from(u32::try_from(count)?);
    println!("{:<58} {of_one:.1} ms", "  operator: processor time for one, metrics included");
    Ok(())
}

async fn set_ready(mesh: &Mesh, service: usize, ready: bool) -> Result<()> {
    let api = Api::<Pod>::namespaced(mesh.client().clone(), &namespace_of(service));
    let status = if ready { "True" } else { "False" };
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    // The first pod of a Service has its number.
    api.patch_status(&pod_name(service, service), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// How long the API server has taken to apply `EnvoyFilter`s, istiod's webhook included.
async fn applied(mesh: &Mesh) -> Result<(f64, f64)> {
    let labels = ["resource=\"envoyfilters\"", "verb=\"APPLY\""];
    histogram(mesh, "apiserver_request_duration_seconds", &labels).await
}

async fn print_shares(mesh: &Mesh, before: (f64, f64)) -> Result<()> {
    let (sum, count) = applied(mesh).await?;
    let (sum, count) = (sum - before.0, count - before.1);
    let what = "API server: applying an EnvoyFilter, webhook included";
    println!("  {what:<56} n={count:<5} mean {:.1} ms", sum * 1000.0 / count);
    Ok(())
}

/// The tokens of each pod's bucket.
fn tokens(pods: usize) -> u64 {
    u64::try_from(QUOTA / pods).unwrap_or_default()
}

fn is_ours(kind: &str) -> bool {
    kind.starts_with("smartlimiters") || kind.starts_with("envoyfilters")
}
