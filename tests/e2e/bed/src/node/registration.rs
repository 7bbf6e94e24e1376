//! The Node object and the Lease that says that it lives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::network::HOST_ADDRESS;

/// The Node's name.
pub(super) const NODE: &str = "bed";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// As the kubelet: a quarter of the lease's 40 s.
const RENEWAL: Duration = Duration::from_secs(10);
/// The node lifecycle controller looks at the Lease first; this keeps the conditions' times plausible.
const STATUS_EVERY: u32 = 18;

/// Registers the Node with a Ready condition.
///
/// # Errors
/// When the API server refuses it.
pub(super) async fn register(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {
                "kubernetes.io/hostname": NODE,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture(),
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": architecture(),
            },
        },
        "spec": {"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"]},
    });
    let params = PatchParams::apply("bed-node").force();
    nodes.patch(NODE, &params, &Patch::Apply(&node)).await.context("register the Node")?;
    update_status(&nodes).await
}

async fn update_status(nodes: &Api<Node>) -> Result<()> {
    let status = json!({"status": status()});
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Strategic(&status))
        .await
        .context("update the Node's status")?;
    Ok(())
}

/// Room for any test: pods are processes, and their requests are not what limits this machine.
fn status() -> serde_json::Value {
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "",
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let room = json!({"cpu": "512", "memory": "2Ti", "ephemeral-storage": "2Ti", "pods": "2000"});
    json!({
        "addresses": [
            {"type": "InternalIP", "address": HOST_ADDRESS.to_string()},
            {"type": "Hostname", "address": NODE},
        ],
        "capacity": room,
        "allocatable": room,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": "bed",
            "kernelVersion": kernel(), "containerRuntimeVersion": "bed://1", "kubeletVersion": "v1.36.3",
            "kubeProxyVersion": "", "bootID": "", "machineID": "", "systemUUID": "",
        },
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Renews the Lease until `stop`; a failed renewal is tried again at the next turn.
pub(super) async fn keep_alive(client: Client, stop: CancellationToken) {
    let mut turn: u32 = 0;
    loop {
        if let Err(error) = beat(&client, turn).await {
            tracing::warn!(error = format!("{error:#}"), "heartbeat failed");
        }
        turn = turn.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEWAL) => {}
        }
    }
}

async fn beat(client: &Client, turn: u32) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE},
        "spec": {
            "holderIdentity": NODE,
            "leaseDurationSeconds": 40,
            "renewTime": format!("{:.6}", Timestamp::now()),
        },
    });
    let params = PatchParams::apply("bed-node").force();
    leases.patch(NODE, &params, &Patch::Apply(&lease)).await.context("renew the Lease")?;
    if turn % STATUS_EVERY == STATUS_EVERY - 1 {
        update_status(&Api::all(client.clone())).await?;
    }
    Ok(())
}
