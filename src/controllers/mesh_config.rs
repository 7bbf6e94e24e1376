use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::warn;

use super::listed::Listed;
use super::mesh::{Mesh, Message};
use crate::graph::{self, Change, DefaultExport, ObjectKey};
use crate::istio::MeshConfig;

/// The key under which Istio keeps the mesh configuration.
const MESH: &str = "mesh";

/// Follows Istio's `ConfigMap` `key`. What was read last holds while there is none, or none that can be read; before
/// the first could be read, fences keep what an earlier one brought them (`fence::declared`).
pub(super) async fn follow(client: Client, key: ObjectKey, mesh: Mesh, listed: mpsc::Sender<()>) {
    let api = Api::<ConfigMap>::namespaced(client, &key.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
    let mut events = std::pin::pin!(watch(api, config).default_backoff());
    let (mut listed, mut present) = (Listed::new(listed), false);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(config) | Event::InitApply(config)) => {
                present = true;
                tell(&config, &key, &mesh).await;
            }
            Ok(Event::InitDone) => {
                if !present {
                    warn!(config_map = %key, "Istio's mesh configuration is not there: name its ConfigMap (istio.meshConfig, istio.rootNamespace)");
                }
                listed.say();
            }
            Ok(Event::Init | Event::Delete(_)) => present = false,
            Err(error) => {
                warn!(config_map = %key, %error, "watching the mesh configuration failed; it starts again");
                if is_forbidden(&error) {
                    // It will not change by waiting, and fences are of use without it.
                    listed.say();
                }
            }
        }
    }
}

async fn tell(config: &ConfigMap, key: &ObjectKey, mesh: &Mesh) {
    let Some(text) = config.data.as_ref().and_then(|data| data.get(MESH)) else { return };
    match MeshConfig::read(text) {
        Ok(config) => {
            mesh.tell(Message::Change(Change::MeshConfig(facts(&config)))).await;
        }
        Err(error) => {
            warn!(config_map = %key, %error, "the mesh configuration cannot be read; the last one holds");
        }
    }
}

fn facts(config: &MeshConfig) -> graph::MeshConfig {
    graph::MeshConfig {
        hosts: config.services().into_iter().map(Into::into).collect(),
        registry_only: config.is_registry_only(),
        services_export: DefaultExport::parse(config.services_export_to()),
        virtual_services_export: DefaultExport::parse(config.virtual_services_export_to()),
        // Of these, istiod heeds `.` and nothing else (Istio 1.31, `setDestinationRules`).
        destination_rules_export: match DefaultExport::parse(config.destination_rules_export_to()) {
            DefaultExport::Own => DefaultExport::Own,
            DefaultExport::Everyone | DefaultExport::Nobody => DefaultExport::Everyone,
        },
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}
