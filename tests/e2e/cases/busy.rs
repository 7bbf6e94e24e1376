//! Something changes all the time, `ServiceEntry`s at first, then `EndpointSlice`s alone, so that istiod takes all changes of ten
//! seconds together (its `PILOT_DEBOUNCE_MAX`). Hosts are learned under load meanwhile, and no call fails: a host's route must
//! not come to the proxies in the same push as its cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use bed::cli::Component;
use bed::wait::until;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fixtures::{client, server};
use crate::steady::{name, url};
use crate::world::{SOON, World};

const NS: &str = "busy";
const CALLER: &str = "busy/client";
const SERVERS: usize = 10;
const LOAD: [&str; 4] = ["--rate=25", "--connections=4", "--new-connection-share=0.1", "--timeout=10s"];
/// Who changes something, and how often: taken together, less apart than what istiod waits for in vain.
const NOISES: [&str; 4] = ["noise-1", "noise-2", "noise-3", "noise-4"];
const EVERY: Duration = Duration::from_millis(60);
/// From one server's first call to the next one's.
const APART: Duration = Duration::from_secs(2);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let servers = (1..=SERVERS).map(|number| server(NS, &name(number), &[("http", 8080)]));
    let noises = NOISES.iter().flat_map(|name| [entry(name), slice(name)]);
    let manifests: Vec<_> = servers.chain([client(NS, "client"), SERVED.to_owned()]).chain(noises).collect();
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;

    let before = late_pushes(world).await?;
    let mut noise = NOISES.map(|name| Noise::of_entry(world, name));
    let mut loads = Vec::new();
    for number in 1..=SERVERS {
        if number == SERVERS / 2 {
            noise = NOISES.map(|name| Noise::of_slice(world, name));
        }
        loads.push(world.mesh.load(CALLER, &[&url(number)], &LOAD).await?);
        tokio::time::sleep(APART).await;
    }
    let hosts: BTreeSet<_> =
        (1..=SERVERS).map(|number| format!("{NS}/{}.{NS}.svc.cluster.local", name(number))).collect();
    world.until_routed(NS, "client", &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for number in 1..=SERVERS {
        world.until_direct(CALLER, &url(number)).await?;
    }
    until("istiod has taken changes together for more than a second", SOON, async || {
        ensure!(late_pushes(world).await? > before, "it has not");
        Ok(())
    })
    .await?;
    drop(noise);

    let (mut sent, mut errors) = (0, Vec::new());
    for load in loads {
        let load = load.end().await?;
        sent += load.sent;
        if load.failed + load.retried_unanswered > 0 {
            errors.push(load.errors);
        }
    }
    let late = late_pushes(world).await? - before;
    eprintln!("busy: {sent} requests; istiod has pushed changes later than after a second {late} times");
    ensure!(errors.is_empty(), "of {sent} calls to hosts that were learned meanwhile failed: {errors:#?}");
    Ok(())
}

/// How often istiod had taken changes together for more than a second before it pushed them.
async fn late_pushes(world: &World) -> Result<f64> {
    let all = world.mesh.metric(Component::Istiod, "pilot_debounce_time_count", &[]).await?;
    let soon = world.mesh.metric(Component::Istiod, "pilot_debounce_time_bucket", &["le=\"1\""]).await?;
    Ok(all - soon)
}

/// An entry of which each state is news to istiod.
fn entry(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {NS}}}\n\
         spec: {{hosts: [{name}.example], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}]}}\n"
    )
}

/// What serves the slices' addresses, of which no pod tells.
const SERVED: &str = "
apiVersion: v1
kind: Service
metadata: {name: served, namespace: busy}
spec: {ports: [{name: http, port: 80}]}
";

/// The same of a slice.
fn slice(name: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: {name}, namespace: {NS}, labels: {{kubernetes.io/service-name: served}}}}\n\
         endpoints: []\nports: [{{name: http, port: 80}}]\n"
    )
}

/// Changes that go on while this lives.
struct Noise(JoinHandle<()>);

impl Noise {
    fn of_entry(world: &World, name: &'static str) -> Self {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry");
        let endpoint = |number| json!({ "address": "192.0.2.1", "weight": number });
        Self::start(world, &kind, name, move |number| json!({ "spec": { "endpoints": [endpoint(number)] } }))
    }

    fn of_slice(world: &World, name: &'static str) -> Self {
        let kind = GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice");
        let address = |number| format!("192.0.2.{}", number % 250 + 1);
        Self::start(
            world,
            &kind,
            name,
            move |number| json!({ "endpoints": [{ "addresses": [address(number)] }] }),
        )
    }

    fn start(
        world: &World,
        kind: &GroupVersionKind,
        name: &'static str,
        state: impl Fn(u32) -> Value + Send + 'static,
    ) -> Self {
        let api: Api<DynamicObject> =
            Api::namespaced_with(world.mesh.client().clone(), NS, &ApiResource::from_gvk(kind));
        Self(tokio::spawn(async move {
            for number in 1_u32.. {
                let patch = Patch::Merge(state(number));
                let options = PatchParams::default();
                let patched = api.patch(name, &options, &patch);
                if let (Err(error), ()) = tokio::join!(patched, tokio::time::sleep(EVERY)) {
                    eprintln!("busy: {error:#}");
                }
            }
        }))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.0.abort();
    }
}
