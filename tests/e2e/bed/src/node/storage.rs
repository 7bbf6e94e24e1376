//! Volumes for `PersistentVolumeClaims`: the stand-in for a provisioner.
//!
//! The scheduler binds no Pod whose claims are not bound. So every claim that waits gets a `PersistentVolume`
//! that is made for it, whatever its storage class; the volume controller then binds them. The data is a
//! directory of the bed, which outlives the claim's Pods.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::{Value, json};

/// The directory of a claim's data.
pub(super) fn directory(bed_dir: &Path, namespace: &str, claim: &str) -> PathBuf {
    bed_dir.join("claims").join(format!("{namespace}_{claim}"))
}

/// Serves claims until it is dropped.
pub(super) async fn run(client: Client, bed_dir: PathBuf) {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let mut events = watcher(claims, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let outcome = match event {
            Ok(Event::Apply(claim) | Event::InitApply(claim)) if is_waiting(&claim) => {
                provide(&client, &bed_dir, &claim).await
            }
            Ok(Event::Delete(claim)) => withdraw(&client, &bed_dir, &claim).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            tracing::debug!(error = format!("{error:#}"), "a claim was not served");
        }
    }
}

fn is_waiting(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let named = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
    !named && matches!(phase, None | Some("Pending"))
}

async fn provide(client: &Client, bed_dir: &Path, claim: &PersistentVolumeClaim) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let params = PatchParams::apply("bed-node").force();
    let volume = volume_for(bed_dir, claim);
    volumes.patch(&volume_name(claim), &params, &Patch::Apply(&volume)).await.context("make a volume")?;
    Ok(())
}

async fn withdraw(client: &Client, bed_dir: &Path, claim: &PersistentVolumeClaim) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let path = directory(bed_dir, &claim.namespace().unwrap_or_default(), &claim.name_any());
    if path.exists() {
        tokio::fs::remove_dir_all(&path).await.context("remove a claim's data")?;
    }
    match volumes.delete(&volume_name(claim), &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).context("delete a volume"),
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

fn volume_for(bed_dir: &Path, claim: &PersistentVolumeClaim) -> Value {
    let namespace = claim.namespace().unwrap_or_default();
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|resources| resources.requests);
    let mut volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim)},
        "spec": {
            "capacity": requests,
            "accessModes": spec.access_modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace,
                "name": claim.name_any(),
                "uid": claim.uid(),
            },
            "hostPath": {"path": directory(bed_dir, &namespace, &claim.name_any())},
        },
    });
    if let Some(class) = spec.storage_class_name {
        volume["spec"]["storageClassName"] = json!(class);
    }
    if let Some(mode) = spec.volume_mode {
        volume["spec"]["volumeMode"] = json!(mode);
    }
    // A claim may want a volume with certain labels; this one is made for it.
    if let Some(labels) = spec.selector.and_then(|selector| selector.match_labels) {
        volume["metadata"]["labels"] = json!(labels);
    }
    volume
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    fn claim(spec: &Value, status: &Value) -> PersistentVolumeClaim {
        let metadata = json!({"name": "data", "namespace": "shop", "uid": "u"});
        from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn only_claims_without_a_volume_wait() {
        for (spec, status, expected) in [
            (json!({}), json!({"phase": "Pending"}), true),
            (json!({}), json!({}), true),
            (json!({"volumeName": "v"}), json!({"phase": "Pending"}), false),
            (json!({"volumeName": "v"}), json!({"phase": "Bound"}), false),
            (json!({}), json!({"phase": "Lost"}), false),
        ] {
            assert_eq!(is_waiting(&claim(&spec, &status)), expected, "{spec} {status}");
        }
    }

    #[test]
    fn a_volume_is_made_to_measure() {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
        });
        let volume = volume_for(Path::new("/bed"), &claim(&spec, &json!({})));
        assert_eq!(volume["metadata"]["name"], "pvc-u");
        assert_eq!(volume["spec"]["capacity"]["storage"], "1Gi");
        assert_eq!(volume["spec"]["storageClassName"], "fast");
        assert_eq!(volume["spec"]["claimRef"]["uid"], "u");
        assert_eq!(volume["spec"]["hostPath"]["path"], "/bed/claims/shop_data");
    }
}
