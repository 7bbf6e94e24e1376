//! The Sidecars as a watch shows them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use bed::mesh::{Mesh, is_trimmed};
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use crate::operator::all_sidecars;
use crate::watch::Watch;

pub(super) struct Sidecars {
    watch: Watch,
    trimmed: HashMap<String, bool>,
}

impl Sidecars {
    pub(super) async fn watch(mesh: &Mesh) -> Result<Self> {
        Ok(Self { watch: Watch::begin(all_sidecars(mesh)).await?, trimmed: HashMap::new() })
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

    /// Waits until every host of `edges` (by the Sidecar's name) is in its Sidecar; tells when the first one was, and when
    /// each Sidecar had all of its own.
    pub(super) async fn until_listed(
        &mut self,
        mut edges: HashMap<String, HashSet<String>>,
        start: Instant,
    ) -> Result<(Duration, Vec<Duration>)> {
        let (mut first, mut complete) = (None, Vec::new());
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
                complete.push(start.elapsed());
            }
        }
        Ok((first.unwrap_or_default(), complete))
    }

    async fn next(&mut self) -> Result<DynamicObject> {
        let sidecar = self.watch.next().await?;
        self.trimmed.insert(sidecar.name_any(), is_trimmed(&sidecar.data));
        Ok(sidecar)
    }
}
