//! A fenced client that knows two of its servers and goes on calling them, whatever a case does to the mesh.

use anyhow::{Result, ensure};
use bed::mesh::Load;

use crate::fixtures::{client, server};
use crate::history::History;
use crate::world::World;

/// The load on known hosts, and the states that the client's Sidecar is in meanwhile.
pub struct Steady {
    caller: String,
    pub history: History,
    load: Load,
}

impl Steady {
    /// Makes the client `namespace/client` and the servers `s1`, `s2` and so on, fences the client, and calls the
    /// first two at `rate` a second once they are known.
    pub async fn start(world: &World, namespace: &str, servers: usize, rate: u32) -> Result<Self> {
        let all = (1..=servers).map(|number| server(namespace, &name(number), &[("http", 8080)]));
        let manifests: Vec<_> = all.chain([client(namespace, "client")]).collect();
        world.mesh.namespace(namespace, true).await?;
        world.mesh.apply(&manifests.join("\n---\n")).await?;
        world.mesh.rollout(namespace).await?;
        world.fence(namespace, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
        let caller = format!("{namespace}/client");
        for number in [1, 2] {
            world.until_direct(&caller, &url(number)).await?;
        }
        let history = History::start(world).await?;
        let options = [&*format!("--rate={rate}"), "--new-connection-share=0.2"];
        let load = world.mesh.load(&caller, &[&url(1), &url(2)], &options).await?;
        Ok(Self { caller, history, load })
    }

    /// Makes sure that no call to a known host failed and that the Sidecar lost nothing, and gives all its states.
    pub async fn end(self) -> Result<History> {
        let load = self.load.end().await?;
        ensure!(
            load.failed + load.retried_unanswered == 0,
            "calls to known hosts failed: {:#?}",
            load.errors
        );
        self.history.nothing_lost(&self.caller)?;
        Ok(self.history)
    }
}

/// The name of a server.
pub fn name(number: usize) -> String {
    format!("s{number}")
}

/// The address of a server.
pub fn url(number: usize) -> String {
    format!("http://{}:8080/", name(number))
}
