//! Fences that nobody writes: by label, Namespace and default; observing, unless they are to enforce; gone with the Service or
//! the wish; and not back against a user's will.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "auto";
const CALLER: &str = "auto/s1";
const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
/// A fence for every Service, and nothing said of what it does.
const UNDECIDED: [&str; 3] =
    ["autoFence.enabled=true", "autoFence.default=true", "autoFence.namespaces.allow={auto}"];
const VALUES: [&str; 5] = [
    "autoFence.enabled=true",
    "autoFence.mode=Enforce",
    "autoFence.default=true",
    "autoFence.namespaces.allow={auto}",
    "autoFence.workloadLabel=run",
];

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let servers = SERVERS.map(|name| server(NS, name, &[("http", 8080)]));
    world.mesh.apply(&servers.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    observed(world).await.context("they observe by default")?;
    enforced(world).await.context("new ones enforce, if they are to")?;

    by_default(world).await.context("every Service gets a fence by default")?;
    by_label(world).await.context("labels decide: the Service's, then the Namespace's")?;
    without_a_service(world).await.context("pods without a Service get one by a label")?;
    deleted(world).await.context("a user deletes a fence")?;
    gone_meanwhile(world).await.context("a Service and a wish go while the operator is down")?;
    world.install().await.context("switching it off")?;
    until_fences(world, &[]).await.context("switching it off")
}

/// Whoever switches automatic fences on, and says no more, changes nothing for any workload.
async fn observed(world: &World) -> Result<()> {
    world.install_with(&UNDECIDED).await?;
    until_fences(world, &SERVERS).await?;
    for name in SERVERS {
        world.until_said(NS, name, "Ready", ("True", "Observing")).await?;
        let fence = world.fence_of(NS, name).await?;
        ensure!(fence["spec"]["mode"] == "Observe", "{fence:#}");
        let meta = &fence["metadata"];
        ensure!(meta["labels"]["app.kubernetes.io/created-by"] == "fence-controller", "{meta:#}");
        let owner = &meta["ownerReferences"][0];
        ensure!(owner["kind"] == "Service" && owner["name"] == name, "{meta:#}");
    }
    let line = ["get", "sidecars.networking.istio.io", "--namespace", NS, "--output=name"];
    let sidecars = world.mesh.kubectl(&line).await?;
    ensure!(sidecars.trim().is_empty(), "fences that observe have Sidecars: {sidecars}");
    Ok(())
}

/// A fence that is there keeps its mode, so the namespace gets new ones.
async fn enforced(world: &World) -> Result<()> {
    label(world, &["namespace", NS], "slime.io/serviceFenced=false").await?;
    until_fences(world, &[]).await?;
    world.install_with(&VALUES).await?;
    // Until the operator of before has gone, which would create them in its mode.
    world.scale_operator(1).await?;
    label(world, &["namespace", NS], "slime.io/serviceFenced-").await
}

async fn by_default(world: &World) -> Result<()> {
    until_fences(world, &SERVERS).await?;
    for name in SERVERS {
        world.until_trimmed(NS, name).await?;
        let sidecar = world.sidecar(NS, name).await?;
        ensure!(sidecar["spec"]["workloadSelector"]["labels"]["app"] == name, "{sidecar:#}");
    }
    ensure!(world.routed(NS, "s1").await?.is_empty(), "nobody has called anybody yet");
    world.until_direct(CALLER, "http://s2:8080/").await
}

async fn by_label(world: &World) -> Result<()> {
    label(world, &["namespace", NS], "slime.io/serviceFenced=false").await?;
    until_fences(world, &[]).await?;
    for name in SERVERS {
        world.until_gone(NS, name).await?;
    }
    label(world, &["service", "s1", "--namespace", NS], "slime.io/serviceFenced=true").await?;
    until_fences(world, &["s1"]).await?;
    label(world, &["service", "s1", "--namespace", NS], "slime.io/serviceFenced-").await?;
    label(world, &["namespace", NS], "slime.io/serviceFenced-").await?;
    until_fences(world, &SERVERS).await
}

