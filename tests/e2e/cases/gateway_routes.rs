//! Routes of the Gateway API that are attached to Services, in a cluster that serves them only now.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::tools::Tools;
use bed::wait::until;
use serde_json::json;

use crate::fixtures::{client, server};
use crate::protocols::first_and_later;
use crate::world::World;

const NS: &str = "gateway-routes";
const OTHER: &str = "gateway-routes-other";
const REMOTE: &str = "remote.gateway-routes-other.svc.cluster.local";
/// Kinds that were not served are looked for again after half a minute, or a whole one.
const NOTICED: Duration = Duration::from_secs(90);

/// A producer's route of each kind, and a consumer's of a Service of another namespace.
const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: gateway-routes}
spec:
  parentRefs: [{kind: Service, group: '', name: web, port: 8080}]
  rules: [{backendRefs: [{name: web-v2, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: unary, namespace: gateway-routes}
spec:
  parentRefs: [{kind: Service, group: '', name: unary}]
  rules: [{backendRefs: [{name: unary-v2, port: 8082}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: db, namespace: gateway-routes}
spec:
  parentRefs: [{kind: Service, group: '', name: db}]
  rules: [{backendRefs: [{name: db-v2, port: 6379}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: vault, namespace: gateway-routes}
spec:
  hostnames: [vault.gateway-routes.svc.cluster.local]
  parentRefs: [{kind: Service, group: '', name: vault}]
  rules: [{backendRefs: [{name: vault-v2, port: 8443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: remote, namespace: gateway-routes}
spec:
  parentRefs: [{kind: Service, group: '', name: remote, namespace: gateway-routes-other}]
  rules: [{backendRefs: [{name: web-v2, port: 8080}]}]
";

/// The part of the case `routes`.
pub async fn run(world: &World) -> Result<()> {
    set_up(world).await?;
    consumers_route(world).await.context("a consumer's route")?;
    producers_routes(world).await.context("producers' routes")?;
    world.mesh.kubectl(&["delete", "httproute", "remote", "--namespace", NS]).await?;
    world.until_routed(NS, "client", &[&host("db"), &host("unary"), &host("vault"), &host("web")]).await
}

async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OTHER, true).await?;
    let (http, grpc) = ([("http", 8080)], [("grpc", 8082)]);
    let (tcp, tls) = ([("tcp", 6379)], [("tls", 8443)]);
    let manifests = [
        server(NS, "web", &http),
        server(NS, "web-v2", &http),
        server(NS, "unary", &grpc),
        server(NS, "unary-v2", &grpc),
        server(NS, "db", &tcp),
        server(NS, "db-v2", &tcp),
        server(NS, "vault", &tls),
        server(NS, "vault-v2", &tls),
        server(OTHER, "remote", &http),
        client(NS, "client"),
        client(OTHER, "client"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OTHER).await?;
    for namespace in [NS, OTHER] {
        world.fence(namespace, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    }
    serve(world).await?;
    world.mesh.apply(ROUTES).await
}

/// Has the API server serve the Gateway API, for good.
async fn serve(world: &World) -> Result<()> {
    let folder = tokio::task::block_in_place(Tools::ensure)?.gateway_api_crds().to_path_buf();
    for kind in ["gatewayclasses", "gateways", "httproutes", "grpcroutes", "tcproutes", "tlsroutes"] {
        let file = folder.join(format!("gateway.networking.k8s.io_{kind}.yaml"));
        let file = file.to_str().context("the cache's path is no text")?;
        world.mesh.kubectl(&["apply", "--server-side", "--filename", file]).await?;
        let definition = format!("customresourcedefinition/{kind}.gateway.networking.k8s.io");
        world.mesh.kubectl(&["wait", &definition, "--for=condition=Established", "--timeout=60s"]).await?;
    }
    Ok(())
}

/// The global proxy follows none, so it is listed before the first call.
async fn consumers_route(world: &World) -> Result<()> {
    let expected = [format!("{OTHER}/{REMOTE}"), format!("{NS}/{REMOTE}")];
    until("a consumer's route is listed in its namespace", NOTICED, async || {
        let routed = world.routed(NS, "client").await?;
        ensure!(routed == expected, "it routes to {routed:?}");
        Ok(())
    })
    .await?;
    let domains = &world.fence_of(NS, "client").await?["status"]["domains"];
    ensure!(domains[REMOTE]["sources"] == json!(["VirtualService"]), "{domains}");
    ensure!(world.routed(OTHER, "client").await?.is_empty(), "it is listed for its producer's namespace");
    let url = format!("http://remote.{OTHER}:8080/");
    until("istiod follows the consumer's route", NOTICED, async || {
        let (call, detour) = world.watched_call(&format!("{NS}/client"), &url).await?;
        ensure!(!detour, "a call went over the global proxy");
        ensure!(call.name.as_deref() == Some("web-v2"), "{:?} answered", call.name);
        Ok(())
    })
    .await
}

async fn producers_routes(world: &World) -> Result<()> {
    let calls = [
        ("web-v2", "http://web:8080/"),
        ("unary-v2", "grpc://unary:8082/"),
        ("db-v2", "tcp://db:6379"),
        ("vault-v2", "tls://vault.gateway-routes.svc.cluster.local:8443"),
    ];
    for (name, url) in calls {
        first_and_later(world, NS, name, url).await.with_context(|| url.to_owned())?;
    }
    let remote = |namespace: &str| format!("{namespace}/{REMOTE}");
    let expected = [remote(OTHER), host("db"), remote(NS), host("unary"), host("vault"), host("web")];
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    world.until_routed(NS, "client", &expected).await
}

fn host(name: &str) -> String {
    format!("{NS}/{name}.{NS}.svc.cluster.local")
}
