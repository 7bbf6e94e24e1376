//! External hosts without a `ServiceEntry`: they work over the detour, get an entry of their own where that is asked for,
//! and nothing else changes for anybody.

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::Call;
use bed::wait::until;
use serde_json::{Value, json};

use crate::fixtures::{client, server};
use crate::world::{SOON, World};

const NS: &str = "external";
/// A namespace in which somebody's `Sidecar` says `REGISTRY_ONLY`, of other pods than the fence's.
const CLOSED: &str = "external-closed";
/// A namespace without sidecars and without Services: what runs there is outside of the mesh.
const OUTSIDE: &str = "external-outside";
const API: &str = "api.example.org";
const OWN: &str = "own.example.org";
const MAIL: &str = "www.163.example";
const BUCKET: &str = "bucket-7.storage.example";
const NEWS: &str = "www.sohu.example";
const ENTRY: &str = "palisade-api.example.org";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let outside = set_up(world).await?;
    without_the_option_every_call_takes_the_detour(world, &outside).await?;
    let egress = format!("outbound|8080||egress.{NS}.svc.cluster.local");
    let dispatch = [
        "external.serviceEntries=true",
        "external.ports={443,8443,9443}",
        "globalProxy.dispatches[0].name=mail",
        &format!("globalProxy.dispatches[0].domains[0]={MAIL}"),
        &format!("globalProxy.dispatches[0].cluster={egress}"),
        "globalProxy.dispatches[1].name=buckets",
        "globalProxy.dispatches[1].domainRegex=bucket-[0-9]+[.]storage[.]example",
        &format!("globalProxy.dispatches[1].cluster={egress}"),
    ];
    envoy_would_refuse(world, &dispatch).await?;
    world.install_with(&dispatch).await?;
    world.mesh.rollout(crate::world::PALISADE).await?;
    a_host_gets_an_entry_and_goes_direct(world, &outside).await?;
    nothing_is_opened_that_is_closed(world, &outside).await?;
    a_users_own_entry_is_enough(world, &outside).await?;
    a_dispatched_host_goes_to_its_cluster_and_no_other_does(world, &outside).await?;
    the_entry_leaves_with_the_last_fence_that_needs_it(world, &outside).await?;
    world.install().await
}

