//! What proxies call by themselves is there for a fenced workload's: the service that tracing goes to, and one that an
//! `EnvoyFilter` asks whether calls may go out. No Envoy rejects what istiod sends.

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

/// Envoy asks a service of which the workload knows nothing, and refuses what it cannot ask about.
const ASKING: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: asking, namespace: tracing}
spec:
  workloadSelector: {labels: {app: client}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ext_authz
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
          transport_api_version: V3
          http_service: {server_uri: {uri: 'http://authz', cluster: outbound|8080||authz.tracing.svc.cluster.local, timeout: 5s}}
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
    let manifests = [
        server(NS, "spans", &[("http", 9411)]),
        server(NS, "web", &[("http", 8080)]),
        server(NS, "authz", &[("http", 8080)]),
        client(NS, "client"),
    ];
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

    until_called(world, &format!("outbound|9411||{SPANS}")).await.context("spans")?;

    let host = |name: &str| format!("{NS}/{name}.{NS}.svc.cluster.local");
    world.until_routed(NS, "client", &[&host("spans"), &host("web")]).await?;
    world.mesh.apply(ASKING).await?;
    world.until_routed(NS, "client", &[&host("authz"), &host("spans"), &host("web")]).await?;
    let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
    let sources = &domains[format!("authz.{NS}.svc.cluster.local")]["sources"];
    ensure!(*sources == json!(["EnvoyFilter"]), "{domains}");
    until_called(world, &format!("outbound|8080||authz.{NS}.svc.cluster.local"))
        .await
        .context("the question")?;
    world.mesh.call(&pod(), "http://web:8080/").await?;
    nothing_was_rejected(world, &[&pod(), &format!("{PALISADE}/global-proxy")]).await
}

/// Waits until the client's proxy has called a service that the client knows nothing of, for the sake of a call to another.
async fn until_called(world: &World, cluster: &str) -> Result<()> {
    until(&format!("{cluster} is called"), SOON, async || {
        world.mesh.call(&pod(), "http://web:8080/").await?;
        let clusters = world.mesh.envoy(&pod(), "/clusters").await?;
        let lines = clusters.lines().filter(|line| line.starts_with(&format!("{cluster}::")));
        let counts = lines.filter_map(|line| line.split_once("::rq_success::")?.1.parse::<u64>().ok());
        ensure!(counts.sum::<u64>() > 0, "it was not");
        Ok(())
    })
    .await
}

fn pod() -> String {
    format!("{NS}/client")
}
