//! Every name of a service works on the first call, and equal names in two namespaces are never mixed up.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, headless, server};
use crate::world::{SOON, World};

const NS: &str = "names";
const OTHER: &str = "names-other";
const PORT: (&str, u16) = ("http", 8080);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    for namespace in [NS, OTHER] {
        world.mesh.namespace(namespace, true).await?;
    }
    let own = (1..=6).map(|number| server(NS, &format!("s{number}"), &[PORT]));
    let twins = [server(NS, "twin", &[PORT]), server(OTHER, "twin", &[PORT]), headless(NS, "nodes", PORT)];
    let others = [server(OTHER, "far", &[PORT]), stateful(OTHER), ALIAS.to_owned(), client(NS, "client")];
    let manifests: Vec<_> = own.chain(twins).chain(others).collect();
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OTHER).await?;
    let line = ["rollout", "status", "statefulset", "store", "--namespace", OTHER, "--timeout=150s"];
    world.mesh.kubectl(&line).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;

    let address =
        world.mesh.kubectl(&["get", "service", "s6", "-n", NS, "-o=jsonpath={.spec.clusterIP}"]).await?;
    let names = [
        ("s1", "s1:8080".to_owned()),
        ("s2", format!("s2.{NS}:8080")),
        ("s3", format!("s3.{NS}.svc:8080")),
        ("s4", format!("s4.{NS}.svc.cluster.local:8080")),
        ("s5", "s5:8080".to_owned()),
        ("s6", format!("{address}:8080")),
    ];
    for (server, authority) in &names {
        first_call(world, server, authority).await.with_context(|| authority.clone())?;
    }
    twins_are_told_apart(world).await?;
    let call = world.mesh.call(&format!("{NS}/client"), "http://nodes:8080/").await?;
    ensure!(call.name.as_deref() == Some("nodes"), "a headless service's short name reached {:?}", call.name);
    for (name, url) in
        [("store", format!("http://store-1.store.{OTHER}:8080/")), ("far", "http://near:8080/".to_owned())]
    {
        a_name_that_stands_for_another(world, name, &url).await.with_context(|| url.clone())?;
    }
    Ok(())
}

/// The first call is answered, whatever it takes, and later ones go straight.
async fn a_name_that_stands_for_another(world: &World, name: &str, url: &str) -> Result<()> {
    let call = world.mesh.call(&format!("{NS}/client"), url).await?;
    ensure!(call.name.as_deref() == Some(name), "{:?} answered", call.name);
    world.until_direct(&format!("{NS}/client"), url).await
}

/// Another name of a Service of the other namespace.
const ALIAS: &str = "
apiVersion: v1
kind: Service
metadata: {name: near, namespace: names}
spec: {type: ExternalName, externalName: far.names-other.svc.cluster.local, ports: [{name: http, port: 8080}]}
";

/// Two pods, each with a name of its own.
fn stateful(namespace: &str) -> String {
    let set = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store, namespace: NAMESPACE}
spec:
  replicas: 2
  podManagementPolicy: Parallel
  serviceName: store
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec: {containers: [{name: store, image: bed-app, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: store, namespace: NAMESPACE}
spec: {clusterIP: None, selector: {app: store}, ports: [{name: http, port: 8080}]}";
    set.replace("NAMESPACE", namespace)
}

async fn first_call(world: &World, server: &str, authority: &str) -> Result<()> {
    let (call, detour) = world.watched_call(&format!("{NS}/client"), &format!("http://{authority}/")).await?;
    ensure!(detour, "the first call did not go over the global proxy");
    ensure!(call.name.as_deref() == Some(server), "{:?} answered", call.name);
    ensure!(call.host.as_deref() == Some(authority), "the callee saw the host {:?}", call.host);
    learned(world, &format!("{NS}/{server}.{NS}.svc.cluster.local"), true).await
}

async fn twins_are_told_apart(world: &World) -> Result<()> {
    let (mine, theirs) =
        (format!("{NS}/twin.{NS}.svc.cluster.local"), format!("{OTHER}/twin.{OTHER}.svc.cluster.local"));
    let call = world.mesh.call(&format!("{NS}/client"), &format!("http://twin.{OTHER}:8080/")).await?;
    ensure!(call.namespace.as_deref() == Some(OTHER), "twin.{OTHER} was answered in {:?}", call.namespace);
    learned(world, &theirs, true).await?;
    learned(world, &mine, false).await?;
    let call = world.mesh.call(&format!("{NS}/client"), "http://twin:8080/").await?;
    ensure!(call.namespace.as_deref() == Some(NS), "twin was answered in {:?}", call.namespace);
    learned(world, &mine, true).await
}

/// Waits until a host is routed to; or makes sure that it is not.
async fn learned(world: &World, host: &str, expected: bool) -> Result<()> {
    until(&format!("{host} learned: {expected}"), SOON, async || {
        let routed = world.routed(NS, "client").await?;
        ensure!(routed.iter().any(|other| other == host) == expected, "{routed:?}");
        Ok(())
    })
    .await
}
