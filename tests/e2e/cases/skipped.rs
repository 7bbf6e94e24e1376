//! Workloads that no Sidecar would do good: their fences say why in `Ready`, and write none.

use anyhow::{Context as _, Result, ensure};

use crate::fixtures::{client, gateway};
use crate::world::World;

/// With injection, though not all that is there gets a sidecar.
const NS: &str = "skipped";
const PLAIN: &str = "skipped-plain";
const AMBIENT: &str = "skipped-ambient";
const ISTIO: &str = "istio-system";

/// The fences: namespace and name, the pods that each asks for, and the reason that it gives.
const FENCES: [(&str, &str, &str, &str); 8] = [
    (PLAIN, "client", "labels: {app: client}", "NoSidecar"),
    (AMBIENT, "client", "labels: {app: client}", "Ambient"),
    (NS, "agent", "labels: {app: agent}", "HostNetwork"),
    (NS, "edge", "labels: {istio: edge}", "Gateway"),
    (NS, "nobody", "labels: {app: nobody}", "NoPods"),
    (NS, "bare", "", "ServiceWithoutSelector"),
    (NS, "missing", "fromService: true", "ServiceNotFound"),
    (ISTIO, "istiod", "labels: {app: istiod}", "SystemNamespace"),
];

const BARE: &str = "
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: skipped}
spec: {ports: [{name: http, port: 8080}]}
";

/// The case.
pub async fn run(world: &World) -> Result<()> {
    let done = every_fence_says_why(world).await;
    // Only namespaces that a case made are tidied up.
    let line = ["delete", "servicefence", "istiod", "--namespace", ISTIO, "--ignore-not-found"];
    world.mesh.kubectl(&[&line[..], &["--timeout=60s"]].concat()).await?;
    done
}

async fn every_fence_says_why(world: &World) -> Result<()> {
    set_up(world).await?;
    for (namespace, name, pods, _) in FENCES {
        let spec = format!("{{enable: true, workloadSelector: {{{pods}}}}}");
        world.apply_fence(namespace, name, &spec).await?;
    }
    for (namespace, name, _, reason) in FENCES {
        world.until_said(namespace, name, "Ready", ("False", reason)).await?;
    }
    // When all have had their say, none has anything left to write.
    for (namespace, name, ..) in FENCES {
        no_sidecar(world, namespace, name).await.with_context(|| format!("{namespace}/{name}"))?;
    }
    Ok(())
}

async fn set_up(world: &World) -> Result<()> {
    for (namespace, injected) in [(NS, true), (PLAIN, false), (AMBIENT, false)] {
        world.mesh.namespace(namespace, injected).await?;
    }
    world.mesh.kubectl(&["label", "namespace", AMBIENT, "istio.io/dataplane-mode=ambient"]).await?;
    let manifests = [
        client(PLAIN, "client"),
        client(AMBIENT, "client"),
        client(NS, "agent").replace("serviceAccountName:", "hostNetwork: true\n      serviceAccountName:"),
        gateway(NS, "edge"),
        BARE.to_owned(),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    for namespace in [NS, PLAIN, AMBIENT] {
        world.mesh.rollout(namespace).await?;
    }
    Ok(())
}

async fn no_sidecar(world: &World, namespace: &str, name: &str) -> Result<()> {
    let line = ["get", "sidecars.networking.istio.io", name, "--namespace", namespace, "--ignore-not-found"];
    let found = world.mesh.kubectl(&[&line[..], &["--output=yaml"]].concat()).await?;
    ensure!(found.trim().is_empty(), "it has a Sidecar: {found}");
    Ok(())
}