/// Gives the address of the server outside.
async fn set_up(world: &World) -> Result<String> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(CLOSED, true).await?;
    world.mesh.namespace(OUTSIDE, false).await?;
    let sidecar = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": { "name": "locked", "namespace": CLOSED },
        "spec": { "workloadSelector": { "labels": { "app": "locked" } }, "egress": [{ "hosts": ["*/*"] }], "outboundTrafficPolicy": { "mode": "REGISTRY_ONLY" } },
    });
    let manifests = [
        // It has HTTP on 8080, so that the global proxy looks for hosts there.
        server(NS, "egress", &[("http", 8080)]),
        client(NS, "client"),
        client(CLOSED, "client"),
        server(OUTSIDE, "world", &[("http", 8080), ("https", 8443), ("https-more", 9443)]),
        sidecar.to_string(),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    // Nothing in the registry stands for it.
    world.mesh.kubectl(&["delete", "service", "world", "--namespace", OUTSIDE]).await?;
    for namespace in [NS, CLOSED, OUTSIDE] {
        world.mesh.rollout(namespace).await?;
    }
    for namespace in [NS, CLOSED] {
        world.fence(namespace, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    }
    world.mesh.address(&format!("{OUTSIDE}/world")).await
}

async fn without_the_option_every_call_takes_the_detour(world: &World, outside: &str) -> Result<()> {
    for _ in 0..3 {
        ensure!(call(world, NS, outside, 8443, API).await?, "a call went straight");
    }
    // It does not look for names on these ports yet.
    until_passed_through(world, NS, "tcp", 3.0).await?;
    call_http(world, outside, NEWS).await?;
    until_passed_through(world, NS, "http", 1.0).await?;
    no_entries(world, NS).await
}

/// What Envoy would refuse, Helm refuses first.
async fn envoy_would_refuse(world: &World, dispatches: &[&str]) -> Result<()> {
    for (wrong, expected) in [
        ("globalProxy.dispatches[1].name=mail", "its own name"),
        ("globalProxy.dispatches[1].domainRegex=bucket-(", "missing closing )"),
    ] {
        let refused = world.install_with(&[dispatches, &[wrong]].concat()).await;
        let error = refused.err().with_context(|| format!("Helm takes {wrong}"))?;
        ensure!(format!("{error:#}").contains(expected), "{error:#}");
    }
    Ok(())
}

async fn a_host_gets_an_entry_and_goes_direct(world: &World, outside: &str) -> Result<()> {
    let url = format!("https://{outside}:8443/");
    let options = ["--host", API, "--rate=50", "--connections=4", "--new-connection-share=0.5"];
    let load = world.mesh.load(&format!("{NS}/client"), &[&url], &options).await?;
    until_direct(world, outside, 8443, API).await?;
    world.until_routed(NS, "client", &[&format!("{NS}/{API}")]).await?;
    // The clusters of an older listener, if there are any, go under load as well.
    world.until_trimmed(NS, "client").await?;
    ensure!(!call(world, NS, outside, 8443, API).await?, "a later call took the detour again");
    let summary = load.end().await?;
    ensure!(summary.failed == 0 && summary.ok > 0, "calls failed: {summary:?}");

    let entry = entry(world, NS).await?.context("there is no entry")?;
    let expected = json!({
        "hosts": [API], "exportTo": ["."], "location": "MESH_EXTERNAL", "resolution": "NONE",
        "ports": [{ "number": 8443, "name": "tls-8443", "protocol": "TLS" }],
    });
    ensure!(entry["spec"] == expected, "{}", entry["spec"]);
    let fence = world.fence_of(NS, "client").await?;
    ensure!(
        entry["metadata"]["ownerReferences"][0]["uid"] == fence["metadata"]["uid"],
        "{}",
        entry["metadata"]
    );
    let domain = &fence["status"]["domains"][API];
    ensure!(domain["hosts"] == json!([format!("{NS}/{API}")]), "{domain}");
    ensure!(domain["sources"] == json!(["AccessLog"]), "{domain}");
    another_name_and_another_port_are_learned_too(world, outside).await
}

async fn another_name_and_another_port_are_learned_too(world: &World, outside: &str) -> Result<()> {
    // A name that has no entry is not caught by one that has, at the same address and port.
    ensure!(call(world, NS, outside, 8443, "other.example.org").await?, "an unknown name went straight");
    until_direct(world, outside, 9443, API).await?;
    until_direct(world, outside, 8443, "other.example.org").await?;
    let entry = entry(world, NS).await?.context("there is no entry")?;
    ensure!(entry["spec"]["ports"].as_array().is_some_and(|ports| ports.len() == 2), "{}", entry["spec"]);
    Ok(())
}

async fn nothing_is_opened_that_is_closed(world: &World, outside: &str) -> Result<()> {
    for _ in 0..3 {
        ensure!(call(world, CLOSED, outside, 8443, API).await?, "a call went straight");
    }
    until_passed_through(world, CLOSED, "tls", 3.0).await?;
    no_entries(world, CLOSED).await
}

async fn a_users_own_entry_is_enough(world: &World, outside: &str) -> Result<()> {
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": { "name": "own", "namespace": NS },
        "spec": {
            "hosts": [OWN], "location": "MESH_EXTERNAL", "resolution": "NONE",
            "ports": [{ "number": 8443, "name": "tls", "protocol": "TLS" }],
        },
    });
    world.mesh.apply(&entry.to_string()).await?;
    world.until_pushed("palisade-system/global-proxy", &[OWN]).await?;
    ensure!(call(world, NS, outside, 8443, OWN).await?, "the first call went straight");
    until_direct(world, outside, 8443, OWN).await?;
    let ours = world.mesh.kubectl(&["get", "serviceentry", "-n", NS, "-l", MANAGED, "--output=name"]).await?;
    ensure!(!ours.contains(OWN), "{ours}");
    Ok(())
}

