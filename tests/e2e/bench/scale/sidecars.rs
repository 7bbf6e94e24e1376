//! The Sidecars as a watch shows them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bed::mesh::{Mesh, is_trimmed};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::{Config, Error, Event, watcher};

use crate::operator::all_sidecars;

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_mins(5);

pub(super) struct Sidecars {
    events: BoxStream<'static, Result<Event<DynamicObject>, Error>>,
    trimmed: HashMap<String, bool>,
}

impl Sidecars {
    /// A watch that goes on when the API server ends it, as it does with watchers that are slow for a moment.
    pub(super) async fn watch(mesh: &Mesh) -> Result<Self> {
        let api = all_sidecars(mesh);
        let mut sidecars = Self { events: watcher(api, Config::default()).boxed(), trimmed: HashMap::new() };
        while !matches!(sidecars.event().await?, Event::InitDone) {}
        Ok(sidecars)
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
            // A list, too, shows what is new in between.
            if let Event::Apply(sidecar) | Event::InitApply(sidecar) = self.event().await? {
                return Ok(sidecar);
            }
        }
    }

    async fn event(&mut self) -> Result<Event<DynamicObject>> {
        loop {
            let event = tokio::time::timeout(LIMIT, self.events.next()).await;
            match event.context("no Sidecar was written for long")?.context("the watch ended")? {
                Ok(event) => {
                    if let Event::Apply(sidecar) | Event::InitApply(sidecar) = &event {
                        self.trimmed.insert(sidecar.name_any(), is_trimmed(&sidecar.data));
                    }
                    return Ok(event);
                }
                Err(error) => println!("  the watch starts again: {error}"),
            }
        }
    }
}
