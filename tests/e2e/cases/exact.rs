//! A fence lists exactly what was called, and the caller's Envoy has exactly that; its neighbour keeps everything.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use bed::wait::until;
use serde_json::Value;

use crate::fixtures::{client, crowd, headless, server};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "exact";
const OTHER: &str = "exact-other";
const CROWD: &str = "exact-crowd";
const CALLER: &str = "exact/client";
const NEIGHBOUR: &str = "exact/neighbour";
const OTHERS: usize = 300;

/// The case.
pub async fn run(world: &World) -> Result<()> {
    set_up(world).await?;
    let everything = world.mesh.outbound_clusters(NEIGHBOUR).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    for url in ["http://web:8080/", "tcp://cache:6379", &format!("grpc://shop.{OTHER}:8081/")] {
        world.until_direct(CALLER, url).await?;
    }
    the_sidecar_lists_what_was_called(world).await?;
    the_proxy_has_what_was_called(world).await?;
    let now = world.mesh.outbound_clusters(NEIGHBOUR).await?;
    let gone: Vec<_> = everything.symmetric_difference(&now).collect();
    ensure!(gone.is_empty(), "the fence has changed what its neighbour has: {gone:?}");
    world.mesh.kubectl(&["delete", "namespace", CROWD, "--wait=false"]).await.map(drop)
}

async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OTHER, true).await?;
    world.mesh.namespace(CROWD, true).await?;
    world.mesh.create(&crowd(CROWD, OTHERS)).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]),
        server(NS, "cache", &[("tcp", 6379)]),
        server(NS, "unused", &[("tcp", 7000)]),
        headless(NS, "nodes", ("tcp", 9000)),
        server(OTHER, "shop", &[("grpc", 8081)]),
        client(NS, "client"),
        client(NS, "neighbour"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OTHER).await?;
    let all = (0..OTHERS).map(|number| format!("crowd-{number}.{CROWD}.svc.cluster.local"));
    let all: Vec<_> = all.chain([format!("unused.{NS}.svc.cluster.local")]).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    world.until_pushed(CALLER, &all).await?;
    world.until_pushed(NEIGHBOUR, &all).await
}

async fn the_sidecar_lists_what_was_called(world: &World) -> Result<()> {
    // Sorted; the headless service of the fence's namespace and the global proxy are always there.
    let expected = [
        format!("{OTHER}/shop.{OTHER}.svc.cluster.local"),
        format!("{NS}/cache.{NS}.svc.cluster.local"),
        format!("{NS}/nodes.{NS}.svc.cluster.local"),
        format!("{NS}/web.{NS}.svc.cluster.local"),
        format!("{PALISADE}/global-proxy.{PALISADE}.svc.cluster.local"),
    ];
    until("the Sidecar lists exactly what was called", SOON, async || {
        let egress = &world.sidecar(NS, "client").await?["spec"]["egress"];
        ensure!(*egress == serde_json::json!([{ "hosts": expected }]), "it has {egress}");
        Ok(())
    })
    .await
}

async fn the_proxy_has_what_was_called(world: &World) -> Result<()> {
    let clusters = [
        format!("outbound|6379||cache.{NS}.svc.cluster.local"),
        format!("outbound|8080||web.{NS}.svc.cluster.local"),
        format!("outbound|8081||shop.{OTHER}.svc.cluster.local"),
        format!("outbound|9000||nodes.{NS}.svc.cluster.local"),
        format!("outbound|15001||global-proxy.{PALISADE}.svc.cluster.local"),
    ];
    let own = ["BlackHoleCluster", "InboundPassthroughCluster", "PassthroughCluster"].map(str::to_owned);
    let listeners = [
        "virtualInbound".to_owned(),
        "virtualOutbound".to_owned(),
        // HTTP ports are shared by all services.
        "0.0.0.0_8080".to_owned(),
        "0.0.0.0_8081".to_owned(),
        format!("{}_6379", cluster_ip(world, NS, "cache").await?),
        format!("{}_9000", world.mesh.address(&format!("{NS}/nodes")).await?),
        format!("{}_15001", cluster_ip(world, PALISADE, "global-proxy").await?),
    ];
    until_exact(world, &CLUSTERS, clusters.iter().chain(&own)).await?;
    until_exact(world, &LISTENERS, listeners.iter()).await?;
    until_exact(world, &ENDPOINTS, clusters.iter().chain(&own)).await
}

/// A kind of Envoy's configuration: what its dump calls it, and where a name stands in it.
struct Kind {
    query: &'static str,
    name: &'static str,
}

const CLUSTERS: Kind =
    Kind { query: "resource=dynamic_active_clusters&mask=cluster.name", name: "/cluster/name" };
const LISTENERS: Kind = Kind { query: "resource=dynamic_listeners&mask=name", name: "/name" };
const ENDPOINTS: Kind =
    Kind { query: "include_eds&resource=dynamic_endpoint_configs", name: "/endpoint_config/cluster_name" };

/// Waits until the caller has just these, and makes sure that its neighbour has the crowd's as well.
async fn until_exact(world: &World, kind: &Kind, expected: impl Iterator<Item = &String>) -> Result<()> {
    let expected: BTreeSet<_> = expected.cloned().collect();
    until(&format!("{CALLER} has just its own {}", kind.query), SOON, async || {
        let there = names(world, CALLER, kind).await?;
        let (missing, more): (Vec<_>, Vec<_>) =
            (expected.difference(&there).collect(), there.difference(&expected).collect());
        ensure!(missing.is_empty() && more.is_empty(), "missing: {missing:?}; too much: {more:?}");
        Ok(())
    })
    .await?;
    let neighbours = names(world, NEIGHBOUR, kind).await?;
    ensure!(
        expected.is_subset(&neighbours) && neighbours.len() > expected.len(),
        "the neighbour has {} names at {}, of {} expected",
        neighbours.len(),
        kind.query,
        expected.len()
    );
    Ok(())
}

async fn names(world: &World, pod: &str, kind: &Kind) -> Result<BTreeSet<String>> {
    let dump: Value =
        serde_json::from_str(&world.mesh.envoy(pod, &format!("/config_dump?{}", kind.query)).await?)?;
    let configs = dump["configs"].as_array().into_iter().flatten();
    Ok(configs.filter_map(|config| config.pointer(kind.name)?.as_str().map(str::to_owned)).collect())
}

async fn cluster_ip(world: &World, namespace: &str, service: &str) -> Result<String> {
    world.mesh.kubectl(&["get", "service", service, "-n", namespace, "-o=jsonpath={.spec.clusterIP}"]).await
}
