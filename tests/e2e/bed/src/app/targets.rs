//! `bed app targets`: tells Prometheus which pods there are.
//!
//! Debian's Prometheus is built without the discovery of Kubernetes. So this follows the pods for it, and writes a file
//! for its discovery by files, with the labels that Prometheus's own discovery (role `pod`) gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Where to tell it.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

type Pods = BTreeMap<String, Vec<Value>>;

/// Follows the pods until `stop`, with the service account of the pod that this runs in.
///
/// # Errors
///
/// When there is no API server to ask, or the file cannot be written.
pub async fn run(options: Options, stop: CancellationToken) -> Result<()> {
    let client = Client::try_default().await.context("the API server")?;
    stop.run_until_cancelled(follow(client, &options.file)).await.unwrap_or(Ok(()))
}

async fn follow(client: Client, file: &Path) -> Result<()> {
    let mut events = std::pin::pin!(watcher(Api::all(client), Config::default()).default_backoff());
    let (mut pods, mut listed) = (Pods::new(), Pods::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => drop(listed.insert(name(&pod), targets(&pod))),
            Ok(Event::InitDone) => write(file, change(&mut pods, |pods| pods.clone_from(&listed)))?,
            Ok(Event::Apply(pod)) => {
                write(file, change(&mut pods, |pods| drop(pods.insert(name(&pod), targets(&pod)))))?;
            }
            Ok(Event::Delete(pod)) => {
                write(file, change(&mut pods, |pods| drop(pods.remove(&name(&pod)))))?;
            }
            Err(error) => tracing::warn!(%error, "the watch of pods failed; it begins again"),
        }
    }
    Ok(())
}

/// The pods after a change, if it changed anything.
fn change(pods: &mut Pods, how: impl FnOnce(&mut Pods)) -> Option<&Pods> {
    let before = pods.clone();
    how(pods);
    (*pods != before).then_some(pods)
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// A pod's target groups: one for each port that a container declares.
fn targets(pod: &Pod) -> Vec<Value> {
    let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()) else {
        return Vec::new();
    };
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let target = |number: i32, port: Option<&str>| {
        let mut labels = labels(pod);
        labels.insert("__meta_kubernetes_pod_container_port_name", port.unwrap_or_default().to_owned());
        json!({ "targets": [format!("{address}:{number}")], "labels": labels })
    };
    ports.map(|port| target(port.container_port, port.name.as_deref())).collect()
}

fn labels(pod: &Pod) -> BTreeMap<&'static str, String> {
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let of_controller =
        |get: fn(&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference) -> &String| {
            controller.map(get).cloned().unwrap_or_default()
        };
    BTreeMap::from([
        ("__meta_kubernetes_namespace", pod.namespace().unwrap_or_default()),
        ("__meta_kubernetes_pod_name", pod.name_any()),
        ("__meta_kubernetes_pod_phase", phase.unwrap_or_default()),
        ("__meta_kubernetes_pod_controller_kind", of_controller(|owner| &owner.kind)),
        ("__meta_kubernetes_pod_controller_name", of_controller(|owner| &owner.name)),
    ])
}

/// Prometheus reads the file whenever it changes, so it must never be half written.
fn write(file: &Path, pods: Option<&Pods>) -> Result<()> {
    let Some(pods) = pods else { return Ok(()) };
    let groups: Vec<_> = pods.values().flatten().collect();
    let partial = file.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec(&groups)?)?;
    std::fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_a_pod_with_an_address_is_a_target() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "client-5d-x", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "client-5d", "uid": "u", "controller": true},
            ]},
            "spec": {
                "initContainers": [{"name": "proxy", "ports": [{"name": "stats", "containerPort": 15090}]}],
                "containers": [{"name": "client", "ports": [{"containerPort": 80}]}],
            },
            "status": {"podIP": "10.244.0.9", "phase": "Running"},
        }))
        .unwrap();
        let groups = targets(&pod);
        let addresses: Vec<_> = groups.iter().map(|group| &group["targets"][0]).collect();
        assert_eq!(addresses, ["10.244.0.9:15090", "10.244.0.9:80"]);
        assert_eq!(
            groups[0]["labels"],
            json!({
                "__meta_kubernetes_namespace": "shop",
                "__meta_kubernetes_pod_name": "client-5d-x",
                "__meta_kubernetes_pod_phase": "Running",
                "__meta_kubernetes_pod_controller_kind": "ReplicaSet",
                "__meta_kubernetes_pod_controller_name": "client-5d",
                "__meta_kubernetes_pod_container_port_name": "stats",
            })
        );
        pod.status = None;
        assert!(targets(&pod).is_empty());
    }
}
