//! A fence that observes writes no Sidecar, keeps and reports what it knows; to change to it and back under load loses
//! no call.

use anyhow::{Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, crowd, server};
use crate::live::flawless;
use crate::world::{SOON, World};

const NS: &str = "observe";
const CROWD: &str = "observe-crowd";
const CALLER: &str = "observe/client";
const SERVICES: usize = 200;
const LOAD: [&str; 3] = ["--rate=200", "--connections=8", "--new-connection-share=0.2"];
const WEB: &str = "observe/web.observe.svc.cluster.local";
const LATE: &str = "observe/late.observe.svc.cluster.local";
const PINNED: &str = "observe/pinned.observe.svc.cluster.local";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(CROWD, false).await?;
    let servers = ["web", "late", "pinned"].map(|name| server(NS, name, &[("http", 8080)]));
    world.mesh.apply(&servers.join("\n---\n")).await?;
    world.mesh.apply(&client(NS, "client")).await?;
    world.mesh.create(&crowd(CROWD, SERVICES)).await?;
    world.mesh.rollout(NS).await?;
    let web = world.mesh.load(CALLER, &["http://web:8080/"], &LOAD).await?;

    world.apply_fence(NS, "client", &fence("Observe")).await?;
    world.until_said(NS, "client", "Ready", ("True", "Observing")).await?;
    until_counted(world, 2).await?;
    world.until_gone(NS, "client").await?;

    world.apply_fence(NS, "client", &fence("Enforce")).await?;
    world.until_trimmed(NS, "client").await?;
    world.until_routed(NS, "client", &[PINNED, WEB]).await?;

    world.apply_fence(NS, "client", &fence("Observe")).await?;
    world.until_gone(NS, "client").await?;
    world.until_said(NS, "client", "Enforced", ("False", "Observing")).await?;
    until_counted(world, 3).await?;

    // Called before it is enforced again, and known to nobody: that is what the detour is for.
    let late = world.mesh.load(CALLER, &["http://late:8080/"], &LOAD).await?;
    world.apply_fence(NS, "client", &fence("Enforce")).await?;
    world.until_trimmed(NS, "client").await?;
    world.until_routed(NS, "client", &[LATE, PINNED, WEB]).await?;
    world.until_said(NS, "client", "Enforced", ("True", "Fenced")).await?;
    flawless("a host that is known", &web.end().await?)?;
    flawless("a host that is not", &late.end().await?)
}

/// Waits until the fence reports that it keeps so many hosts, and does without at least the crowd.
async fn until_counted(world: &World, kept: u64) -> Result<()> {
    until(&format!("the fence keeps {kept} hosts"), SOON, async || {
        let observed = &world.fence_of(NS, "client").await?["status"]["observed"];
        let cut = observed["cut"].as_u64().unwrap_or_default();
        ensure!(observed["kept"] == kept && cut >= SERVICES as u64, "{observed}");
        Ok(())
    })
    .await
}

fn fence(mode: &str) -> String {
    let host = format!("{{pinned.{NS}.svc.cluster.local: {{}}}}");
    format!("{{enable: true, mode: {mode}, host: {host}, workloadSelector: {{labels: {{app: client}}}}}}")
}
