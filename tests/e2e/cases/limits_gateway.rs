//! Limits of a gateway: for a host, and for a route of a `VirtualService`.

use anyhow::{Context as _, Result, ensure};

use crate::fixtures::{client, gateway, server};
use crate::limited::{Limiter, admitted, limiter, until_limits};
use crate::limits::nothing_was_rejected;
use crate::world::World;

const NS: &str = "limits-gateway";
const CALLER: &str = "limits-gateway/client";
const URL: &str = "http://edge:8080/";

const EDGE: &str = "
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: limits-gateway}
spec: {selector: {istio: edge}, ports: [{name: tcp, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: limits-gateway}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: limits-gateway}
spec:
  hosts: [one.example.com, two.example.com]
  gateways: [edge]
  http:
  - {name: cart, match: [{uri: {prefix: /cart}}], route: [{destination: {host: web, port: {number: 8080}}}]}
  - {name: rest, route: [{destination: {host: web, port: {number: 8080}}}]}
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests =
        [server(NS, "web", &[("http", 8080)]), client(NS, "client"), gateway(NS, "edge"), EDGE.to_owned()];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    let quota = |number: u32, target: &str| {
        format!(
            "{{condition: 'true', action: {{quota: '{number}', fill_interval: {{seconds: 600}}}}, target: {target}}}"
        )
    };
    let descriptors = [
        quota(3, "{host: [one.example.com]}"),
        quota(2, "{port: 8080, route: ['two.example.com:8080/cart']}"),
    ];
    let of = Limiter { selector: "istio: edge", gateway: true, ..Limiter::of(&descriptors) };
    limiter(world, NS, "edge", &of).await?;
    until_limits(world, &format!("{NS}/edge"), "0.0.0.0_8080", &[2]).await?;
    for (host, path, expected) in
        [("one.example.com", "", 3), ("two.example.com", "", 6), ("two.example.com", "cart", 2)]
    {
        let passed = admitted(world, CALLER, &format!("{URL}{path}"), &["--host", host], 6).await;
        let passed = passed.with_context(|| format!("{host}/{path}"))?;
        ensure!(passed == expected, "{host}/{path}: {passed} of 6 passed, and {expected} should have");
    }
    nothing_was_rejected(world, &[&format!("{NS}/edge")]).await
}
