//! What a sidecar holds, read from its Envoy.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use bed::mesh::Mesh;
use bed::wait::until;
use serde_json::Value;

use crate::setup::SOON;

/// How much an Envoy has, and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Clusters that istiod sent.
    pub clusters: u64,
    /// Endpoints of these clusters.
    pub endpoints: u64,
    /// Listeners that istiod sent.
    pub listeners: u64,
    /// Routes of all virtual hosts that istiod sent.
    pub routes: u64,
    /// Bytes of all of these, as JSON.
    pub bytes: u64,
    /// Bytes that Envoy has allocated.
    pub memory: u64,
}

impl Figures {
    /// The figures in their order.
    pub fn all(self) -> [u64; 6] {
        [self.clusters, self.endpoints, self.listeners, self.routes, self.bytes, self.memory]
    }

    /// The sums of two Envoys' figures.
    pub fn plus(self, other: Self) -> Self {
        Self {
            clusters: self.clusters + other.clusters,
            endpoints: self.endpoints + other.endpoints,
            listeners: self.listeners + other.listeners,
            routes: self.routes + other.routes,
            bytes: self.bytes + other.bytes,
            memory: self.memory + other.memory,
        }
    }
}

/// The resources of a configuration dump: its list, the resource in each entry.
const RESOURCES: [(&str, &str); 4] = [
    ("dynamic_active_clusters", "cluster"),
    ("dynamic_endpoint_configs", "endpoint_config"),
    ("dynamic_listeners", "active_state"),
    ("dynamic_route_configs", "route_config"),
];

/// Reads a pod's figures, once nothing drains and its memory has come to rest.
///
/// The memory is Envoy's own `allocated`: what lives on its heap. Memory that was freed and not given back to
/// the kernel yet is not part of it.
pub async fn figures(mesh: &Mesh, pod: &str) -> Result<Figures> {
    let memory = settled_memory(mesh, pod).await?;
    let dump: Value = serde_json::from_str(&mesh.envoy(pod, "/config_dump?include_eds").await?)?;
    let [clusters, endpoints, listeners, routes] = RESOURCES.map(|(list, one)| resources(&dump, list, one));
    let everything = [&clusters, &endpoints, &listeners, &routes].into_iter().flatten();
    Ok(Figures {
        clusters: clusters.len() as u64,
        endpoints: nested(&endpoints, "endpoints", "lb_endpoints"),
        listeners: listeners.len() as u64,
        routes: nested(&routes, "virtual_hosts", "routes"),
        bytes: everything.map(|resource| resource.to_string().len() as u64).sum(),
        memory,
    })
}

async fn settled_memory(mesh: &Mesh, pod: &str) -> Result<u64> {
    until(&format!("the memory of {pod} is at rest"), SOON, async || {
        let draining =
            mesh.stats(pod, "^listener_manager.total_(listeners|filter_chains)_(draining|warming)$").await?;
        ensure!(draining.values().all(|count| *count == 0), "{draining:?}");
        let first = allocated(mesh, pod).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let second = allocated(mesh, pod).await?;
        ensure!(first.abs_diff(second) < 200_000, "{first}, then {second} bytes");
        Ok(second)
    })
    .await
}

async fn allocated(mesh: &Mesh, pod: &str) -> Result<u64> {
    let memory: Value = serde_json::from_str(&mesh.envoy(pod, "/memory").await?)?;
    Ok(memory["allocated"].as_str().unwrap_or_default().parse()?)
}

fn resources<'a>(dump: &'a Value, list: &str, one: &str) -> Vec<&'a Value> {
    let configs = dump["configs"].as_array().into_iter().flatten();
    let entries = configs.filter_map(|config| config[list].as_array()).flatten();
    entries.filter_map(|entry| entry.get(one)).collect()
}

/// How many `inner` things all the `outer` things of the resources have together.
fn nested(resources: &[&Value], outer: &str, inner: &str) -> u64 {
    let outer = resources.iter().filter_map(|resource| resource[outer].as_array()).flatten();
    outer.filter_map(|thing| thing[inner].as_array()).map(|things| things.len() as u64).sum()
}

/// The hosts that a pod's Envoy has HTTP routes to.
pub async fn routed(mesh: &Mesh, pod: &str) -> Result<BTreeSet<String>> {
    let path = "/config_dump?resource=dynamic_route_configs&mask=route_config.virtual_hosts";
    let dump: Value = serde_json::from_str(&mesh.envoy(pod, path).await?)?;
    let configs = dump["configs"].as_array().into_iter().flatten();
    let hosts = configs.filter_map(|config| config["route_config"]["virtual_hosts"].as_array()).flatten();
    let names = hosts.filter_map(|host| host["name"].as_str()?.split(':').next());
    Ok(names.map(str::to_owned).collect())
}