/// One host goes to a named cluster; another one over the global proxy to where it was going, as does a short name.
async fn a_dispatched_host_goes_to_its_cluster_and_no_other_does(world: &World, outside: &str) -> Result<()> {
    for host in [MAIL, BUCKET] {
        until(&format!("{host} is dispatched to its cluster"), SOON, async || {
            let name = call_http(world, outside, host).await?;
            ensure!(name.as_deref() == Some("egress"), "{name:?} answered");
            Ok(())
        })
        .await?;
    }
    for host in [NEWS, "bucket-x.storage.example"] {
        let name = call_http(world, outside, host).await?;
        ensure!(name.as_deref() == Some("world"), "{name:?} answered to {host}");
    }
    let name = world.mesh.call(&format!("{NS}/client"), "http://egress:8080/").await?.name;
    ensure!(name.as_deref() == Some("egress"), "{name:?} answered to its short name");
    let dispatched = ["outcome=\"dispatched\""];
    let metric = "palisade_access_log_entries_total";
    until("dispatched calls are counted", SOON, async || {
        ensure!(world.mesh.metric(Component::Palisade, metric, &dispatched).await? >= 1.0, "none is");
        Ok(())
    })
    .await
}

async fn the_entry_leaves_with_the_last_fence_that_needs_it(world: &World, outside: &str) -> Result<()> {
    let annotation = format!("palisade.io/forget-before={}", jiff::Timestamp::now());
    world.mesh.kubectl(&["annotate", "servicefence", "client", "--namespace", NS, &annotation]).await?;
    until_no_entry(world).await?;
    ensure!(call(world, NS, outside, 8443, API).await?, "a forgotten host went straight");
    until_direct(world, outside, 8443, API).await?;
    world.delete_fence(NS, "client").await?;
    until_no_entry(world).await?;
    // At the very moment in which istiod takes its cluster away a connection may fail (docs/external.md).
    until_direct(world, outside, 8443, API).await
}

const MANAGED: &str = "app.kubernetes.io/managed-by=palisade";

/// Calls the server outside by a name, and tells whether the call went over the global proxy.
async fn call(world: &World, namespace: &str, outside: &str, port: u16, name: &str) -> Result<bool> {
    let before = world.detours().await?;
    let url = format!("https://{outside}:{port}/");
    let call = one(world, namespace, &url, name).await?;
    ensure!(call.name.as_deref() == Some("world"), "{:?} answered", call.name);
    Ok(world.detours().await? > before)
}

async fn call_http(world: &World, outside: &str, name: &str) -> Result<Option<String>> {
    Ok(one(world, NS, &format!("http://{outside}:8080/"), name).await?.name)
}

async fn one(world: &World, namespace: &str, url: &str, name: &str) -> Result<Call> {
    let pod = format!("{namespace}/client");
    let call = world.mesh.calls(&pod, &[url], &["--host", name]).await?.swap_remove(0);
    ensure!(call.ok, "{pod} calls {url} as {name}: {:?}", call.error);
    Ok(call)
}

async fn until_direct(world: &World, outside: &str, port: u16, name: &str) -> Result<()> {
    until(&format!("calls of {name} on {port} go straight"), SOON, async || {
        ensure!(!call(world, NS, outside, port, name).await?, "it still goes over the global proxy");
        Ok(())
    })
    .await
}

async fn until_passed_through(world: &World, namespace: &str, protocol: &str, count: f64) -> Result<()> {
    let labels = [format!("caller_namespace=\"{namespace}\""), format!("protocol=\"{protocol}\"")];
    until(&format!("calls of {namespace} are counted as passed through"), SOON, async || {
        let labels = labels.each_ref().map(String::as_str);
        let seen = world.mesh.metric(Component::Palisade, "palisade_passthrough_total", &labels).await?;
        ensure!(seen >= count, "{seen} of {count} are");
        Ok(())
    })
    .await
}

async fn no_entries(world: &World, namespace: &str) -> Result<()> {
    let entries =
        world.mesh.kubectl(&["get", "serviceentries", "--namespace", namespace, "--output=name"]).await?;
    ensure!(entries.trim().is_empty(), "there are entries: {entries}");
    Ok(())
}

async fn entry(world: &World, namespace: &str) -> Result<Option<Value>> {
    let line =
        ["get", "serviceentry", ENTRY, "--namespace", namespace, "--ignore-not-found", "--output=json"];
    let text = world.mesh.kubectl(&line).await?;
    Ok((!text.trim().is_empty()).then(|| serde_json::from_str(&text)).transpose()?)
}

async fn until_no_entry(world: &World) -> Result<()> {
    until("the entry is gone", SOON, async || {
        let entry = entry(world, NS).await?;
        ensure!(entry.is_none(), "it is there: {entry:?}");
        Ok(())
    })
    .await
}
