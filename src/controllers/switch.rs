use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tracing::{info, warn};

use super::listed::Listed;
use super::mesh::{Mesh, Message};
use crate::graph::ObjectKey;

/// The key of the switch's `ConfigMap` that opens all fences when it is `"true"`.
pub const OPEN_ALL: &str = "openAll";

/// Whether all fences are to open: one `ConfigMap`, so that one write widens every workload, before an
/// uninstall or in an emergency.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// Whether all fences are to open.
    #[must_use]
    pub fn open_all(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Turns the switch, and tells whether that changed anything.
    #[must_use]
    pub fn set(&self, open_all: bool) -> bool {
        self.0.swap(open_all, Ordering::AcqRel) != open_all
    }

    /// Follows the `ConfigMap` `key`. Without one, what was said last holds; at first, that no fence is to open.
    pub(super) async fn follow(
        self,
        client: Client,
        key: ObjectKey,
        mesh: Mesh,
        listed: tokio::sync::mpsc::Sender<()>,
    ) {
        let api = Api::<ConfigMap>::namespaced(client, &key.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
        let mut events = std::pin::pin!(watch(api, config).default_backoff());
        let (mut present, mut listed) = (None, Listed::new(listed));
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => present = None,
                Ok(Event::InitApply(switch)) => present = Some(switch),
                Ok(Event::InitDone) => {
                    if let Some(switch) = present.take() {
                        self.turn(&switch, &mesh).await;
                    }
                    listed.say();
                }
                Ok(Event::Apply(switch)) => self.turn(&switch, &mesh).await,
                // An uninstall may delete the switch before it stops us: fences that are open stay open.
                Ok(Event::Delete(_)) => {}
                Err(error) => warn!(%error, "watching the switch failed; it starts again"),
            }
        }
    }

    async fn turn(&self, switch: &ConfigMap, mesh: &Mesh) {
        let value = switch.data.as_ref().and_then(|data| data.get(OPEN_ALL));
        let open_all = value.is_some_and(|value| value == "true");
        if self.set(open_all) {
            info!(open_all, "the switch for all fences was turned");
            mesh.tell(Message::TouchAll).await;
        }
    }
}
