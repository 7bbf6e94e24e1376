//! Limits that come and go with what a real Prometheus counts, and stay as the user chose while there is none.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::{Load, PROMETHEUS_URL, Writes};
use bed::wait::until;

use crate::fixtures::{counted_client, server};
use crate::limited::{Limiter, admitted, limiter, tokens, until_limits, until_programmed};
use crate::world::{SOON, World};

const NS: &str = "limits-metrics";
const CALLER: &str = "limits-metrics/client";
const WEB: &str = "http://web:8080/";
/// What comes late must come within this time to be seen: a few passes.
const WATCHED: Duration = Duration::from_secs(5);

/// The rate of the caller's requests: as a whole, and of a subset's pods.
const VALUES: &str = r#"
limiter:
  metrics:
    handlers:
      rate:
        query: 'sum(rate(istio_requests_total{source_workload_namespace="$namespace", source_workload="client"}[5s])) or vector(0)'
      sent:
        query: 'sum(rate(envoy_cluster_upstream_rq_total{namespace="$namespace", pod=~"$pod_name"}[5s])) or vector(0)'
        type: Value
"#;

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = with_metrics(world).await;
    world.install().await?;
    done
}

async fn with_metrics(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [server(NS, "web", &[("http", 8080)]), counted_client(NS, "client")];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    let url = format!("limiter.metrics.url={PROMETHEUS_URL}");
    let metrics = ["interval=1s", "maxAge=5s", "minInterval=1s"].map(|it| format!("limiter.metrics.{it}"));
    let values: Vec<_> =
        [&*url, "prometheus.timeout=2s"].into_iter().chain(metrics.iter().map(String::as_str)).collect();
    world.install_from(VALUES, &values).await?;
    limiters(world).await?;
    nobody_answers(world).await.context("before Prometheus is there")?;
    world.mesh.start_prometheus().await?;
    until_tokens(world, &[100_000]).await.context("at rest")?;
    world.until_limiter_said(NS, "web", "Ready", ("True", "Idle")).await?;
    for round in 1..=2 {
        comes_and_goes(world).await.with_context(|| format!("load {round}"))?;
    }
    gone(world).await.context("Prometheus goes")
}

/// Limits by a metric for each choice of what becomes of them without, one without a metric, and one for requests that are sent.
async fn limiters(world: &World) -> Result<()> {
    let of = |name: &str, quota: u32, more: &str, direction: &str, less: &str| {
        format!(
            "{{condition: '{{{{.{name}}}}} > 5', {less} target: {{direction: {direction}, port: 8080}}, \
             action: {{quota: '{quota}', fill_interval: {{seconds: 600}}, strategy: single, {more}}}}}"
        )
    };
    let inbound = [
        of("rate", 30, "", "inbound", ""),
        of("rate", 40, "fallbackQuota: '20'", "inbound", "onMissingMetrics: Limit,"),
        of("rate", 50, "", "inbound", "onMissingMetrics: DoNotLimit,"),
    ];
    limiter(world, NS, "web", &Limiter::of(&inbound)).await?;
    let plain = [of("rate", 100_000, "", "inbound", "").replace("{{.rate}} > 5", "true")];
    limiter(world, NS, "plain", &Limiter { selector: "app: web", ..Limiter::of(&plain) }).await?;
    // It must not bite: what the caller's proxy refuses is in no rate.
    let sent = [of("_base.sent", 100_000, "", "outbound", "")];
    limiter(world, NS, "client", &Limiter { selector: "app: client", ..Limiter::of(&sent) }).await
}

/// What the buckets of the server hold: of the limiter `web`, and of `plain`.
async fn until_tokens(world: &World, expected: &[u64]) -> Result<()> {
    until_at(world, &format!("{NS}/web"), "virtualInbound", expected).await
}

