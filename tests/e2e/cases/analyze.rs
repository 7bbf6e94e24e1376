//! `istioctl analyze` has nothing to say of what the chart and the operator wrote.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fixtures::{client, server};
use crate::world::{PALISADE, World};

const NS: &str = "analyze";
/// It says of a field that it is hidden in the API's documentation ("deprecated"), though istiod honours it: the
/// Sidecar's `egressProxy`, which is how calls to unknown hosts come to the global proxy.
const DEPRECATED: &str = "IST0002";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [server(NS, "web", &[("http", 8080)]), client(NS, "client"), client(NS, "other")];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    for name in ["client", "other"] {
        let spec = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
        world.fence(NS, name, &spec).await?;
    }
    world.until_direct(&format!("{NS}/client"), "http://web:8080/").await?;
    world.until_trimmed(NS, "client").await?;
    let text = world.mesh.run("istioctl", &["analyze", "--all-namespaces", "--output=json"]).await?;
    let found: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let ours: Vec<_> = found.iter().filter(|message| is_ours(message)).collect();
    let known = |message: &Value| {
        let text = message["message"].as_str().unwrap_or_default();
        message["code"] == DEPRECATED && text.contains("egress_proxy")
    };
    ensure!(ours.iter().all(|message| known(message)), "{ours:#?}");
    eprintln!("analyze: {} messages, {} about our objects: {ours:?}", found.len(), ours.len());
    Ok(())
}

/// Whether a message is about an object of the release, or a Sidecar of a fence.
fn is_ours(message: &Value) -> bool {
    let origin = message["origin"].as_str().unwrap_or_default();
    origin.contains(PALISADE) || origin.starts_with(&format!("Sidecar {NS}/"))
}
