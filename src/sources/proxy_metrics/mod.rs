//! Learning from proxies themselves: what a workload's own Envoys have counted since they started. They are asked before
//! the workload is fenced, so that open TCP connections are not cut and nothing that it uses takes the detour, and now and
//! then while it is only observed.
//!
//! ```text
//! queue ──▶ ProxyMetrics ──▶ client ──▶ sample ──▶ reading ──▶ the graph's owner
//! (fences)   (which pods)    (lines)    (text)     (news?)
//! ```
//!
//! A pod's word counts for that pod alone: it can widen no other workload's fence. What it answers is read line by line,
//! and none of it is kept but the hosts that the mesh knows.

mod client;
mod metrics;
mod queue;
mod reading;
mod sample;
mod settings;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

pub use metrics::Metrics;
pub use queue::Queue;
pub use settings::{Settings, SettingsError};

use super::Observer;
use crate::graph::{Answers, Caller, Change, ObjectKey, Proxy};
use client::{Client, Failure};
use reading::Reading;

/// Fences of which pods are asked at once.
const FENCES: usize = 32;
/// How long a fence may wait for its turn, in times of what one answer may take: where nobody can reach the pods, many
/// fences at once would else keep one another waiting.
const PATIENCE: u32 = 10;
/// Pods of one fence that are asked at once.
const PODS: usize = 4;
/// Observations that are handed over in one piece, so that the length of the owner's queue bounds its memory.
const BATCH: usize = 1024;
/// How often a pod is asked that cannot be reached: its proxy may be about to start.
const ATTEMPTS: usize = 3;
/// The time for all pods of a fence, in times of what one answer may take.
const ROUNDS: u32 = 3;

/// A source that asks the proxies of pods.
pub struct ProxyMetrics {
    client: Client,
    settings: Settings,
    observer: Observer,
    /// The host of the global proxy.
    detour: Arc<str>,
    queue: Queue,
    /// Where to tell that a fence's pods have been asked.
    told: mpsc::Sender<Change>,
    metrics: Metrics,
}

/// A pod to ask.
#[derive(Clone, Debug)]
struct Target {
    pod: ObjectKey,
    address: IpAddr,
}

impl ProxyMetrics {
    /// A source that asks the pods of the fences in `queue`, hands on to `observer`, and tells `told` how many answered.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new(
        settings: Settings,
        observer: Observer,
        detour: Arc<str>,
        queue: Queue,
        told: mpsc::Sender<Change>,
        metrics: Metrics,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let client = Client::new(&settings)?;
        Ok(Self { client, settings, observer, detour, queue, told, metrics })
    }

    /// Asks for whichever fence is in the queue. Never ends.
    pub async fn run(self) {
        info!(
            port = self.settings.port,
            "asking the proxies of pods that are to be fenced what they have used"
        );
        self.queue.keys().for_each_concurrent(FENCES, |(fence, since)| self.ask(fence, since)).await;
    }

    /// Asks pods of a fence, and tells how many answered. It is told in any case, so that nobody waits for ever.
    async fn ask(&self, fence: ObjectKey, since: Instant) {
        let targets = self.targets(&fence);
        let asked = targets.len();
        let end = Instant::now().min(since + self.timeout() * PATIENCE) + self.timeout() * ROUNDS;
        let answers = stream::iter(targets).map(|target| self.ask_pod(target, end)).buffer_unordered(PODS);
        let answered = answers.filter(|answered| std::future::ready(*answered)).count().await;
        let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
        let answers = Answers { asked: count(asked), silent: count(asked - answered), at: Timestamp::now() };
        let silent = answers.silent;
        if silent > 0 {
            warn!(%fence, asked, silent, "proxies of a fence's pods do not tell what they have counted");
        } else {
            debug!(%fence, asked, "the proxies of a fence's pods have told what they have counted");
        }
        // Behind the observations: whoever sees that they were asked sees what they told.
        let _ = self.told.send(Change::ProxiesAsked(fence.clone(), answers)).await;
        self.queue.done(&fence);
    }

    /// The pods to ask: all, or if they are many, some from the whole range of their names.
    fn targets(&self, fence: &ObjectKey) -> Vec<Target> {
        let graph = self.observer.graph.load();
        let pods = graph.workloads().of_fence(fence).filter(|pod| pod.proxy == Proxy::Sidecar);
        let target = |pod: &crate::graph::Pod| {
            pod.ips.first().map(|address| Target { pod: pod.key.clone(), address: *address })
        };
        spread(pods.filter_map(target).collect(), self.settings.pods)
    }

    /// Asks a pod, until it answers or `end`, and tells whether all that it said was handed over.
    async fn ask_pod(&self, target: Target, end: Instant) -> bool {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_times(ATTEMPTS - 1)
            .with_jitter()
            .build();
        loop {
            let asked = tokio::time::timeout_at(end, self.read(&target)).await;
            let failure = match asked.unwrap_or(Err(Failure::Timeout)) {
                Ok(whole) => return whole,
                Err(failure) => failure,
            };
            let pause = pauses.next().filter(|pause| failure.may_pass() && Instant::now() + *pause < end);
            let Some(pause) = pause else {
                debug!(pod = %target.pod, %failure, "a pod's proxy does not tell what it has counted");
                return false;
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads what a pod's proxy has counted, and tells whether all of it was handed over.
    async fn read(&self, target: &Target) -> Result<bool, Failure> {
        let graph = self.observer.graph.load_full();
        let caller = Caller::Pod(target.pod.clone());
        let mut reading = Reading::new(&graph, caller, &self.detour, Timestamp::now());
        let read = self.client.ask(target.address, |line| reading.read(line)).await;
        self.metrics.asked(read.as_ref().err());
        let (tally, news) = reading.into_news();
        self.metrics.read(&tally);
        // What was read before a failure has been used as well.
        let dropped = news.chunks(BATCH).map(|batch| self.observer.offer(batch.to_vec())).sum();
        self.metrics.dropped(dropped);
        read.map(|()| dropped == 0)
    }

    fn timeout(&self) -> Duration {
        Duration::try_from(self.settings.timeout).unwrap_or_default()
    }
}

/// At most `most` of `all`, at equal distances.
fn spread<T: Clone>(all: Vec<T>, most: usize) -> Vec<T> {
    if all.len() <= most {
        return all;
    }
    (0..most).map(|number| all[number * all.len() / most].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_pods_some_of_the_whole_range_are_asked() {
        assert_eq!(spread(vec![1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(spread((0..100).collect(), 4), [0, 25, 50, 75]);
        assert_eq!(spread((0..5).collect(), 3), [0, 1, 3]);
        assert!(spread(Vec::<u8>::new(), 3).is_empty());
    }
}
