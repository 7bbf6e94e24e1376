//! From an empty fence the first call succeeds whatever the protocol, and every later one goes straight.

use anyhow::{Context as _, Result, ensure};

use crate::fixtures::{client, server};
use crate::world::World;

const NS: &str = "protocols";

/// The name of a server, its port, and the address of a call to it.
const CALLS: [(&str, (&str, u16), &str); 9] = [
    ("web", ("http-web", 8080), "http://web:8080/"),
    ("h2c", ("http2-web", 8081), "h2c://h2c:8081/"),
    ("unary", ("grpc-unary", 8082), "grpc://unary:8082/"),
    ("stream", ("grpc-stream", 8083), "grpc-stream://stream:8083/"),
    ("socket", ("http-socket", 8084), "ws://socket:8084/ws"),
    ("cache", ("tcp-cache", 6379), "tcp://cache:6379"),
    ("database", ("tcp-server-first", 3306), "tcp-server-first://database:3306"),
    ("vault", ("tls-vault", 8443), "tls://vault:8443"),
    ("shop", ("https-shop", 9443), "https://shop:9443/"),
];

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let servers = CALLS.iter().map(|(name, port, _)| {
        // A port that the application must speak first on has a name that says so.
        let port = if *name == "database" { ("server-first", port.1) } else { *port };
        server(NS, name, &[port])
    });
    let manifests: Vec<_> = servers.chain([client(NS, "client")]).collect();
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    ensure!(world.routed(NS, "client").await?.is_empty(), "the fence is not empty");

    for (name, _, url) in CALLS {
        first_and_later(world, NS, name, url).await.with_context(|| url.to_owned())?;
    }
    let mut expected: Vec<_> =
        CALLS.iter().map(|(name, ..)| format!("{NS}/{name}.{NS}.svc.cluster.local")).collect();
    expected.sort();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    world.until_routed(NS, "client", &expected).await
}

/// Makes sure that the client's first call to `url` takes the detour and later ones do not, and that `name` answers.
pub async fn first_and_later(world: &World, namespace: &str, name: &str, url: &str) -> Result<()> {
    let caller = &format!("{namespace}/client");
    let (call, detour) = world.watched_call(caller, url).await?;
    ensure!(detour, "the first call did not go over the global proxy");
    ensure!(call.name.as_deref() == Some(name), "{:?} answered", call.name);
    world.until_direct(caller, url).await?;
    let (call, detour) = world.watched_call(caller, url).await?;
    ensure!(!detour, "a later call went over the global proxy");
    ensure!(call.name.as_deref() == Some(name), "{:?} answered", call.name);
    if let Some(identity) = call.identity {
        ensure!(identity.ends_with("/sa/client"), "the callee sees {identity}");
    }
    Ok(())
}
