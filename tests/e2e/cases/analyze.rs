//! `istioctl analyze` has nothing to say of what the chart and the operator wrote, but for what it says of every object
//! of that kind.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fixtures::{client, server};
use crate::world::{PALISADE, World};

const NS: &str = "analyze";
/// What cannot be helped, by code and words: it calls every `egressProxy` deprecated and ignored, though istiod heeds
/// it (which the other cases show), and it warns of every `EnvoyFilter` that there is.
const KNOWN: [(&str, &str); 2] = [
    ("IST0002", "OutboundTrafficPolicy.EgressProxy"),
    ("IST0133", "EnvoyFilter exposes internal implementation details"),
];

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
        KNOWN.iter().any(|(code, words)| message["code"] == *code && text.contains(words))
    };
    ensure!(ours.iter().all(|message| known(message)), "{ours:#?}");
    eprintln!("analyze: {} messages, {} about our objects: {ours:?}", found.len(), ours.len());
    Ok(())
}

/// Whether a message is about an object of the release (its namespace is none: who installs it makes that), or a
/// Sidecar of a fence.
fn is_ours(message: &Value) -> bool {
    let origin = message["origin"].as_str().unwrap_or_default();
    origin.contains(&format!(" {PALISADE}/")) || origin.starts_with(&format!("Sidecar {NS}/"))
}
