use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::warn;

use super::Concerns;
use crate::controllers::cache::Cache;
use crate::controllers::listed::Listed;
use crate::graph::ObjectKey;

/// The automatic fences that somebody deleted: a `ConfigMap` with an entry for each, `namespace_name` → what the
/// fence was for.
#[derive(Debug)]
pub struct Deletions {
    /// The `ConfigMap`.
    pub(super) key: ObjectKey,
    pub(super) cache: Cache<ConfigMap>,
}

/// The most that are remembered: their `ConfigMap` must stay below the API server's limit of 1 MiB.
pub(super) const MOST: usize = 2500;

impl Deletions {
    /// Those in the `ConfigMap` `key`, over the store of its watch.
    #[must_use]
    pub fn new(key: ObjectKey, store: Store<ConfigMap>) -> Arc<Self> {
        Arc::new(Self { key, cache: Cache::new(store) })
    }

    /// What the fence `key` was for that somebody deleted.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<String> {
        self.cache.get(&self.key)?.data.as_ref()?.get(&entry(key)).cloned()
    }

    /// Whether no more can be remembered.
    pub(super) fn is_full(&self) -> bool {
        let entries = self.cache.get(&self.key).and_then(|map| map.data.as_ref().map(BTreeMap::len));
        entries.is_some_and(|entries| entries >= MOST)
    }

    /// Follows the `ConfigMap`: an entry that somebody takes out is a fence to look at again.
    pub(in crate::controllers) async fn follow(
        self: Arc<Self>,
        client: Client,
        mut writer: Writer<ConfigMap>,
        concerns: Concerns,
        listed: mpsc::Sender<()>,
    ) {
        let api = Api::<ConfigMap>::namespaced(client, &self.key.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.key.name));
        let events = watch(api, config).default_backoff();
        pin_mut!(events);
        let (mut before, mut listed) = (BTreeMap::<String, String>::new(), Listed::new(listed));
        while let Some(event) = events.next().await {
            let Ok(event) =
                event.inspect_err(|error| warn!(%error, "watching deletions failed; it starts again"))
            else {
                continue;
            };
            writer.apply_watcher_event(&event);
            self.cache.show(&event);
            if !matches!(event, Event::Init | Event::InitApply(_)) {
                let now = self.cache.get(&self.key).and_then(|map| map.data.clone()).unwrap_or_default();
                concerns.add(
                    before.keys().filter(|entry| !now.contains_key(*entry)).filter_map(|entry| fence(entry)),
                );
                before = now;
            }
            if let Event::InitDone = event {
                listed.say();
            }
        }
    }
}

/// The name of a fence's entry. No namespace has an underscore in its name.
pub(super) fn entry(key: &ObjectKey) -> String {
    format!("{}_{}", key.namespace, key.name)
}

fn fence(entry: &str) -> Option<ObjectKey> {
    entry.split_once('_').map(|(namespace, name)| ObjectKey::new(namespace, name))
}
