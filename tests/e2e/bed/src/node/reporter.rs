//! Keeps a Pod's status on the API server as the node sees it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{context::PodContext, status::compute};

const RETRY: Duration = Duration::from_secs(1);
const TIME_LIMIT: Duration = Duration::from_secs(15);
/// Kubernetes keeps a Pod that its node does not give up; so the node tries for long.
const DELETE_TRIES: u32 = 60;

/// Patches the status whenever it changed. Never returns; drop it to end it.
pub(super) async fn report(context: Arc<PodContext>) {
    let mut state = context.board.subscribe();
    let mut latest = context.latest.clone();
    let mut reported = PodStatus::default();
    loop {
        let seen = state.borrow_and_update().clone();
        let pod = Arc::clone(&latest.borrow_and_update());
        let previous: &[PodCondition] = reported.conditions.as_deref().unwrap_or_default();
        let status = compute(&pod, &seen, previous, Timestamp::now());
        if status != reported {
            if let Err(error) = send(&context, &pod, &status).await {
                tracing::debug!(pod = context.label(), %error, "status not patched");
                sleep(RETRY).await;
                continue;
            }
            reported = status;
        }
        tokio::select! {
            Ok(()) = state.changed() => {}
            Ok(()) = latest.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// Patches the status once, for a Pod that is about to go.
pub(super) async fn report_once(context: &PodContext) {
    let pod = context.pod();
    let previous = pod.status.clone().and_then(|status| status.conditions).unwrap_or_default();
    let state = context.board.subscribe().borrow().clone();
    let status = compute(&pod, &state, &previous, Timestamp::now());
    if let Err(error) = send(context, &pod, &status).await {
        tracing::debug!(pod = context.label(), %error, "last status not patched");
    }
}

async fn send(context: &PodContext, pod: &Pod, status: &PodStatus) -> anyhow::Result<()> {
    // The uid makes the patch fail on another Pod of the same name.
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": patch_of(status)?});
    let patch = Patch::Strategic(&patch);
    let params = PatchParams::default();
    let api = api(context, pod);
    let name = pod.name_any();
    match timeout(TIME_LIMIT, api.patch_status(&name, &params, &patch)).await? {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// A strategic merge patch with which conditions lose the reasons that they do not have any more.
fn patch_of(status: &PodStatus) -> serde_json::Result<Value> {
    let mut patch = serde_json::to_value(status)?;
    let conditions = patch.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for field in ["reason", "message"] {
            condition.entry(field).or_insert(Value::Null);
        }
    }
    Ok(patch)
}

/// Removes the Pod object, as the last step of its deletion.
pub(super) async fn remove(context: &PodContext) {
    let pod = context.pod();
    let mut params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    params.preconditions = Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None });
    let api = api(context, &pod);
    let name = pod.name_any();
    for _ in 0..DELETE_TRIES {
        match timeout(TIME_LIMIT, api.delete(&name, &params)).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => return,
            Ok(Err(error)) => tracing::debug!(pod = context.label(), %error, "Pod not deleted"),
            Err(_) => tracing::debug!(pod = context.label(), "no answer to the Pod's deletion"),
        }
        sleep(RETRY).await;
    }
}

fn api(context: &PodContext, pod: &Pod) -> Api<Pod> {
    Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default())
}
