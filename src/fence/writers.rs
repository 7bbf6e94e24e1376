//! Who writes a `Sidecar` besides us, as the API server notes it (`metadata.managedFields`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::MANAGER;
use crate::istio::{REVISION, Sidecar};

/// Leaves of a `Sidecar`'s managed fields what decisions rest on: whether our own manager set the revision, and who
/// else owns something of the spec. For nearly all that is nothing, where the whole would be larger than the rest.
pub fn keep_writers(meta: &mut ObjectMeta) {
    let kept = meta.managed_fields.take().into_iter().flatten().filter_map(essential).collect::<Vec<_>>();
    meta.managed_fields = Some(kept).filter(|kept| !kept.is_empty());
}

fn essential(entry: ManagedFieldsEntry) -> Option<ManagedFieldsEntry> {
    let FieldsV1(fields) = entry.fields_v1?;
    let kept = if entry.manager.as_deref() == Some(MANAGER) {
        revision(&fields).map(|_| json!({ "f:metadata": { "f:labels": { format!("f:{REVISION}"): {} } } }))
    } else {
        let egress = fields.get("f:spec")?.get("f:egress").map(|_| json!({ "f:egress": {} }));
        Some(json!({ "f:spec": egress.unwrap_or_else(|| json!({})) }))
    };
    Some(ManagedFieldsEntry {
        fields_v1: Some(FieldsV1(kept?)),
        manager: entry.manager,
        operation: entry.operation,
        ..ManagedFieldsEntry::default()
    })
}

fn revision(fields: &Value) -> Option<&Value> {
    fields.get("f:metadata")?.get("f:labels")?.get(format!("f:{REVISION}"))
}

/// Whether it was us who labelled a `Sidecar` with a revision. What others label it with is theirs.
pub(super) fn set_the_revision(sidecar: &Sidecar) -> bool {
    let mut ours = sidecar.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    ours.any(|entry| entry.fields_v1.as_ref().is_some_and(|fields| revision(&fields.0).is_some()))
}

/// Another field manager that owns the list of hosts.
pub(super) fn of_egress(sidecar: &Sidecar) -> Option<&str> {
    others(sidecar).find(|(_, spec)| spec.get("f:egress").is_some()).map(|(entry, _)| name(entry))
}

/// Another field manager that applies the spec, and so will again.
pub(super) fn applying(sidecar: &Sidecar) -> Option<&str> {
    others(sidecar)
        .find(|(entry, _)| entry.operation.as_deref() == Some("Apply"))
        .map(|(entry, _)| name(entry))
}

fn others(sidecar: &Sidecar) -> impl Iterator<Item = (&ManagedFieldsEntry, &Value)> {
    let entries = sidecar.managed_fields().iter().filter(|entry| entry.manager.as_deref() != Some(MANAGER));
    entries.filter_map(|entry| Some((entry, entry.fields_v1.as_ref()?.0.get("f:spec")?)))
}

fn name(entry: &ManagedFieldsEntry) -> &str {
    entry.manager.as_deref().unwrap_or_default()
}
