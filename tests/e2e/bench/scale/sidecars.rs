//! The Sidecars as a watch shows them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bed::mesh::{Mesh, is_trimmed};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};

use crate::operator::all_sidecars;

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_mins(5);

pub(super) struct Sidecars {
    events: BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>,
    trimmed: HashMap<String, bool>,
}

impl Sidecars {
    pub(super) async fn watch(mesh: &Mesh) -> Result<Self> {
        let api = all_sidecars(mesh);
        let version = api.list_metadata(&ListParams::default().limit(1)).await?.metadata.resource_version;
        // The API server ends a watch after 5 minutes at most of what is asked for.
        let params = WatchParams::default().timeout(290);
        let events = api.watch(&params, &version.unwrap_or_default()).await?.boxed();
        Ok(Self { events, trimmed: HashMap::new() })
    }

    /// Waits until this many Sidecars were seen since the watch began, and tells how long it took since `start`.
    pub(super) async fn until_written(&mut self, count: usize, start: Instant) -> Result<Duration> {
        while self.trimmed.len() < count {
            self.next().await?;
        }
        Ok(start.elapsed())
    }

    /// Waits until this many Sidecars have nothing left to drain.
    pub(super) async fn until_trimmed(&mut self, count: usize, start: Instant) -> Result<Duration> {
        while self.trimmed.values().filter(|trimmed| **trimmed).count() < count {
            self.next().await?;
        }
        Ok(start.elapsed())
    }

    /// Waits until every host of `edges` (by the Sidecar's name) is in its Sidecar; tells when the first one was and
    /// when the last one.
    pub(super) async fn until_listed(
        &mut self,
        mut edges: HashMap<String, HashSet<String>>,
        start: Instant,
    ) -> Result<(Duration, Duration)> {
        let mut first = None;
        while !edges.is_empty() {
            let sidecar = self.next().await?;
            let Some(missing) = edges.get_mut(&sidecar.name_any()) else { continue };
            let before = missing.len();
            for listener in sidecar.data["spec"]["egress"].as_array().into_iter().flatten() {
                for host in listener["hosts"].as_array().into_iter().flatten() {
                    let host = host.as_str().and_then(|host| host.split_once('/')).map(|(_, host)| host);
                    missing.remove(host.unwrap_or_default());
                }
            }
            if missing.len() < before {
                first.get_or_insert_with(|| start.elapsed());
            }
            if missing.is_empty() {
                edges.remove(&sidecar.name_any());
            }
        }
        Ok((first.unwrap_or_default(), start.elapsed()))
    }

    async fn next(&mut self) -> Result<DynamicObject> {
        loop {
            let event = tokio::time::timeout(LIMIT, self.events.try_next()).await;
            match event.context("no Sidecar was written for long")??.context("the watch ended")? {
                WatchEvent::Added(sidecar) | WatchEvent::Modified(sidecar) => {
                    self.trimmed.insert(sidecar.name_any(), is_trimmed(&sidecar.data));
                    return Ok(sidecar);
                }
                WatchEvent::Error(error) => bail!("the watch failed: {error:?}"),
                _ => {}
            }
        }
    }
}