async fn without_a_service(world: &World) -> Result<()> {
    let batch = client(NS, "batch").replace("labels: {app: batch}", "labels: {app: batch, run: batch}");
    world.mesh.apply(&batch).await?;
    world.mesh.rollout(NS).await?;
    until_fences(world, &["app-batch.workload.identity", "s1", "s2", "s3"]).await?;
    world.until_trimmed(NS, "app-batch.workload.identity").await?;
    world.until_direct("auto/batch", "http://s3:8080/").await?;
    world.delete_fence(NS, "app-batch.workload.identity").await
}

async fn deleted(world: &World) -> Result<()> {
    world.delete_fence(NS, "s2").await?;
    world.until_gone(NS, "s2").await?;
    until_fences(world, &["s1", "s3"]).await?;
    // Also one that is deleted while nobody looks, and over a restart.
    world.scale_operator(0).await?;
    world.mesh.kubectl(&["delete", "servicefence", "s3", "--namespace", NS, "--wait=false"]).await?;
    world.scale_operator(1).await?;
    until_fences(world, &["s1"]).await?;
    for service in ["s2", "s3"] {
        // Any change of the Service that changes no wish.
        label(world, &["service", service, "--namespace", NS], "touched=yes").await?;
    }
    world.until_direct(CALLER, "http://s3:8080/").await?;
    until_fences(world, &["s1"]).await?;
    for service in ["s2", "s3"] {
        label(world, &["service", service, "--namespace", NS], "slime.io/serviceFenced=false").await?;
        until_forgotten(world, service).await?;
        label(world, &["service", service, "--namespace", NS], "slime.io/serviceFenced-").await?;
    }
    until_fences(world, &SERVERS).await
}

/// Waits until nobody remembers that a Service's fence was deleted: the wish for it was taken back.
async fn until_forgotten(world: &World, service: &str) -> Result<()> {
    let deleted = ["get", "configmap", "palisade-deleted-fences", "--output=jsonpath={.data}"];
    let entry = format!("{NS}_{service}");
    until(&format!("{entry} is forgotten"), SOON, async || {
        let deleted = world.mesh.kubectl(&[&deleted[..], &["--namespace", PALISADE]].concat()).await?;
        ensure!(!deleted.contains(&entry), "{deleted}");
        Ok(())
    })
    .await
}

async fn gone_meanwhile(world: &World) -> Result<()> {
    let going = ["s2", "s3"];
    for name in going {
        world.until_trimmed(NS, name).await?;
    }
    world.scale_operator(0).await?;
    world.mesh.kubectl(&["delete", "service", "s2", "--namespace", NS]).await?;
    label(world, &["service", "s3", "--namespace", NS], "slime.io/serviceFenced=false").await?;
    world.scale_operator(1).await?;
    until_fences(world, &["s1"]).await?;
    for name in going {
        world.until_gone(NS, name).await?;
    }
    // It has never called that, and nothing is learned for it any more: it reaches it directly because it is open.
    world.until_direct("auto/s3", "http://s1:8080/").await
}

/// Waits until the namespace has just these fences.
async fn until_fences(world: &World, expected: &[&str]) -> Result<()> {
    until(&format!("the fences are {expected:?}"), 2 * SOON, async || {
        let line = ["get", "servicefences", "--namespace", NS, "--output=jsonpath={.items[*].metadata.name}"];
        let names = world.mesh.kubectl(&line).await?;
        let names: Vec<_> = names.split_whitespace().collect();
        ensure!(names == expected, "{names:?}");
        Ok(())
    })
    .await
}

async fn label(world: &World, object: &[&str], label: &str) -> Result<()> {
    world.mesh.kubectl(&[&["label", "--overwrite"], object, &[label]].concat()).await.map(drop)
}
