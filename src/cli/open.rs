use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

use super::run::{Logging, duration, key};
use crate::api::ServiceFence;
use crate::controllers::OPEN_ALL;
use crate::fence::{MANAGED_BY, MANAGER};
use crate::graph::ObjectKey;
use crate::istio::Sidecar;

const POLL: Duration = Duration::from_millis(500);

/// Turns the switch that opens all fences, and waits until the last Sidecar is gone. The operator does the
/// work, so it must be running.
#[derive(Debug, Args)]
pub(super) struct Open {
    /// The `ConfigMap` of the switch, as namespace/name.
    #[arg(long, env = "PALISADE_SWITCH", default_value = "palisade-system/palisade", value_parser = key)]
    switch: ObjectKey,
    /// How long to wait.
    #[arg(long, default_value = "2m", value_parser = duration)]
    timeout: SignedDuration,
    /// Turn the switch back: fences are enforced again. Does not wait.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    logging: Logging,
}

impl Open {
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        self.logging.start()?;
        let client = Client::try_default().await.context("cannot find the cluster: is KUBECONFIG set?")?;
        let deadline = Instant::now() + Duration::try_from(self.timeout)?;
        timeout_at(deadline, self.turn(client.clone())).await.context("the API server does not answer")??;
        if self.undo {
            return Ok(());
        }
        let waiting = self.wait(client);
        timeout_at(deadline, waiting)
            .await
            .context("some Sidecars or finalizers of fences are still there: is the operator running?")?
    }

    async fn turn(&self, client: Client) -> anyhow::Result<()> {
        let api = Api::<ConfigMap>::namespaced(client, &self.switch.namespace);
        let value = if self.undo { "false" } else { "true" };
        let patch = Patch::Merge(json!({ "data": { OPEN_ALL: value } }));
        api.patch(&self.switch.name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("cannot turn the switch {}", self.switch))?;
        info!(switch = %self.switch, open_all = value, "switch turned");
        Ok(())
    }

    async fn wait(&self, client: Client) -> anyhow::Result<()> {
        let mut last = None;
        loop {
            let (sidecars, fences) = (sidecars(&client).await?, held(&client).await?);
            if last.replace((sidecars, fences)) != Some((sidecars, fences)) {
                info!(sidecars, fences, "waiting for Sidecars to go, and for fences to be free to go");
            }
            if sidecars + fences == 0 {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
}

/// How many Sidecars of ours there are.
async fn sidecars(client: &Client) -> anyhow::Result<usize> {
    let params = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let all = Api::<Sidecar>::all(client.clone()).list_metadata(&params).await;
    let all = all.context("cannot list Sidecars")?;
    Ok(all.items.iter().filter(|sidecar| sidecar.metadata.owner_references.is_some()).count())
}

/// How many fences could not be deleted without us.
async fn held(client: &Client) -> anyhow::Result<usize> {
    let all = Api::<ServiceFence>::all(client.clone()).list_metadata(&ListParams::default()).await;
    let all = all.context("cannot list ServiceFences")?;
    let ours = |finalizer: &String| finalizer.starts_with("palisade.io/");
    Ok(all.items.iter().filter(|fence| fence.finalizers().iter().any(ours)).count())
}
