//! postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::{
    context::PodContext,
    launch::Entry,
    probes::{exec, http_get},
    state::Slot,
};

/// Runs a hook to its end.
///
/// # Errors
/// Says why it failed.
pub(super) async fn run(
    context: &PodContext,
    slot: Slot,
    entry: &Entry,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(command) = handler.exec.as_ref().and_then(|action| action.command.as_deref()) {
        return exec(entry, command).await;
    }
    if let Some(action) = &handler.http_get {
        let container = context.container(slot).unwrap_or_default();
        return http_get(context.ip, &container, action).await;
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or_default())).await;
    }
    Ok(())
}
