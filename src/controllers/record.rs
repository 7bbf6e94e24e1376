use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{debug, warn};

use super::backoff::delay;
use super::mesh::{Mesh, Message};
use crate::api::DependencySource;
use crate::fence::MANAGER;
use crate::graph::{Change, Coverage, Covered, ObjectKey};

/// How long the API server has to answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked whether there is something to write.
const TICK: Duration = Duration::from_mins(1);
/// How often it is written at most. A source looks back over what is missing, so it need not be exact.
const PAUSE: Duration = Duration::from_hours(1);

/// How far sources of direct calls have looked, in a `ConfigMap`: so that a restart of ours is no gap of theirs.
#[derive(Clone)]
pub struct Record {
    api: Api<ConfigMap>,
    name: String,
}

/// One source's time, as it is written.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    since: Timestamp,
    until: Timestamp,
}

impl Record {
    /// The record in the `ConfigMap` `key`.
    #[must_use]
    pub fn new(client: Client, key: &ObjectKey) -> Self {
        Self { api: Api::namespaced(client, &key.namespace), name: key.name.to_string() }
    }

    /// Tells the graph's owner what is written, as soon as it can be read. Nothing is written before.
    pub async fn restore(&self, mesh: &Mesh) {
        for covered in entries(&self.read_at_last().await, Timestamp::now()) {
            mesh.tell(Message::Change(Change::Covered(covered))).await;
        }
        mesh.settled().await;
    }

    /// What is written; nothing if we may not read it, so that sources begin anew.
    async fn read_at_last(&self) -> BTreeMap<String, String> {
        for attempt in 1.. {
            match self.read().await {
                Ok(data) => return data,
                Err(error) => {
                    warn!(%error, "how far sources have looked cannot be read");
                    if is_refusal(&error) {
                        break;
                    }
                }
            }
            tokio::time::sleep(delay(attempt)).await;
        }
        BTreeMap::new()
    }

    /// Writes what changes, rarely. Never ends.
    pub async fn keep(&self, mesh: &Mesh) {
        let (mut ticks, mut written) = (tokio::time::interval(TICK), None::<Instant>);
        let mut last = mesh.graph().coverage().clone();
        loop {
            ticks.tick().await;
            let coverage = mesh.graph().coverage().clone();
            if coverage == last || written.is_some_and(|at| at.elapsed() < PAUSE) {
                continue;
            }
            match self.write(&coverage).await {
                Ok(()) => (last, written) = (coverage, Some(Instant::now())),
                Err(error) => {
                    debug!(%error, "how far sources have looked cannot be written; it is tried again");
                }
            }
        }
    }

    async fn read(&self) -> kube::Result<BTreeMap<String, String>> {
        let found = within(self.api.get_opt(&self.name)).await?;
        Ok(found.and_then(|map| map.data).unwrap_or_default())
    }

    /// Writes how far sources have looked.
    ///
    /// # Errors
    /// If the API server refuses, or does not answer.
    pub async fn write(&self, coverage: &BTreeMap<DependencySource, Coverage>) -> kube::Result<()> {
        let second = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        let entry = |time: &Coverage| json!(Entry { since: second(time.since), until: second(time.until) });
        let data: BTreeMap<_, _> =
            coverage.iter().map(|(source, time)| (format!("{source:?}"), entry(time).to_string())).collect();
        let patch = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": self.name }, "data": data });
        within(self.api.patch(&self.name, &PatchParams::apply(MANAGER), &Patch::Apply(&patch)))
            .await
            .map(drop)
    }
}

/// What is written, without what cannot be read; no source has looked further than to now.
fn entries(data: &BTreeMap<String, String>, now: Timestamp) -> Vec<Covered> {
    let read = |(source, entry): (&String, &String)| {
        let source: DependencySource = serde_json::from_value(json!(source)).ok()?;
        let Entry { since, until } = serde_json::from_str(entry).ok()?;
        Some(Covered { source, time: Coverage { since, until: until.min(now) } })
    };
    data.iter().filter_map(read).collect()
}

/// Whether trying again would change nothing.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| kube::Error::Service(format!("no answer within {TIMEOUT:?}").into());
    tokio::time::timeout(TIMEOUT, call).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_left_out_and_nothing_lies_in_the_future() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let entry = |since: &str, until: &str| format!(r#"{{"since":"{since}","until":"{until}"}}"#);
        let (one, two) = ("1970-01-01T00:00:10Z", "1970-01-01T00:00:30Z");
        let cases = [
            ("Prometheus", entry(one, two), Some((10, 20))),
            ("Prometheus", entry(one, one), Some((10, 10))),
            ("Prometheus", "yesterday".to_owned(), None),
            ("Oracle", entry(one, two), None),
        ];
        for (source, entry, expected) in cases {
            let read = entries(&BTreeMap::from([(source.to_owned(), entry.clone())]), at(20));
            let times: Vec<_> = read.iter().map(|covered| (covered.time.since, covered.time.until)).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(since, until)| (at(since), at(until))).collect();
            assert_eq!(times, expected, "{source} {entry}");
        }
    }
}
