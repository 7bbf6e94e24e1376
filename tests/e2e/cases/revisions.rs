//! Two istiods and a tag, as while a mesh is upgraded: what a fence is for is in force at the istiod that its pods have, and
//! a fence that is for a tag stays in force when the tag moves.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::protocols::first_and_later;
use crate::world::{SOON, World};

const NS: &str = "revisions";
const CANARY: &str = "canary";
const TAG: &str = "prod";
const CALLER: &str = "revisions/client";

/// The case. There is one istiod and no tag when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = upgraded(world).await;
    // Pods that the other istiod injected go before it.
    world.tidy().await?;
    let tags = world.mesh.run("istioctl", &["tag", "list", "--output=json"]).await?;
    if tags.contains(TAG) {
        world.mesh.run("istioctl", &["tag", "remove", TAG, "--skip-confirmation"]).await?;
    }
    world.mesh.uninstall_istiod(CANARY).await?;
    done
}

async fn upgraded(world: &World) -> Result<()> {
    world.mesh.install_istiod(CANARY).await?;
    world.mesh.run("istioctl", &["tag", "set", TAG, "--revision", CANARY]).await?;
    world.mesh.namespace(NS, false).await?;
    world.mesh.kubectl(&["label", "namespace", NS, &format!("istio.io/rev={TAG}")]).await?;
    let servers = ["web", "api"].map(|name| server(NS, name, &[("http", 8080)]));
    world.mesh.apply(&[&servers[..], &[client(NS, "client")]].concat().join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    until_of_revision(world, CANARY).await?;

    for_the_tag(world).await.context("a fence that is for the tag")?;
    for_the_revision(world).await.context("a fence that is for the revision")?;
    for_another(world).await.context("a fence that is for another revision")?;
    moved(world).await.context("the tag moves")
}

/// No istiod would read a Sidecar that is labelled with a tag.
async fn for_the_tag(world: &World) -> Result<()> {
    let fence = format!(
        "{{apiVersion: microservice.slime.io/v1alpha1, kind: ServiceFence, metadata: {{name: client, namespace: {NS}, \
         labels: {{istio.io/rev: {TAG}}}}}, spec: {{enable: true, workloadSelector: {{labels: {{app: client}}}}}}}}"
    );
    world.mesh.apply(&fence).await?;
    world.until_trimmed(NS, "client").await?;
    first_and_later(world, NS, "web", "http://web:8080/").await?;
    until_in_force(world, None, &["web"]).await
}

async fn for_the_revision(world: &World) -> Result<()> {
    label(world, &format!("istio.io/rev={CANARY}")).await?;
    until_in_force(world, Some(CANARY), &["web"]).await?;
    first_and_later(world, NS, "api", "http://api:8080/").await?;
    until_in_force(world, Some(CANARY), &["api", "web"]).await
}

async fn for_another(world: &World) -> Result<()> {
    label(world, "istio.io/rev=default").await?;
    world.until_said(NS, "client", "Ready", ("False", "OtherRevision")).await?;
    world.until_said(NS, "client", "Enforced", ("False", "OtherRevision")).await?;
    ensure!(world.mesh.outbound_clusters(CALLER).await?.len() > 3, "its istiod reads the Sidecar");
    label(world, &format!("istio.io/rev={TAG}")).await?;
    until_in_force(world, None, &["api", "web"]).await
}

/// The pods go over to the other istiod with nothing written, and have what they use from their first call on.
async fn moved(world: &World) -> Result<()> {
    let before = world.sidecar(NS, "client").await?;
    world.mesh.run("istioctl", &["tag", "set", TAG, "--revision", "default", "--overwrite"]).await?;
    world.mesh.kubectl(&["rollout", "restart", "deployment", "--namespace", NS]).await?;
    until_of_revision(world, "default").await?;
    world.mesh.rollout(NS).await?;
    for url in ["http://web:8080/", "http://api:8080/"] {
        let (call, detour) = world.watched_call(CALLER, url).await?;
        ensure!(call.ok && !detour, "{url}: detour {detour}, {call:?}");
    }
    until_in_force(world, None, &["api", "web"]).await?;
    let after = world.sidecar(NS, "client").await?;
    let version = |sidecar: &serde_json::Value| sidecar["metadata"]["resourceVersion"].clone();
    ensure!(version(&after) == version(&before), "it was written: {before:#} {after:#}");
    Ok(())
}

/// Waits until all pods are of this revision, as Istio notes it in them.
async fn until_of_revision(world: &World, revision: &str) -> Result<()> {
    until(&format!("the pods are of {revision}"), SOON, async || {
        let path = "--output=jsonpath={.items[*].metadata.annotations.istio\\.io/rev}";
        let revisions = world.mesh.kubectl(&["get", "pods", "--namespace", NS, path]).await?;
        let of: Vec<_> = revisions.split_whitespace().collect();
        ensure!(of.len() == 3 && of.iter().all(|of| *of == revision), "{of:?}");
        Ok(())
    })
    .await
}

/// Waits until the Sidecar has this revision and routes to just these services, and the client's Envoy has the clusters of
/// them and of the global proxy alone.
async fn until_in_force(world: &World, revision: Option<&str>, services: &[&str]) -> Result<()> {
    until(&format!("the Sidecar is of {revision:?}"), SOON, async || {
        let sidecar = world.sidecar(NS, "client").await?;
        let label = &sidecar["metadata"]["labels"]["istio.io/rev"];
        ensure!(label.as_str() == revision, "{}", sidecar["metadata"]["labels"]);
        Ok(())
    })
    .await?;
    world.until_trimmed(NS, "client").await?;
    let hosts: Vec<_> = services.iter().map(|name| format!("{NS}/{name}.{NS}.svc.cluster.local")).collect();
    world.until_routed(NS, "client", &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    world.until_clusters(CALLER, services.len() + 1).await
}

async fn label(world: &World, label: &str) -> Result<()> {
    let line = ["label", "servicefence", "client", "--namespace", NS, "--overwrite", label];
    world.mesh.kubectl(&line).await.map(drop)
}
