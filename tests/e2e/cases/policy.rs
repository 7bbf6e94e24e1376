//! Under an `AuthorizationPolicy` that names its callers, whom it names is let in on the first call, and who is refused
//! learns nothing by trying.

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::world::{SOON, World};

const NS: &str = "policy";
const FORBIDDEN: u16 = 403;
const PERMISSION_DENIED: u16 = 7;
const WEB: &str = "http://vault:8080/";
const GRPC: &str = "grpc://vault:8082/";
const TCP: &str = "tcp://vault:6379";

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: vault, namespace: policy}
spec:
  selector: {matchLabels: {app: vault}}
  rules: [{from: [{source: {principals: [cluster.local/ns/policy/sa/friend]}}]}]
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let ports = [("http", 8080), ("grpc-vault", 8082), ("tcp-vault", 6379)];
    let manifests = [
        server(NS, "vault", &ports),
        server(NS, "desk", &[("http", 8080)]),
        client(NS, "friend"),
        client(NS, "stranger"),
        POLICY.to_owned(),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    until("the policy is in force", SOON, async || {
        let call = world.mesh.calls(&pod("stranger"), &[WEB], &[]).await?.swap_remove(0);
        ensure!(call.status == Some(FORBIDDEN), "{call:?}");
        Ok(())
    })
    .await?;
    for name in ["friend", "stranger"] {
        let spec = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
        world.fence(NS, name, &spec).await?;
    }
    who_is_named_needs_no_detour(world).await?;
    who_is_refused_learns_nothing(world).await?;
    what_is_declared_leaves_with_the_policy(world).await
}

async fn who_is_named_needs_no_detour(world: &World) -> Result<()> {
    let vault = format!("vault.{NS}.svc.cluster.local");
    let domains = &world.fence_of(NS, "friend").await?["status"]["domains"];
    ensure!(domains[&vault]["sources"] == serde_json::json!(["Policy"]), "{domains}");
    for url in [WEB, GRPC, TCP] {
        let (call, detour) = world.watched_call(&pod("friend"), url).await.with_context(|| url.to_owned())?;
        ensure!(!detour && call.name.as_deref() == Some("vault"), "{url}: detour {detour}, {call:?}");
    }
    Ok(())
}

async fn who_is_refused_learns_nothing(world: &World) -> Result<()> {
    let (denied, detours) = (denied(world).await?, world.detours().await?);
    let urls = [[WEB, GRPC, TCP]; 50].concat();
    for call in world.mesh.calls(&pod("stranger"), &urls, &[]).await? {
        let refused = match &*call.url {
            WEB => call.status == Some(FORBIDDEN),
            GRPC => call.status == Some(PERMISSION_DENIED),
            _ => call.name.is_none(),
        };
        ensure!(refused && !call.ok, "{call:?}");
    }
    ensure!(world.detours().await? > detours, "the calls did not go over the global proxy");
    until("the refusals are counted", SOON, async || {
        let now = self::denied(world).await?;
        ensure!(now >= denied + 150.0, "{denied} before, {now} now");
        Ok(())
    })
    .await?;
    // What it may call it learns as ever, so that learning would have shown.
    world.mesh.call(&pod("stranger"), "http://desk:8080/").await?;
    world.until_routed(NS, "stranger", &[&format!("{NS}/desk.{NS}.svc.cluster.local")]).await
}

async fn what_is_declared_leaves_with_the_policy(world: &World) -> Result<()> {
    world.mesh.kubectl(&["delete", "authorizationpolicy", "vault", "--namespace", NS]).await?;
    world.until_routed(NS, "friend", &[]).await
}

/// How many calls were seen that a guarded host refused.
async fn denied(world: &World) -> Result<f64> {
    world.mesh.metric(Component::Palisade, "palisade_access_log_entries_total", &["outcome=\"denied\""]).await
}

fn pod(name: &str) -> String {
    format!("{NS}/{name}")
}
