//! The mesh that all cases share: STRICT mTLS everywhere, and the chart installed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::{Call, Mesh, is_trimmed};
use bed::wait::until;
use serde_json::Value;

/// Where the chart puts the operator and the global proxy.
pub const PALISADE: &str = "palisade-system";
/// The longest that learning, pushing and the like may take before a case fails.
pub const SOON: Duration = Duration::from_mins(1);

/// The mesh and what is installed on it.
pub struct World {
    /// The mesh.
    pub mesh: Mesh,
    /// How long the operator waits for old listeners: what the bed's proxies drain for, and a margin.
    drain: Duration,
}

/// What the operator waits for beyond the proxies' drain.
const MARGIN: Duration = Duration::from_secs(2);

impl World {
    /// Makes mTLS STRICT in the whole mesh and installs the chart.
    pub async fn set_up() -> Result<Self> {
        let mesh = Mesh::connect().await?;
        let drain = mesh.drain().await? + MARGIN;
        let world = Self { mesh, drain };
        world.mesh.apply(STRICT).await?;
        world.install().await?;
        Ok(world)
    }

    /// Installs the chart as a user would.
    pub async fn install(&self) -> Result<()> {
        self.install_with(&[]).await
    }

    /// The same with more values, which are those of the next installation only.
    pub async fn install_with(&self, more: &[&str]) -> Result<()> {
        self.install_from("{}", more).await
    }

    /// The same with values in YAML, besides.
    pub async fn install_from(&self, file: &str, more: &[&str]) -> Result<()> {
        let drain = format!("fence.drain={}s", self.drain.as_secs());
        let values = [
            &*drain,
            "replicas=1",
            "globalProxy.replicas=1",
            "fence.openSettle=1s",
            // What is away in a case is back within seconds, and then proxies and istiod soon try again.
            "istio.reconnect=10s",
            // Cases begin with fences that know nothing, but for those about that.
            "proxyMetrics.enabled=false",
            "log.level=info\\,palisade=debug",
        ];
        self.mesh
            .install_from(file, &chart()?, "palisade", PALISADE, &[&values, more].concat())
            .await
            .context("installing the chart")
    }

    /// Stops the operator (0) or starts it (1), and waits until that is done.
    pub async fn scale_operator(&self, replicas: usize) -> Result<()> {
        self.mesh
            .kubectl(&["scale", "deployment/palisade", "-n", PALISADE, &format!("--replicas={replicas}")])
            .await?;
        until(&format!("{replicas} operators run"), SOON, async || {
            let pods = ["get", "pods", "-n", PALISADE, "--selector=app=palisade", "--output=name"];
            let pods = self.mesh.kubectl(&pods).await?;
            ensure!(pods.lines().count() == replicas, "{pods}");
            Ok(())
        })
        .await?;
        self.mesh.rollout(PALISADE).await
    }

    /// Applies a fence and waits until it is in force, the old listeners' drain included.
    pub async fn fence(&self, namespace: &str, name: &str, spec: &str) -> Result<()> {
        self.apply_fence(namespace, name, spec).await?;
        self.until_trimmed(namespace, name).await
    }

    /// Applies a fence.
    pub async fn apply_fence(&self, namespace: &str, name: &str, spec: &str) -> Result<()> {
        let fence = format!(
            "{{apiVersion: microservice.slime.io/v1alpha1, kind: ServiceFence, \
             metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"
        );
        self.mesh.apply(&fence).await
    }

    /// Waits until a fence's Sidecar has nothing left to warm or to drain, and gives what it routes.
    pub async fn until_trimmed(&self, namespace: &str, name: &str) -> Result<()> {
        until(&format!("the Sidecar {namespace}/{name} is trimmed"), SOON, async || {
            let sidecar = self.sidecar(namespace, name).await?;
            ensure!(is_trimmed(&sidecar), "{}", sidecar["spec"]["egress"]);
            Ok(())
        })
        .await
    }

    /// Waits until there is no Sidecar of a fence any more.
    pub async fn until_gone(&self, namespace: &str, name: &str) -> Result<()> {
        until(&format!("the Sidecar {namespace}/{name} is gone"), SOON, async || {
            let left =
                ["get", "sidecars.networking.istio.io", name, "--namespace", namespace, "--ignore-not-found"];
            let left = self.mesh.kubectl(&[&left[..], &["--output=yaml"]].concat()).await?;
            ensure!(left.trim().is_empty(), "{left}");
            Ok(())
        })
        .await
    }

