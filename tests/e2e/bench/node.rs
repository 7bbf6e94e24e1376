//! A node that runs nothing: pods without one make the controller manager complain of each of them again and again.

use std::time::Duration;

use anyhow::Result;
use bed::mesh::Mesh;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;

pub(crate) const NODE: &str = "bench-nobody";
/// The bed's controller manager gives up a node after 10 minutes.
const RENEWAL: Duration = Duration::from_mins(1);

/// Makes the node, and keeps it alive until the bench ends.
pub(crate) async fn create(mesh: &Mesh) -> Result<JoinHandle<()>> {
    let node: Node =
        serde_json::from_value(json!({"metadata": {"name": NODE}, "spec": {"unschedulable": true}}))?;
    let nodes = Api::<Node>::all(mesh.client().clone());
    nodes.create(&PostParams::default(), &node).await?;
    let now = Timestamp::now();
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let status = json!({"status": {"conditions": [ready]}});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await?;
    let leases = Api::<Lease>::namespaced(mesh.client().clone(), "kube-node-lease");
    Ok(tokio::spawn(async move {
        loop {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
                "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 600, "renewTime": MicroTime(Timestamp::now())},
            });
            if let Err(error) = leases.patch(NODE, &PatchParams::apply("bench"), &Patch::Apply(lease)).await {
                println!("  the node's lease could not be renewed: {error}");
            }
            tokio::time::sleep(RENEWAL).await;
        }
    }))
}
