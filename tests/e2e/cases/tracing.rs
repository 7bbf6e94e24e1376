//! A mesh whose tracing goes to a service: no Envoy rejects what istiod sends, and a fenced workload's spans arrive.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use serde_json::{Value, json};

use crate::fixtures::{client, server};
use crate::limits::nothing_was_rejected;
use crate::world::{PALISADE, SOON, World};

const NS: &str = "tracing";
const SPANS: &str = "spans.tracing.svc.cluster.local";

const TELEMETRY: &str = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: bed-tracing, namespace: istio-system}
spec: {tracing: [{providers: [{name: bed-spans}], randomSamplingPercentage: 100}]}
";

/// The case. The mesh's configuration is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let before = world.mesh_config().await?;
    let done = traced(world, &before).await;
    let telemetry = ["delete", "telemetry", "bed-tracing", "--namespace=istio-system", "--ignore-not-found"];
    world.mesh.kubectl(&telemetry).await?;
    world.set_mesh_config(&before).await?;
    done
}

async fn traced(world: &World, before: &str) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests =
        [server(NS, "spans", &[("http", 9411)]), server(NS, "web", &[("http", 8080)]), client(NS, "client")];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;

    let mut config: Value = serde_saphyr::from_str(before).context("the mesh configuration is no YAML")?;
    config["extensionProviders"] =
        json!([{ "name": "bed-spans", "zipkin": { "service": SPANS, "port": 9411 } }]);
    world.set_mesh_config(&config.to_string()).await?;
    world.until_routed(NS, "client", &[&format!("{NS}/{SPANS}")]).await?;
    let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
    ensure!(domains[SPANS]["sources"] == json!(["MeshConfig"]), "{domains}");
    world.mesh.apply(TELEMETRY).await?;

    until("spans are sent", SOON, async || {
        world.mesh.call(&pod(), "http://web:8080/").await?;
        let clusters = world.mesh.envoy(&pod(), "/clusters").await?;
        let of_spans = clusters.lines().filter(|line| line.starts_with(&format!("outbound|9411||{SPANS}::")));
        let sent =
            of_spans.filter_map(|line| line.split_once("::rq_success::")?.1.parse::<u64>().ok()).sum::<u64>();
        ensure!(sent > 0, "none was");
        Ok(())
    })
    .await?;
    nothing_was_rejected(world, &[&pod(), &format!("{PALISADE}/global-proxy")]).await
}

fn pod() -> String {
    format!("{NS}/client")
}