    /// Waits until a pod's Envoy has just so many outbound clusters.
    pub async fn until_clusters(&self, pod: &str, count: usize) -> Result<()> {
        until(&format!("{pod} has {count} outbound clusters"), SOON, async || {
            let there = self.mesh.outbound_clusters(pod).await?.len();
            ensure!(there == count, "it has {there}");
            Ok(())
        })
        .await
    }

    /// How often proxies have rejected what istiod sent them, as it was told.
    pub async fn rejections(&self) -> Result<f64> {
        self.mesh.metric(Component::Istiod, "pilot_total_xds_rejects", &[]).await
    }

    /// The proxies that have rejected something, each with how often.
    pub async fn rejecting_proxies(&self) -> Result<BTreeMap<String, u64>> {
        let mut rejecting = BTreeMap::new();
        for pod in self.proxied_pods().await? {
            // One that goes in this moment has nothing to say.
            let Ok(stats) = self.mesh.stats(&pod, "update_rejected$").await else { continue };
            let count = stats.values().sum::<u64>();
            if count > 0 {
                rejecting.insert(pod, count);
            }
        }
        Ok(rejecting)
    }

    /// The pods that run with a proxy of the mesh.
    async fn proxied_pods(&self) -> Result<Vec<String>> {
        let line =
            ["get", "pods", "--all-namespaces", "--field-selector=status.phase=Running", "--output=json"];
        let pods: Value = serde_json::from_str(&self.mesh.kubectl(&line).await?)?;
        let has_proxy = |pod: &&Value| {
            let containers = ["containers", "initContainers"].map(|kind| pod["spec"][kind].as_array());
            containers.into_iter().flatten().flatten().any(|container| container["name"] == "istio-proxy")
        };
        let name = |pod: &Value| {
            let metadata = &pod["metadata"];
            Some(format!("{}/{}", metadata["namespace"].as_str()?, metadata["name"].as_str()?))
        };
        Ok(pods["items"].as_array().into_iter().flatten().filter(has_proxy).filter_map(name).collect())
    }

    /// Deletes a fence, and waits until it is gone.
    pub async fn delete_fence(&self, namespace: &str, name: &str) -> Result<()> {
        let line = ["delete", "servicefence", name, "--namespace", namespace, "--timeout=60s"];
        self.mesh.kubectl(&line).await.map(drop)
    }

    /// Deletes the namespaces that a case made, whatever became of it, and waits until they are empty: no case
    /// shall see the others' objects or share the machine's limits with their pods.
    pub async fn tidy(&self) -> Result<()> {
        let all = self
            .mesh
            .kubectl(&[
                "get",
                "namespaces",
                "--field-selector=status.phase=Active",
                "--output=jsonpath={.items[*].metadata.name}",
            ])
            .await?;
        let lasting =
            |name: &&str| !name.starts_with("kube-") && !["default", "istio-system", PALISADE].contains(name);
        let made: Vec<_> = all.split_whitespace().filter(lasting).collect();
        if made.is_empty() {
            return Ok(());
        }
        self.mesh.delete_namespaces(&made).await.context("tidying up after the case")
    }

    /// A Sidecar as it stands.
    pub async fn sidecar(&self, namespace: &str, name: &str) -> Result<Value> {
        self.get(namespace, "sidecars.networking.istio.io", name).await
    }

    /// A fence as it stands.
    pub async fn fence_of(&self, namespace: &str, name: &str) -> Result<Value> {
        self.get(namespace, "servicefences", name).await
    }

    /// Istio's mesh configuration, in YAML.
    pub async fn mesh_config(&self) -> Result<String> {
        self.mesh.kubectl(&["get", "configmap", "istio", "-n=istio-system", "-o=jsonpath={.data.mesh}"]).await
    }

    /// Changes it.
    pub async fn set_mesh_config(&self, text: &str) -> Result<()> {
        let patch = serde_json::json!({ "data": { "mesh": text } }).to_string();
        let line = ["patch", "configmap", "istio", "-n=istio-system", "--type=merge", "--patch", &patch];
        self.mesh.kubectl(&line).await.map(drop)
    }

    /// Waits until a condition of a fence has this status and reason, and gives its message.
    pub async fn until_said(
        &self,
        namespace: &str,
        name: &str,
        condition: &str,
        expected: (&str, &str),
    ) -> Result<String> {
        self.until_told("servicefences", (namespace, name), condition, expected).await
    }

