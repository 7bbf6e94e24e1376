//! End to end on the mesh: the end of a first call → the first call that goes straight.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::mesh::{Mesh, is_trimmed};
use bed::wait::until;
use serde_json::Value;

use crate::summarize;

const NS: &str = "bench-direct";
const HOSTS: usize = 30;
/// How often a call is made: the precision of the figure.
const INTERVAL: &str = "10ms";
/// A call that takes longer is worth a line.
const SLOW_MS: f64 = 500.0;
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn run(mesh: &Mesh) -> Result<()> {
    println!("on the mesh: a call every {INTERVAL} until it goes straight");
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../charts/palisade").canonicalize()?;
    let values = ["replicas=1", "globalProxy.replicas=1", "fence.drain=7s", "fence.openSettle=3s"];
    mesh.install(&chart, "palisade", "palisade-system", &values).await?;
    mesh.namespace(NS, true).await?;
    mesh.apply(&manifests()).await?;
    mesh.rollout(NS).await?;
    until_trimmed(mesh).await?;
    let mut figures = Vec::new();
    for number in 0..HOSTS {
        figures.push(until_direct(mesh, number).await?);
    }
    summarize("first call's end → first direct call", "ms", figures);
    Ok(())
}

async fn until_trimmed(mesh: &Mesh) -> Result<()> {
    until("the fence is in force", LIMIT, async || {
        let text = mesh.kubectl(&["get", "sidecars", "client", "--namespace", NS, "--output=json"]).await?;
        let sidecar: Value = serde_json::from_str(&text)?;
        ensure!(is_trimmed(&sidecar), "it drains yet");
        Ok(())
    })
    .await
}

/// Calls a host that was never called, again and again over new connections. The callee names the caller that
/// it sees: the global proxy on the detour, the caller itself when the call goes straight.
async fn until_direct(mesh: &Mesh, number: usize) -> Result<f64> {
    let url = format!("http://direct-{number}.{NS}:8080/");
    let options = ["--repeat", "400", "--interval", INTERVAL, "--new-connection"];
    let calls = mesh.calls(&format!("{NS}/client"), &[&url], &options).await?;
    let failed: Vec<_> = calls.iter().enumerate().filter(|(_, call)| !call.ok).collect();
    ensure!(failed.is_empty(), "{} calls to {url} failed, first {:?}", failed.len(), failed[0]);
    let straight =
        |identity: &Option<String>| identity.as_deref().is_some_and(|id| id.ends_with("/sa/client"));
    let first = calls.iter().position(|call| straight(&call.identity)).context("no call went straight")?;
    ensure!(first > 0, "the first call to {url} went straight");
    // An outlier is explained, not hidden.
    for (number, slow) in calls.iter().enumerate().filter(|(_, call)| call.elapsed_ms > SLOW_MS) {
        println!("  call {number} of {url} took {:.0} ms (answered by {:?})", slow.elapsed_ms, slow.pod);
    }
    // From the end of the first call to the beginning of the first that went straight.
    let pauses = 10.0 * f64::from(u32::try_from(first)?);
    Ok(pauses + calls[1..first].iter().map(|call| call.elapsed_ms).sum::<f64>())
}

/// A fenced client, one application, and a Service of it for each host that is called.
fn manifests() -> String {
    let service = |number: usize| {
        format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: direct-{number}, namespace: {NS}}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: 8080}}]}}
"
        )
    };
    let deployment = |name: &str, ports: &str| {
        format!(
            "---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {NS}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NS}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{serviceAccountName: {name}, containers: [{{name: {name}, image: bed-app, ports: [{ports}]}}]}}
"
        )
    };
    let fence = format!(
        "---
apiVersion: microservice.slime.io/v1alpha1
kind: ServiceFence
metadata: {{name: client, namespace: {NS}}}
spec: {{enable: true, workloadSelector: {{labels: {{app: client}}}}}}
"
    );
    let services: String = (0..HOSTS).map(service).collect();
    [services, deployment("client", ""), deployment("server", "{name: http, containerPort: 8080}"), fence]
        .concat()
}
