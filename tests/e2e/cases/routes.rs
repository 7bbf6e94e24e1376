//! A host whose calls a `VirtualService`, or a route of the Gateway API, sends elsewhere is what its caller's fence lists, and goes straight.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use serde_json::json;

use crate::fixtures::{client, counted_client, server};
use crate::gateway_routes;
use crate::protocols::first_and_later;
use crate::world::{SOON, World};

const NS: &str = "routes";
const OTHER: &str = "routes-other";
const PICKY: &str = "routes-picky";

/// `root` only delegates; `db` and `vault` are no HTTP; `web` keeps a part of its calls; what goes to `seen` is mirrored.
const VIRTUAL_SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: routes}
spec:
  hosts: [web]
  http: [{match: [{uri: {prefix: /own}}], route: [{destination: {host: web}}]}, {route: [{destination: {host: web-v2}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: routes}
spec: {hosts: [root.routes.svc.cluster.local], http: [{delegate: {name: delegate, namespace: routes}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: delegate, namespace: routes}
spec: {http: [{route: [{destination: {host: web-v2.routes.svc.cluster.local}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: routes}
spec: {hosts: [db], tcp: [{route: [{destination: {host: db-v2}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vault, namespace: routes}
spec:
  hosts: [vault.routes.svc.cluster.local]
  tls: [{match: [{sniHosts: [vault.routes.svc.cluster.local]}], route: [{destination: {host: vault-v2}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: seen, namespace: routes}
spec: {hosts: [seen], http: [{route: [{destination: {host: seen}}], mirrors: [{destination: {host: mirror}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: remote, namespace: routes}
spec: {hosts: [remote.routes-other.svc.cluster.local], http: [{route: [{destination: {host: web-v2}}]}]}
";

const SUBSET: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: versioned, namespace: routes-picky}
spec: {host: versioned.routes-other.svc.cluster.local, subsets: [{name: v1, labels: {app: versioned}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: versioned, namespace: routes-picky}
spec:
  hosts: [versioned.routes-other.svc.cluster.local]
  http: [{route: [{destination: {host: versioned.routes-other.svc.cluster.local, subset: v1}}]}]
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OTHER, true).await?;
    let http = [("http", 8080)];
    let manifests = [
        server(NS, "web", &http),
        server(NS, "web-v2", &http),
        server(NS, "root", &http),
        server(NS, "db", &[("tcp", 6379)]),
        server(NS, "db-v2", &[("tcp", 6379)]),
        server(NS, "vault", &[("tls", 8443)]),
        server(NS, "vault-v2", &[("tls", 8443)]),
        server(NS, "seen", &http),
        server(NS, "mirror", &http),
        server(OTHER, "remote", &http),
        counted_client(NS, "client"),
        VIRTUAL_SERVICES.to_owned(),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OTHER).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    let (web, db, root) = (&host("web"), &host("db"), &host("root"));
    first_and_later(world, NS, "web-v2", "http://web:8080/").await?;
    world.until_routed(NS, "client", &[web]).await?;
    first_and_later(world, NS, "db-v2", "tcp://db:6379").await?;
    world.until_routed(NS, "client", &[db, web]).await?;
    first_and_later(world, NS, "web-v2", "http://root:8080/").await?;
    world.until_routed(NS, "client", &[db, root, web]).await?;
    // istiod takes a `VirtualService` only from a namespace in which the Sidecar lists the host.
    let remote = |namespace: &str| format!("{namespace}/remote.{OTHER}.svc.cluster.local");
    first_and_later(world, NS, "web-v2", &format!("http://remote.{OTHER}:8080/")).await?;
    world.until_routed(NS, "client", &[&remote(OTHER), db, &remote(NS), root, web]).await?;
    let vault = &host("vault");
    first_and_later(world, NS, "vault-v2", &format!("tls://vault.{NS}.svc.cluster.local:8443")).await?;
    world.until_routed(NS, "client", &[&remote(OTHER), db, &remote(NS), root, vault, web]).await?;
    what_is_mirrored_is_so_from_the_fence_too(world).await.context("a mirror")?;
    a_subset_of_the_callers_namespace_is_there_on_the_first_call(world).await.context("a subset")?;
    gateway_routes::run(world).await.context("routes of the Gateway API")
}

/// istiod sends the clusters of a route's mirrors with those of its destinations.
async fn what_is_mirrored_is_so_from_the_fence_too(world: &World) -> Result<()> {
    first_and_later(world, NS, "seen", "http://seen:8080/").await?;
    let caller = &format!("{NS}/client");
    let mirrored = async || {
        let stats = world.mesh.stats(caller, "mirror.routes.*upstream_rq_total$").await?;
        Ok::<_, anyhow::Error>(stats.into_values().sum::<u64>())
    };
    let before = mirrored().await?;
    world.mesh.call(caller, "http://seen:8080/").await?;
    until("the call is mirrored", SOON, async || {
        let now = mirrored().await?;
        ensure!(now > before, "the mirror had {before} calls, and has {now}");
        Ok(())
    })
    .await
}

/// The global proxy has the route, and no such subset: it goes by no `DestinationRule` of the caller's namespace.
async fn a_subset_of_the_callers_namespace_is_there_on_the_first_call(world: &World) -> Result<()> {
    world.mesh.namespace(PICKY, true).await?;
    let manifests =
        [server(OTHER, "versioned", &[("http", 8080)]), client(PICKY, "client"), SUBSET.to_owned()];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(OTHER).await?;
    world.mesh.rollout(PICKY).await?;
    world.fence(PICKY, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    let versioned = |namespace: &str| format!("{namespace}/versioned.{OTHER}.svc.cluster.local");
    world.until_routed(PICKY, "client", &[&versioned(OTHER), &versioned(PICKY)]).await?;
    let domains = &world.fence_of(PICKY, "client").await?["status"]["domains"];
    let sources = &domains[format!("versioned.{OTHER}.svc.cluster.local")]["sources"];
    ensure!(*sources == json!(["DestinationRule"]), "{domains}");
    let (pod, url) = (&format!("{PICKY}/client"), &format!("http://versioned.{OTHER}:8080/"));
    world.mesh.call(pod, url).await?;
    world.until_direct(pod, url).await
}

fn host(name: &str) -> String {
    format!("{NS}/{name}.{NS}.svc.cluster.local")
}
