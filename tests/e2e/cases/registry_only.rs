//! What the mesh, or a namespace's default Sidecar, lets nobody reach (`REGISTRY_ONLY`), a fenced workload does not
//! reach over the global proxy.

use anyhow::{Context as _, Result, ensure};
use bed::mesh::Call;
use bed::wait::until;
use serde_json::{Value, json};

use crate::fixtures::{client, server};
use crate::world::{SOON, World};

const NS: &str = "registry-only";
/// Outside of the mesh: its pod has no sidecar, and no Service stands for it.
const OUTSIDE: &str = "registry-only-outside";
const FENCED: &str = "registry-only/client";
const PLAIN: &str = "registry-only/plain";
const WEB: &str = "http://web:8080/";
const FENCE: &str = "{enable: true, workloadSelector: {labels: {app: client}}}";

const DEFAULT: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: registry-only}
spec: {egress: [{hosts: [./*]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
";

/// The case. The mesh's configuration is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let unknown = set_up(world).await?;
    let before = world.mesh_config().await?;
    let done = in_the_mesh(world, &before, &unknown).await.context("the mesh refuses");
    world.set_mesh_config(&before).await?;
    done?;
    until_reached(world, PLAIN, &unknown).await?;
    until_reached(world, FENCED, &unknown).await?;
    in_a_namespace(world, &unknown).await.context("the namespace's default refuses")
}

/// An address that the mesh does not know, on a port that it knows and on one that it does not.
async fn set_up(world: &World) -> Result<[String; 2]> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OUTSIDE, false).await?;
    let external = server(OUTSIDE, "external", &[("http", 8080), ("tcp", 8099)]);
    let manifests =
        [server(NS, "web", &[("http", 8080)]), client(NS, "client"), client(NS, "plain"), external];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.kubectl(&["delete", "service", "external", "--namespace", OUTSIDE]).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OUTSIDE).await?;
    let address = world.mesh.address(&format!("{OUTSIDE}/external")).await?;
    let unknown = [8080, 8099].map(|port| format!("http://{address}:{port}/"));
    until_reached(world, PLAIN, &unknown).await?;
    Ok(unknown)
}

async fn in_the_mesh(world: &World, before: &str, unknown: &[String; 2]) -> Result<()> {
    let mut config: Value = serde_saphyr::from_str(before).context("the mesh configuration is no YAML")?;
    config["outboundTrafficPolicy"] = json!({ "mode": "REGISTRY_ONLY" });
    world.set_mesh_config(&config.to_string()).await?;
    until_refused(world, PLAIN, unknown).await?;
    world.fence(NS, "client", FENCE).await?;
    until_refused(world, FENCED, unknown).await?;
    same_outcome(world, unknown).await.context("before anything is learned")?;
    let (call, detour) = world.watched_call(FENCED, WEB).await?;
    ensure!(detour && call.name.as_deref() == Some("web"), "detour {detour}, {call:?}");
    let web = format!("{NS}/web.{NS}.svc.cluster.local");
    world.until_routed(NS, "client", &[&web]).await?;
    world.until_direct(FENCED, WEB).await?;
    same_outcome(world, unknown).await.context("beside a host that is known on the same port")?;
    let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
    ensure!(domains.as_object().is_some_and(|all| all.len() == 1), "it learned by trying: {domains}");
    Ok(())
}

async fn in_a_namespace(world: &World, unknown: &[String; 2]) -> Result<()> {
    world.mesh.apply(DEFAULT).await?;
    world.until_said(NS, "client", "Conflict", ("True", "RegistryOnly")).await?;
    world.until_gone(NS, "client").await?;
    until_refused(world, FENCED, unknown).await?;
    same_outcome(world, unknown).await?;
    world.mesh.call(FENCED, WEB).await?;
    world.mesh.kubectl(&["delete", "sidecars.networking.istio.io", "default", "--namespace", NS]).await?;
    world.until_said(NS, "client", "Conflict", ("False", "AsExpected")).await?;
    world.until_trimmed(NS, "client").await?;
    until_reached(world, FENCED, unknown).await
}

/// Whoever is fenced is refused as whoever is not.
async fn same_outcome(world: &World, unknown: &[String; 2]) -> Result<()> {
    let plain = calls(world, PLAIN, unknown).await?;
    let fenced = calls(world, FENCED, unknown).await?;
    for (plain, fenced) in plain.iter().zip(&fenced) {
        let same = plain.ok == fenced.ok && plain.status == fenced.status;
        ensure!(same && !fenced.ok, "without a fence: {plain:?}; with one: {fenced:?}");
    }
    Ok(())
}

async fn until_refused(world: &World, pod: &str, unknown: &[String; 2]) -> Result<()> {
    until(&format!("{pod} is refused what the mesh does not know"), SOON, async || {
        let calls = calls(world, pod, unknown).await?;
        ensure!(calls.iter().all(|call| !call.ok), "{calls:?}");
        Ok(())
    })
    .await
}

async fn until_reached(world: &World, pod: &str, unknown: &[String; 2]) -> Result<()> {
    until(&format!("{pod} reaches what the mesh does not know"), SOON, async || {
        let calls = calls(world, pod, unknown).await?;
        ensure!(calls.iter().all(|call| call.name.as_deref() == Some("external")), "{calls:?}");
        Ok(())
    })
    .await
}

async fn calls(world: &World, pod: &str, urls: &[String; 2]) -> Result<Vec<Call>> {
    world.mesh.calls(pod, &[&urls[0], &urls[1]], &[]).await
}
