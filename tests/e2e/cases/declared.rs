//! What other objects say of a workload, or hide from the global proxy, is in its fence before the first call: routes for
//! particular callers, Services that few namespaces see, names that istiod alone resolves, and what Slime had learned.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::fixtures::{client, resolving_client, server};
use crate::world::World;

const NS: &str = "declared";
const HTTP: [(&str, u16); 1] = [("http", 8080)];

/// Of the calls to `desk`, those of the client alone go to `desk-v2`.
const PICKY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: desk, namespace: declared}
spec:
  hosts: [desk]
  http:
  - {match: [{sourceLabels: {app: client}}], route: [{destination: {host: desk-v2}}]}
  - {route: [{destination: {host: desk}}]}
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let own = server(NS, "own", &HTTP).replace(
        "kind: Service\nmetadata: {name: own,",
        "kind: Service\nmetadata: {annotations: {networking.istio.io/exportTo: .}, name: own,",
    );
    let servers = ["desk", "desk-v2"].map(|name| server(NS, name, &HTTP));
    let servers = servers.into_iter().chain([server(NS, "mail", &[("http", 8080), ("tcp", 6379)])]);
    let clients = ["client", "other"].map(|name| client(NS, name));
    let manifests = servers.chain(clients).chain([own, PICKY.to_owned()]);
    world.mesh.apply(&manifests.collect::<Vec<_>>().join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    for name in ["client", "other"] {
        world.fence(NS, name, &fence(name)).await?;
    }
    for_one_caller(world).await.context("a route for one caller, and a Service that one namespace sees")?;
    resolved_by_istiod(world).await.context("names that istiod alone resolves")?;
    known_to_slime(world).await.context("what Slime had learned")
}

/// The global proxy has another route, and does not see the Service.
async fn for_one_caller(world: &World) -> Result<()> {
    let (desk, own) = (&host("desk"), &host("own"));
    world.until_routed(NS, "client", &[desk, own]).await?;
    world.until_routed(NS, "other", &[own]).await?;
    for (caller, url, callee, expected) in [
        ("client", "http://desk:8080/", "desk-v2", false),
        ("client", "http://own:8080/", "own", false),
        ("other", "http://own:8080/", "own", false),
        ("other", "http://desk:8080/", "desk", true),
    ] {
        let (call, detour) = world.watched_call(&format!("{NS}/{caller}"), url).await?;
        ensure!(call.name.as_deref() == Some(callee), "{caller} calls {url}, and {:?} answers", call.name);
        ensure!(detour == expected, "{caller} calls {url}: detour {detour}");
    }
    Ok(())
}

/// Nobody else knows the names; and the addresses that istiod makes up for them are no pods'.
async fn resolved_by_istiod(world: &World) -> Result<()> {
    let entry = |name: &str, port: u16, protocol: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": { "name": name, "namespace": NS },
            "spec": {
                "hosts": [format!("{name}.internal")], "location": "MESH_INTERNAL", "resolution": "STATIC",
                "ports": [{ "number": port, "name": "it", "protocol": protocol }], "workloadSelector": { "labels": { "app": "mail" } },
            },
        })
    };
    let manifests = [
        entry("letters", 8080, "HTTP").to_string(),
        entry("bytes", 6379, "TCP").to_string(),
        resolving_client(NS, "resolving"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "resolving", &fence("resolving")).await?;
    let entries = ["bytes", "letters"].map(|name| format!("{NS}/{name}.internal"));
    world.until_routed(NS, "resolving", &[&entries[0], &entries[1], &host("own")]).await?;
    world.until_routed(NS, "other", &[&host("desk"), &host("own")]).await?;
    for url in ["http://letters.internal:8080/", "tcp://bytes.internal:6379"] {
        let (call, detour) = world.watched_call(&format!("{NS}/resolving"), url).await?;
        ensure!(call.name.as_deref() == Some("mail") && !detour, "{url}: detour {detour}, {call:?}");
    }
    Ok(())
}

/// A fence with the status that Slime left is warm when Palisade first sees it.
async fn known_to_slime(world: &World) -> Result<()> {
    world.delete_fence(NS, "other").await?;
    world.scale_operator(0).await?;
    world.apply_fence(NS, "other", &fence("other")).await?;
    let key = format!("{{destination_service=\"mail.{NS}.svc.cluster.local\"}}");
    let status = json!({ "status": { "metricStatus": { key: "1" }, "domains": {} } }).to_string();
    let line = ["patch", "servicefence", "other", "--namespace", NS, "--subresource=status", "--type=merge"];
    world.mesh.kubectl(&[&line[..], &["--patch", &status]].concat()).await?;
    world.scale_operator(1).await?;
    world.until_trimmed(NS, "other").await?;
    world.until_routed(NS, "other", &[&host("mail"), &host("own")]).await?;
    let domains = &world.fence_of(NS, "other").await?["status"]["domains"];
    ensure!(domains[format!("mail.{NS}.svc.cluster.local")]["sources"] == json!(["Slime"]), "{domains}");
    let (_, detour) = world.watched_call(&format!("{NS}/other"), "http://mail:8080/").await?;
    ensure!(!detour, "the first call went over the global proxy");
    Ok(())
}

fn fence(app: &str) -> String {
    format!("{{enable: true, workloadSelector: {{labels: {{app: {app}}}}}}}")
}

fn host(name: &str) -> String {
    format!("{NS}/{name}.{NS}.svc.cluster.local")
}
