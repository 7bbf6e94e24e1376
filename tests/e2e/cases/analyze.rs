//! `istioctl analyze` has nothing to say of what the chart and the operator wrote.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use serde_json::Value;

use crate::fixtures::{client, server};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "analyze";
/// A namespace outside of the mesh, with a host that nobody defines.
const OUTSIDE: &str = "analyze-outside";
const API: &str = "api.analyze.example";
/// Everything that Palisade writes that `istioctl analyze` looks at.
const WRITTEN: &str =
    "sidecars.networking.istio.io,serviceentries.networking.istio.io,envoyfilters.networking.istio.io";

const LIMITER: &str = "
apiVersion: microservice.slime.io/v1alpha2
kind: SmartLimiter
metadata: {name: web, namespace: analyze}
spec:
  sets: {_base: {descriptor: [{action: {fill_interval: {seconds: 1}, quota: '100', strategy: single}, condition: 'true', target: {direction: inbound, port: 8080}}]}}
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let outside = set_up(world).await?;
    world
        .install_with(&[
            "external.serviceEntries=true",
            "external.ports={8443}",
            "limiter.global.enabled=true",
        ])
        .await?;
    world.mesh.rollout(PALISADE).await?;
    for name in ["client", "other"] {
        let spec = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
        world.apply_fence(NS, name, &spec).await?;
    }
    nothing_is_found(world).await.context("on the way")?;
    world.until_trimmed(NS, "client").await?;
    world.mesh.apply(LIMITER).await?;
    world.until_direct(&format!("{NS}/client"), "http://web:8080/").await?;
    let (caller, url) = (format!("{NS}/client"), format!("https://{outside}:8443/"));
    until("everything that is written is there", SOON, async || {
        world.mesh.calls(&caller, &[&url], &["--host", API]).await?;
        let written = written(world).await?;
        for kind in ["Sidecar", "ServiceEntry", "EnvoyFilter"] {
            ensure!(
                written.iter().any(|object| object.starts_with(&format!("{kind} {NS}/"))),
                "no {kind}: {written:?}"
            );
        }
        Ok(())
    })
    .await?;
    world.until_trimmed(NS, "client").await?;
    nothing_is_found(world).await?;
    world.install().await
}

/// Gives the address of the server outside.
async fn set_up(world: &World) -> Result<String> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OUTSIDE, false).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]),
        client(NS, "client"),
        client(NS, "other"),
        server(OUTSIDE, "world", &[("https", 8443)]),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.kubectl(&["delete", "service", "world", "--namespace", OUTSIDE]).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OUTSIDE).await?;
    world.mesh.address(&format!("{OUTSIDE}/world")).await
}

/// What the operator wrote, and what the chart did beside it (`<kind> <namespace>/<name>`).
async fn written(world: &World) -> Result<Vec<String>> {
    let line =
        ["get", WRITTEN, "--all-namespaces", "--selector=app.kubernetes.io/managed-by", "--output=json"];
    let all: Value = serde_json::from_str(&world.mesh.kubectl(&line).await?)?;
    let name = |object: &Value| {
        let (kind, metadata) = (object["kind"].as_str()?, &object["metadata"]);
        Some(format!("{kind} {}/{}", metadata["namespace"].as_str()?, metadata["name"].as_str()?))
    };
    Ok(all["items"].as_array().into_iter().flatten().filter_map(name).collect())
}

async fn nothing_is_found(world: &World) -> Result<()> {
    let text = world.mesh.run("istioctl", &["analyze", "--all-namespaces", "--output=json"]).await?;
    let found: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let written = written(world).await?;
    let is_ours = |message: &&Value| {
        let origin = message["origin"].as_str().unwrap_or_default();
        // Of the release's namespace too, but for the namespace itself: who installs it makes that.
        origin.contains(&format!(" {PALISADE}/")) || written.iter().any(|object| origin == object)
    };
    let ours: Vec<_> = found.iter().filter(is_ours).collect();
    ensure!(ours.is_empty(), "{ours:#?}");
    // It does look: of somebody it always has something to say.
    eprintln!("analyze: {} messages, none about {} objects", found.len(), written.len());
    Ok(())
}
