//! A client whose calls Prometheus counts, and the operator that asks it.

use anyhow::{Context as _, Result, ensure};
use bed::mesh::PROMETHEUS_URL;
use bed::wait::until;

use crate::fixtures::{counted_client, server};
use crate::world::{SOON, World};

/// What the client can call: HTTP servers, and one that speaks TCP.
pub const SERVERS: [(&str, (&str, u16)); 4] =
    [("idle", ("http", 8080)), ("used", ("http", 8080)), ("cache", ("tcp", 6379)), ("spare", ("http", 8080))];
/// The address of the TCP server.
pub const CACHE: &str = "tcp://cache:6379";

/// Installs the operator anew, to ask Prometheus with the built-in queries every second.
pub async fn ask_prometheus(world: &World, more: &[&str]) -> Result<()> {
    ask_with(world, "{}", more).await
}

/// The same with values in YAML, besides.
pub async fn ask_with(world: &World, file: &str, more: &[&str]) -> Result<()> {
    let url = format!("prometheus.url={PROMETHEUS_URL}");
    let values = [&*url, "prometheus.interval=1s", "prometheus.timeout=5s", "prometheus.window=10s"];
    world.install_from(file, &[&values, more].concat()).await
}

/// Makes the clients in a namespace of their own, with the servers.
pub async fn set_up(world: &World, namespace: &str, clients: &[&str]) -> Result<()> {
    world.mesh.namespace(namespace, true).await?;
    let servers = SERVERS.iter().map(|(name, port)| server(namespace, name, &[*port]));
    let clients = clients.iter().map(|name| counted_client(namespace, name));
    world.mesh.apply(&servers.chain(clients).collect::<Vec<_>>().join("\n---\n")).await?;
    world.mesh.rollout(namespace).await
}

/// A server's address.
pub fn url(name: &str) -> String {
    format!("http://{name}:8080/")
}

/// A server's host.
pub fn host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// A server's host as a `Sidecar` lists it.
pub fn listed(namespace: &str, name: &str) -> String {
    format!("{namespace}/{}", host(namespace, name))
}

/// Waits until Prometheus has counted calls of the client to all these, under Istio's names.
pub async fn until_counted(world: &World, namespace: &str, client: &str, names: &[&str]) -> Result<()> {
    until(&format!("Prometheus has counted {client}'s calls to {names:?}"), SOON, async || {
        for name in names {
            let metric =
                if *name == "cache" { "istio_tcp_connections_opened_total" } else { "istio_requests_total" };
            let (workload, to) =
                (format!("{namespace}\", source_workload=\"{client}"), host(namespace, name));
            let query = format!(
                "{metric}{{source_workload_namespace=\"{workload}\", destination_service=\"{to}\"}} > 0"
            );
            ensure!(!world.mesh.query(&query).await?.is_empty(), "{query}: nothing");
        }
        Ok(())
    })
    .await
}

/// Who said that a fence's workload uses a host.
pub async fn sources(world: &World, namespace: &str, fence: &str, name: &str) -> Result<Vec<String>> {
    let status = &world.fence_of(namespace, fence).await?["status"];
    let sources = status["domains"][host(namespace, name)]["sources"].as_array().cloned();
    let sources = sources.with_context(|| format!("{fence} does not know {name}: {status}"))?;
    Ok(sources.iter().filter_map(|source| source.as_str().map(str::to_owned)).collect())
}
