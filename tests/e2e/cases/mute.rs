//! Callers that are pods in name only: nobody runs them, and their calls stand in an access log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::mesh::{AccessLog, entry};
use bed::wait::until;
use fastrand::Rng;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::world::{PALISADE, World};

/// Between two entries.
const PAUSE: Duration = Duration::from_millis(5);
/// How long it may take until everything that was called is listed, when nothing is killed any more.
const LIMIT: Duration = Duration::from_mins(2);
const PARALLEL: usize = 16;

/// Callers that go on calling, at random, until they are told to end.
pub struct Mute {
    namespace: String,
    edges: BTreeMap<String, BTreeSet<String>>,
    _calls: AbortOnDropHandle<()>,
}

impl Mute {
    /// Makes `count` callers with a fence each, of which each calls `called` of the Services `servers`.
    pub async fn start(
        world: &World,
        namespace: &str,
        count: usize,
        servers: &[String],
        called: usize,
        random: &mut Rng,
    ) -> Result<Self> {
        let create = stream::iter((0..count).map(|number| create(world, namespace, number)));
        create.buffer_unordered(PARALLEL).try_collect::<()>().await?;
        let host = |server: &String| format!("{server}.{namespace}.svc.cluster.local");
        let edges: Vec<_> = (0..count)
            .map(|number| (number, random.choose_multiple(servers, called).into_iter().map(host).collect()))
            .collect();
        let server = server(world).await?;
        let calls = AbortOnDropHandle::new(tokio::spawn(call(server, edges.clone(), random.fork())));
        let edges = edges.into_iter().map(|(number, hosts): (usize, Vec<_>)| {
            let listed = hosts.into_iter().map(|host| format!("{namespace}/{host}"));
            (name(number), listed.collect())
        });
        Ok(Self { namespace: namespace.to_owned(), edges: edges.collect(), _calls: calls })
    }

    /// Waits until each fence's Sidecar lists just what its caller has called.
    pub async fn end(self, world: &World) -> Result<()> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "Sidecar"));
        let api = Api::<DynamicObject>::namespaced_with(world.mesh.client().clone(), &self.namespace, &kind);
        let fixed = format!("{PALISADE}/global-proxy.{PALISADE}.svc.cluster.local");
        until("every fence lists what was called", LIMIT, async || {
            let sidecars = api.list(&ListParams::default()).await?;
            for (name, expected) in &self.edges {
                let of_name = |sidecar: &&DynamicObject| sidecar.metadata.name.as_ref() == Some(name);
                let sidecar = sidecars.iter().find(of_name).with_context(|| format!("no Sidecar {name}"))?;
                let listeners = sidecar.data["spec"]["egress"].as_array().into_iter().flatten();
                let hosts = listeners.flat_map(|listener| listener["hosts"].as_array().into_iter().flatten());
                let mut listed: BTreeSet<_> =
                    hosts.filter_map(|host| host.as_str().map(str::to_owned)).collect();
                listed.remove(&fixed);
                ensure!(listed == *expected, "{name} lists {listed:?}, not {expected:?}");
            }
            Ok(())
        })
        .await?;
        eprintln!("chaos: {} more fences, learned from an access log, are exact", self.edges.len());
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("mute-{number}")
}

fn address(number: usize) -> IpAddr {
    let [.., high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(11, 0, high, low))
}

/// A pod with a sidecar, by its containers, which no scheduler takes; and its fence.
async fn create(world: &World, namespace: &str, number: usize) -> Result<()> {
    let name = name(number);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": name, "sidecar.istio.io/inject": "false"}},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "app", "image": "none"}, {"name": "istio-proxy", "image": "none"}],
        },
    }))?;
    let api = Api::<Pod>::namespaced(world.mesh.client().clone(), namespace);
    api.create(&PostParams::default(), &pod).await?;
    let ip = address(number).to_string();
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let fence = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
    world.apply_fence(namespace, &name, &fence).await
}

async fn server(world: &World) -> Result<SocketAddr> {
    let line = ["get", "service", "palisade", "--namespace", PALISADE, "--output=jsonpath={.spec.clusterIP}"];
    Ok(SocketAddr::new(world.mesh.kubectl(&line).await?.trim().parse()?, 18090))
}

/// Calls at random for ever, over a new stream whenever the old one has ended with its server.
async fn call(server: SocketAddr, edges: Vec<(usize, Vec<String>)>, mut random: Rng) {
    loop {
        if let Ok(log) = AccessLog::open(server).await {
            while let Some((number, hosts)) = random.choice(&edges)
                && let Some(host) = random.choice(hosts)
                && log.send(vec![entry(address(*number), host)]).await.is_ok()
            {
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
