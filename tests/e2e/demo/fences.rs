//! The fences: put up, in force, and what they have learned.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bed::mesh::{Mesh, is_trimmed};
use bed::wait::until;
use futures::future::try_join_all;
use serde_json::Value;

use crate::envoy;
use crate::pages::Hop;
use crate::setup::{BOOKINFO, SOON, WORKLOADS, pod};

/// The Services whose pods are fenced.
pub const FENCES: [&str; 4] = ["productpage", "details", "reviews", "ratings"];

/// The manifests.
pub fn manifests() -> String {
    let one = |name: &&str| {
        format!(
            "apiVersion: microservice.slime.io/v1alpha1\nkind: ServiceFence\n\
             metadata: {{name: {name}, namespace: {BOOKINFO}}}\nspec: {{enable: true}}\n"
        )
    };
    FENCES.iter().map(one).collect::<Vec<_>>().join("---\n")
}

/// Waits until all fences are ready and their Sidecars have nothing left to drain.
pub async fn until_in_force(mesh: &Mesh) -> Result<()> {
    try_join_all(FENCES.map(|name| until_trimmed(mesh, name))).await.map(drop)
}

async fn until_trimmed(mesh: &Mesh, name: &str) -> Result<()> {
    until(&format!("the fence {name} is in force"), SOON, async || {
        let fence = get(mesh, "servicefences", name).await?;
        let conditions = fence["status"]["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        ensure!(ready.is_some_and(|ready| ready["status"] == "True"), "{}", fence["status"]);
        let sidecar = get(mesh, "sidecars.networking.istio.io", name).await?;
        ensure!(is_trimmed(&sidecar), "{}", sidecar["spec"]["egress"]);
        Ok(())
    })
    .await
}

/// Waits until the caller's fence has the callee, and all the caller's Envoys have a route to it.
pub async fn until_learned(mesh: &Mesh, hop: &Hop) -> Result<()> {
    let host = format!("{}.{BOOKINFO}.svc.cluster.local", hop.callee);
    let pods =
        WORKLOADS.iter().filter(|workload| workload.starts_with(&hop.caller)).map(|workload| pod(workload));
    let told = pods.map(|pod| {
        let host = host.clone();
        async move {
            until(&format!("{pod} has a route to {host}"), SOON, async || {
                ensure!(envoy::routed(mesh, &pod).await?.contains(&host), "it has none");
                Ok(())
            })
            .await
        }
    });
    try_join_all(told).await?;
    until_trimmed(mesh, &hop.caller).await
}

/// What the fences have learned: caller, host, who said so, and when it was seen first.
pub async fn learned(mesh: &Mesh) -> Result<Vec<[String; 4]>> {
    let mut rows = Vec::new();
    for name in FENCES {
        let fence = get(mesh, "servicefences", name).await?;
        let domains: BTreeMap<String, Value> = serde_json::from_value(
            fence["status"]
                .get("domains")
                .cloned()
                .unwrap_or_else(|| Value::Object(serde_json::Map::default())),
        )?;
        for (host, domain) in domains {
            let sources = domain["sources"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let seen = domain["firstSeen"].as_str().unwrap_or("-").to_owned();
            rows.push([name.to_owned(), host, sources.collect::<Vec<_>>().join(", "), seen]);
        }
    }
    Ok(rows)
}

async fn get(mesh: &Mesh, kind: &str, name: &str) -> Result<Value> {
    let text = mesh.kubectl(&["get", kind, name, "--namespace", BOOKINFO, "--output=json"]).await?;
    serde_json::from_str(&text).context("kubectl's answer")
}
