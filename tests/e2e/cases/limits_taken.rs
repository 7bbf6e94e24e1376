//! Whether proxies have taken a limit, as its status tells it: by their own word, which istiod passes on.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::server;
use crate::limited::{Limiter, limiter, until_limits};
use crate::world::{SOON, World};

const NS: &str = "limits-taken";

/// Somebody's filter that Envoy refuses, and with it the whole listener: it must have a `stat_prefix`.
const REFUSED: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: refused, namespace: limits-taken}
spec:
  workloadSelector: {labels: {app: web}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: somebodys
        typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit}
";

const OF_A_HOST: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay, namespace: limits-taken}
spec:
  hosts: [pay.example.com]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {labels: {app: other}}
---
apiVersion: microservice.slime.io/v1alpha2
kind: SmartLimiter
metadata: {name: pay, namespace: limits-taken}
spec:
  host: pay.example.com
  target: {port: 8080}
  sets: {_base: {descriptor: [{condition: 'true', action: {quota: '10', fill_interval: {seconds: 1}}}]}}
";

/// The case. Neither istiod nor a proxy has anything to tell of rejections when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = taken(world).await;
    world.mesh.kubectl(&["delete", "envoyfilter", "refused", "-n", NS, "--ignore-not-found"]).await?;
    let istiod = ["rollout", "restart", "deployment/istiod", "-n", "istio-system"];
    world.mesh.kubectl(&istiod).await?;
    world.mesh.rollout("istio-system").await?;
    done?;
    world.mesh.kubectl(&["delete", "pods", "--selector=app=web", "-n", NS]).await?;
    world.mesh.rollout(NS).await?;
    until("proxies are back, and have refused nothing", SOON, async || {
        let rejects = world.rejections().await?;
        ensure!(rejects == 0.0, "{rejects} rejections");
        Ok(())
    })
    .await?;
    quota(world, "web", 40).await?;
    said(world, "web", ("True", "Programmed")).await.context("another istiod")?;
    Ok(())
}

async fn taken(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [server(NS, "web", &[("http", 8080)]), server(NS, "other", &[("http", 8080)])];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    let limits = Limiter::of(&[
        "{condition: 'true', action: {quota: '10', fill_interval: {seconds: 1}}, target: {port: 8080}}"
            .to_owned(),
    ]);
    let nobody = Limiter { selector: "app: nobody", ..limits.clone() };
    for (name, limits) in [("web", &limits), ("other", &limits), ("nobody", &nobody)] {
        limiter(world, NS, name, limits).await?;
    }
    said(world, "web", ("True", "Programmed")).await?;
    said(world, "other", ("True", "Programmed")).await?;
    said(world, "nobody", ("False", "NoProxies")).await?;

    world.mesh.apply(REFUSED).await?;
    quota(world, "web", 20).await?;
    let told = said(world, "web", ("False", "Rejected")).await?;
    ensure!(told.contains("1 of 1 proxies (web-") && told.contains("StatPrefix"), "{told}");
    world.until_limiter_said(NS, "web", "Ready", ("True", "Limiting")).await?;
    quota(world, "other", 20).await?;
    said(world, "other", ("True", "Programmed")).await.context("of somebody else's pods")?;

    world.mesh.kubectl(&["delete", "envoyfilter", "refused", "-n", NS]).await?;
    quota(world, "web", 30).await?;
    said(world, "web", ("True", "Programmed")).await.context("what was refused is gone")?;
    events(world).await?;
    of_a_host(world).await.context("the pods of a ServiceEntry")
}

/// A limiter has the pods of its host, as long as there is a `ServiceEntry` for it.
async fn of_a_host(world: &World) -> Result<()> {
    let (pod, listener) = (format!("{NS}/other"), "virtualInbound");
    world.mesh.apply(OF_A_HOST).await?;
    said(world, "pay", ("True", "Programmed")).await?;
    until_limits(world, &pod, listener, &[1, 1]).await?;
    world.mesh.kubectl(&["delete", "serviceentry", "pay", "-n", NS]).await?;
    world.until_limiter_said(NS, "pay", "Ready", ("False", "ServiceNotFound")).await?;
    until_limits(world, &pod, listener, &[1]).await
}

/// Waits for what `Programmed` says.
async fn said(world: &World, name: &str, expected: (&str, &str)) -> Result<String> {
    world.until_limiter_said(NS, name, "Programmed", expected).await
}

async fn quota(world: &World, name: &str, quota: u32) -> Result<()> {
    let field = "/spec/sets/_base/descriptor/0/action/quota";
    let patch = format!(r#"[{{"op": "replace", "path": "{field}", "value": "{quota}"}}]"#);
    let change = ["patch", "smartlimiter", name, "-n", NS, "--type=json", "--patch", &patch];
    world.mesh.kubectl(&change).await.map(drop)
}

/// An Event tells of the refusal, once.
async fn events(world: &World) -> Result<()> {
    until("Events tell of it", SOON, async || {
        let fields = "--field-selector=involvedObject.kind=SmartLimiter,involvedObject.name=web";
        let reasons = "--output=jsonpath={.items[*].reason}";
        let told = world.mesh.kubectl(&["get", "events", "-n", NS, fields, reasons]).await?;
        let count = told.split_whitespace().filter(|told| *told == "Rejected").count();
        ensure!(count == 1, "{told}");
        Ok(())
    })
    .await
}
