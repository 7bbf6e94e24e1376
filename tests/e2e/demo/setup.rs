//! What runs in the mesh before the story begins.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::inspect;
use bed::mesh::Mesh;
use bed::wait::until;
use futures::future::try_join_all;

use crate::crowd;

/// Bookinfo's namespace.
pub const BOOKINFO: &str = "bookinfo";
/// Where the chart is installed.
pub const PALISADE: &str = "palisade-system";
/// The pod that reads the product page. It has no fence.
pub const CLIENT: &str = "visitors/client";
/// Bookinfo's pods, by their Deployments.
pub const WORKLOADS: [&str; 6] =
    ["productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1"];

/// The longest that a step may take until the demo gives up.
pub const SOON: Duration = Duration::from_secs(90);

/// How many lines of a log are shown.
const LOG_LINES: usize = 5;

const BASE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: visitors}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: visitors}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      serviceAccountName: client
      containers: [{name: client, image: client}]
";

/// A pod of Bookinfo as the bed names it.
pub fn pod(workload: &str) -> String {
    format!("{BOOKINFO}/{workload}")
}

/// Starts Bookinfo from Istio's own manifests, and a client in a namespace beside it.
pub async fn bookinfo(mesh: &Mesh, istio: &Path) -> Result<()> {
    mesh.namespace(BOOKINFO, true).await?;
    mesh.namespace("visitors", true).await?;
    let manifest = istio.join("samples/bookinfo/platform/kube/bookinfo.yaml");
    let manifest = manifest.to_str().context("the manifest's path is no text")?;
    mesh.kubectl(&["apply", "--namespace", BOOKINFO, "--filename", manifest]).await?;
    mesh.apply(BASE).await?;
    mesh.rollout(BOOKINFO).await?;
    mesh.rollout("visitors").await
}

/// Installs the chart. The bed's proxies drain for 5 s, so fences wait for 7.
pub async fn palisade(mesh: &Mesh) -> Result<()> {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../charts/palisade").canonicalize()?;
    mesh.install(&chart, "palisade", PALISADE, &["replicas=1", "globalProxy.replicas=1", "fence.drain=7s"])
        .await
}

/// Waits until all these pods' Envoys have clusters of the services of these numbers.
pub async fn until_told(mesh: &Mesh, pods: &[String], services: Range<usize>) -> Result<()> {
    let hosts: BTreeSet<String> = services.map(crowd::host).collect();
    let told = pods.iter().map(|pod| until_has(mesh, pod, &hosts));
    try_join_all(told).await.map(drop)
}

async fn until_has(mesh: &Mesh, pod: &str, hosts: &BTreeSet<String>) -> Result<()> {
    until(&format!("{pod} is told of all services"), SOON, async || {
        let missing = hosts - &mesh.outbound_hosts(pod).await?;
        ensure!(missing.is_empty(), "{} services are missing", missing.len());
        Ok(())
    })
    .await
}

/// The pods that are not ready, each with the end of its log: what a failure is most often about.
pub async fn unready(mesh: &Mesh) -> Result<String> {
    let columns =
        "NS:.metadata.namespace,NAME:.metadata.name,READY:.status.conditions[?(@.type==\"Ready\")].status";
    let columns = format!("--output=custom-columns={columns}");
    let pods = mesh.kubectl(&["get", "pods", "--all-namespaces", "--no-headers", &columns]).await?;
    let mut found = Vec::new();
    for line in pods.lines() {
        let [namespace, name, ready] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        if ready != "True" {
            let log =
                inspect::logs(mesh.bed(), &format!("{namespace}/{name}"), None).await.unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            found.push(format!("{namespace}/{name} is not ready:\n{end}"));
        }
    }
    Ok(found.join("\n"))
}

/// All sidecars that the demo looks at: Bookinfo's and the client's.
pub fn sidecars() -> Vec<String> {
    WORKLOADS.iter().map(|workload| pod(workload)).chain([CLIENT.to_owned()]).collect()
}