    /// Waits until a condition of a limiter has this status and reason, and gives its message.
    pub async fn until_limiter_said(
        &self,
        namespace: &str,
        name: &str,
        condition: &str,
        expected: (&str, &str),
    ) -> Result<String> {
        self.until_told("smartlimiters", (namespace, name), condition, expected).await
    }

    async fn until_told(
        &self,
        kind: &str,
        (namespace, name): (&str, &str),
        condition: &str,
        expected: (&str, &str),
    ) -> Result<String> {
        let what = format!("{kind} {namespace}/{name}: {condition} is {expected:?}");
        until(&what, SOON, async || said(&self.get(namespace, kind, name).await?, condition, expected)).await
    }

    /// An `EnvoyFilter` as it stands.
    pub async fn envoy_filter(&self, namespace: &str, name: &str) -> Result<Value> {
        self.get(namespace, "envoyfilters.networking.istio.io", name).await
    }

    async fn get(&self, namespace: &str, kind: &str, name: &str) -> Result<Value> {
        let text = self.mesh.kubectl(&["get", kind, name, "--namespace", namespace, "--output=json"]).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The hosts that a fence's Sidecar routes to, but for the fixed one of the global proxy.
    pub async fn routed(&self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let sidecar = self.sidecar(namespace, name).await?;
        let listeners = sidecar["spec"]["egress"].as_array().cloned().unwrap_or_default();
        let captured = listeners.iter().find(|listener| listener.get("port").is_none());
        let hosts = captured.and_then(|listener| listener["hosts"].as_array()).cloned().unwrap_or_default();
        let fixed = format!("{PALISADE}/global-proxy.{PALISADE}.svc.cluster.local");
        Ok(hosts.iter().filter_map(Value::as_str).filter(|host| **host != fixed).map(str::to_owned).collect())
    }

    /// Waits until a fence's Sidecar routes to just these hosts.
    pub async fn until_routed(&self, namespace: &str, name: &str, expected: &[&str]) -> Result<()> {
        until(&format!("{namespace}/{name} routes to {expected:?}"), SOON, async || {
            let routed = self.routed(namespace, name).await?;
            ensure!(routed == expected, "it routes to {routed:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a pod's Envoy has clusters of all these hosts.
    pub async fn until_pushed(&self, pod: &str, hosts: &[&str]) -> Result<()> {
        until(&format!("{pod} has {hosts:?}"), SOON, async || {
            let there = self.mesh.outbound_hosts(pod).await?;
            let missing: Vec<_> = hosts.iter().filter(|host| !there.contains(**host)).collect();
            ensure!(missing.is_empty(), "missing: {missing:?}");
            Ok(())
        })
        .await
    }

    /// How many connections came over the hop to the global proxy so far.
    pub async fn detours(&self) -> Result<u64> {
        let stats = self
            .mesh
            .stats(&format!("{PALISADE}/global-proxy"), "^tcp.global-proxy-hop.downstream_cx_total$")
            .await?;
        stats.into_values().next().context("the global proxy has no such counter")
    }

    /// Calls, and tells whether the call went over the global proxy.
    pub async fn watched_call(&self, pod: &str, url: &str) -> Result<(Call, bool)> {
        let before = self.detours().await?;
        let call = self.mesh.call(pod, url).await?;
        Ok((call, self.detours().await? > before))
    }

    /// Waits until calls to an address go straight; every one of them must succeed.
    pub async fn until_direct(&self, pod: &str, url: &str) -> Result<()> {
        until(&format!("{pod} calls {url} directly"), SOON, async || {
            let (_, detour) = self.watched_call(pod, url).await?;
            ensure!(!detour, "it still goes over the global proxy");
            Ok(())
        })
        .await
    }
}

/// The message of an object's condition, if that has this status and reason.
fn said(object: &Value, condition: &str, expected: (&str, &str)) -> Result<String> {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let said = all.iter().find(|said| said["type"] == condition).context("nothing said")?;
    ensure!(said["status"] == expected.0 && said["reason"] == expected.1, "{said}");
    ensure!(said["observedGeneration"] == object["metadata"]["generation"], "of another spec: {said}");
    Ok(said["message"].as_str().unwrap_or_default().to_owned())
}

fn chart() -> Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../..");
    Ok(root.join("charts/palisade").canonicalize()?)
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";