async fn until_at(world: &World, pod: &str, listener: &str, expected: &[u64]) -> Result<()> {
    until(&format!("{pod} has {expected:?}"), SOON, async || {
        let mut found = tokens(world, pod, listener).await?;
        found.sort_unstable();
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
}

async fn missing(world: &World, limiter: &str) -> Result<()> {
    let message = world.until_limiter_said(NS, limiter, "Ready", ("False", "MetricsMissing")).await?;
    ensure!(message.contains("sets._base.descriptor[0]"), "{message}");
    Ok(())
}

/// Only what the fallback says is in force, and what needs no metric; and nothing is written again and again.
async fn nobody_answers(world: &World) -> Result<()> {
    missing(world, "web").await?;
    missing(world, "client").await?;
    world.until_limiter_said(NS, "plain", "Ready", ("True", "Limiting")).await?;
    until_tokens(world, &[20, 100_000]).await?;
    nothing_is_written(world).await
}

async fn load(world: &World) -> Result<Load> {
    world.mesh.load(CALLER, &[WEB], &["--rate=20", "--connections=2"]).await
}

async fn comes_and_goes(world: &World) -> Result<()> {
    // With the last limit of a limiter its filter goes, and connections that were open have it until they are drained.
    until_limits(world, &format!("{NS}/web"), "virtualInbound", &[1]).await?;
    let passed = admitted(world, CALLER, WEB, &[], 10).await?;
    ensure!(passed == 10, "without a limit, {passed} of 10 requests pass");
    let load = load(world).await?;
    until_tokens(world, &[30, 40, 50, 100_000]).await?;
    until_at(world, CALLER, "0.0.0.0_8080", &[100_000]).await?;
    world.until_limiter_said(NS, "web", "Ready", ("True", "Limiting")).await?;
    until_refused(world).await?;
    // The rate is never the same; what it means is.
    nothing_is_written(world).await?;
    load.end().await?;
    until_tokens(world, &[100_000]).await?;
    world.until_limiter_said(NS, "client", "Ready", ("True", "Idle")).await.map(drop)
}

async fn until_refused(world: &World) -> Result<()> {
    until("no request passes", SOON, async || {
        let passed = admitted(world, CALLER, WEB, &[], 5).await?;
        ensure!(passed == 0, "{passed} of 5 requests pass");
        Ok(())
    })
    .await
}

/// While it is gone, limits are as their users chose, also after a restart of the operator.
async fn gone(world: &World) -> Result<()> {
    let load = load(world).await?;
    until_tokens(world, &[30, 40, 50, 100_000]).await?;
    world.mesh.stop_prometheus().await?;
    missing(world, "web").await?;
    until_tokens(world, &[20, 30, 100_000]).await?;
    until_at(world, CALLER, "0.0.0.0_8080", &[100_000]).await?;
    load.end().await?;
    nothing_is_written(world).await?;
    let before = world.mesh.writes().await?;
    world.scale_operator(0).await?;
    world.scale_operator(1).await?;
    until("the new operator has asked in vain", SOON, async || {
        let unreachable = ["source=\"prometheus\"", "result=\"unreachable\""];
        let timeout = ["source=\"prometheus\"", "result=\"timeout\""];
        let count = "palisade_limiter_queries_total";
        let failed = world.mesh.metric(Component::Palisade, count, &unreachable).await?
            + world.mesh.metric(Component::Palisade, count, &timeout).await?;
        ensure!(failed >= 2.0, "{failed} queries have failed");
        Ok(())
    })
    .await?;
    tokio::time::sleep(WATCHED).await;
    ensure_nothing_written(world, &before).await?;
    until_tokens(world, &[20, 30, 100_000]).await
}

async fn nothing_is_written(world: &World) -> Result<()> {
    until_programmed(world, NS).await?;
    let before = world.mesh.writes().await?;
    tokio::time::sleep(WATCHED).await;
    ensure_nothing_written(world, &before).await
}

async fn ensure_nothing_written(world: &World, before: &Writes) -> Result<()> {
    let mut written = world.mesh.writes().await?.since(before);
    written.retain(|kind, _| kind.starts_with("envoyfilters") || kind.starts_with("smartlimiters"));
    ensure!(written.is_empty(), "written although nothing has changed: {written:?}");
    Ok(())
}
