//! A workload whose own proxy streams its access log is observed without one call over the global proxy, and goes on
//! being seen when it is fenced.

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::wait::until;
use serde_json::{Value, json};

use crate::fixtures::{client, server};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "sidecar-logs";
const CALLER: &str = "sidecar-logs/client";
const WEB: &str = "web.sidecar-logs.svc.cluster.local";
const CACHE: &str = "cache.sidecar-logs.svc.cluster.local";

const TELEMETRY: &str = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: palisade, namespace: sidecar-logs}
spec: {accessLogging: [{match: {mode: CLIENT}, providers: [{name: palisade}]}]}
";

/// The case. The mesh's configuration and the installation are as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let before = world.mesh_config().await?;
    let done = observed(world, &before).await;
    world.set_mesh_config(&before).await?;
    world.install().await?;
    done
}

async fn observed(world: &World, before: &str) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]),
        server(NS, "cache", &[("tcp", 6379)]),
        client(NS, "client"),
        TELEMETRY.to_owned(),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.install_with(&["accessLog.sidecars=true"]).await?;
    let service = format!("palisade.{PALISADE}.svc.cluster.local");
    let als = json!({ "service": service, "port": 18091, "additionalResponseHeadersToLog": ["grpc-status"] });
    let mut config: Value = serde_saphyr::from_str(before).context("the mesh configuration is no YAML")?;
    config["extensionProviders"] = json!([{ "name": "palisade", "envoyHttpAls": als }]);
    world.set_mesh_config(&config.to_string()).await?;
    world.mesh.rollout(NS).await?;
    let detours = world.detours().await?;
    world.apply_fence(NS, "client", &fence("Observe")).await?;

    until("the calls of a fence that observes are learned", SOON, async || {
        world.mesh.call(CALLER, "http://web:8080/").await?;
        world.mesh.call(CALLER, "tcp://cache:6379").await?;
        let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
        for host in [WEB, CACHE] {
            ensure!(domains[host]["sources"] == json!(["AccessLog"]), "{domains}");
        }
        Ok(())
    })
    .await?;
    world.until_gone(NS, "client").await?;
    ensure!(world.detours().await? == detours, "something went over the global proxy");

    // What was observed is in the fence from the start, and what the proxy logs of it is no detour.
    world.fence(NS, "client", &fence("Enforce")).await?;
    let hosts = [format!("{PALISADE}/{service}"), format!("{NS}/{CACHE}"), format!("{NS}/{WEB}")];
    world.until_routed(NS, "client", &hosts.each_ref().map(String::as_str)).await?;
    let known = logged(world).await?;
    // Envoy loses what it has not sent yet when the stream of its log breaks, as it may when it gets a new configuration.
    until("direct calls are logged", SOON, async || {
        world.mesh.calls(CALLER, &["http://web:8080/"], &["--repeat", "20"]).await?;
        let now = logged(world).await?;
        ensure!(now >= known + 20.0, "{known}, then {now}");
        Ok(())
    })
    .await?;
    ensure!(world.detours().await? == detours, "something went over the global proxy");
    let counted = world
        .mesh
        .metric(Component::Palisade, "palisade_detours_total", &[&quoted("fence", "client"), NS])
        .await?;
    ensure!(counted == 0.0, "{counted} direct calls count as detours");
    Ok(())
}

fn fence(mode: &str) -> String {
    format!("{{enable: true, mode: {mode}, workloadSelector: {{labels: {{app: client}}}}}}")
}

/// How many entries said nothing new.
async fn logged(world: &World) -> Result<f64> {
    world
        .mesh
        .metric(Component::Palisade, "palisade_access_log_entries_total", &[&quoted("outcome", "known")])
        .await
}

fn quoted(label: &str, value: &str) -> String {
    format!("{label}=\"{value}\"")
}
