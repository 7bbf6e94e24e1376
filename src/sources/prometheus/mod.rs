//! Learning from Prometheus: what proxies count of calls, asked for all fences at once.
//!
//! ```text
//! schedule ──▶ client ──▶ reading ──▶ the graph's owner
//! (when, how    (bytes)    (news?)
//!  far back)
//! ```
//!
//! Two things are asked, with the same queries. What was called *lately*, every [`Settings::interval`], over all the
//! time since the last answer. And the *history* of the fences that nothing was told of yet, once, over
//! [`Settings::history`]: so a fence is warm before its first call.
//!
//! An answer only ever adds. Whatever goes wrong (no answer, a part of it, garbage) teaches less and takes nothing away.

pub(in crate::sources) mod client;
mod memory;
mod metrics;
mod queries;
mod reading;
pub(in crate::sources) mod schedule;
mod settings;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

pub use metrics::Metrics;
pub use settings::{CallerLabels, Query, Settings, SettingsError};

use super::Observer;
use crate::api::DependencySource;
use crate::graph::{Change, Coverage, Covered, ObjectKey, Observation};
use client::{Client, Failure};
use reading::Reading;
use schedule::{ALL, Pace, expression, fill, window};

/// How often is looked whether something is due. Fences that appear within this time are asked for together.
const TICK: Duration = Duration::from_secs(1);
/// Observations that are handed over in one piece, so that the length of the owner's queue bounds its memory.
const BATCH: usize = 1024;

/// A source that asks Prometheus.
pub struct Prometheus {
    client: Client,
    settings: Settings,
    queries: Vec<Asked>,
    observer: Observer,
    /// The host of the global proxy.
    detour: Arc<str>,
    /// Where to tell what has been handed over whole.
    told: mpsc::Sender<Change>,
    /// Whether the history of all fences that there were at first has been told.
    begun: bool,
    /// The fences whose history was asked for last.
    asked: HashSet<ObjectKey>,
    metrics: Metrics,
}

/// A query, and when all that it asks for was handed over last.
#[derive(Debug)]
struct Asked {
    query: Arc<Query>,
    answered: Option<Timestamp>,
}

/// What became of asking a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// All that it asks for was handed over.
    Whole,
    /// Some of it was: the answer came with warnings, or did not fit into the queue.
    InPart,
    /// It was not answered.
    No,
}

impl Prometheus {
    /// A source that hands on to `observer`, and says to `told` what it has handed over whole: the history of fences, and
    /// the calls of a time.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new(
        settings: Settings,
        observer: Observer,
        detour: Arc<str>,
        told: mpsc::Sender<Change>,
        metrics: Metrics,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let client = Client::new(&settings)?;
        let queries = settings.all_queries().into_iter().map(Asked::new).collect();
        let asked = HashSet::new();
        Ok(Self { client, settings, queries, observer, detour, told, begun: false, asked, metrics })
    }

    /// Asks again and again. Never ends.
    pub async fn run(mut self) {
        info!(url = self.settings.url, "asking Prometheus who calls whom");
        let interval = Duration::try_from(self.settings.interval).unwrap_or(TICK);
        let start = Instant::now();
        let (mut lately, mut history) = (Pace::new(interval, start), Pace::new(TICK, start));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.has_new_fences() {
                // It waits only so long, and that others wait in vain is no reason to let it wait too.
                history = Pace::new(TICK, Instant::now());
            }
            if history.is_due(Instant::now())
                && let Some(success) = self.ask_history(Timestamp::now()).await
            {
                history.done(success, Instant::now());
            }
            if lately.is_due(Instant::now()) {
                let success = self.ask_lately(Timestamp::now()).await;
                lately.done(success, Instant::now());
            }
        }
    }

    /// Asks what was called since the last whole answers, and tells whether all queries were answered. One that is not
    /// spoils only itself.
    pub async fn ask_lately(&mut self, now: Timestamp) -> bool {
        let (least, most) = (self.settings.window, self.settings.history);
        let (mut answers, mut shortest) = (Vec::new(), most.max(least));
        for number in 0..self.queries.len() {
            let asked = &self.queries[number];
            let back = window(asked.answered, now, least, most);
            shortest = shortest.min(back);
            let answered = self.ask(&asked.query, back, ALL, now).await;
            if answered == Answered::Whole {
                self.queries[number].answered = Some(now);
            }
            answers.push(answered);
        }
        if answers.iter().all(|answered| *answered == Answered::Whole) {
            answers.push(self.tell_covered(shortest, now).await);
        }
        self.metrics.passed(&answers, now);
        !answers.contains(&Answered::No)
    }

    /// Asks what the pods of the fences that nothing was told of yet have called, and tells whether all of it was
    /// handed over; `None` if there are no such fences.
    pub async fn ask_history(&mut self, now: Timestamp) -> Option<bool> {
        let fences: Vec<_> = self.observer.graph.load().without_history().cloned().collect();
        if fences.is_empty() {
            return None;
        }
        let namespaces: BTreeSet<_> = fences.iter().map(|fence| fence.namespace.clone()).collect();
        let (namespaces, mut success) = (expression(&namespaces), true);
        for asked in &self.queries {
            let answered = self.ask(&asked.query, self.settings.history, &namespaces, now).await;
            success &= answered == Answered::Whole;
        }
        self.asked = fences.iter().cloned().collect();
        if !success {
            return Some(false);
        }
        // Behind the observations: whoever sees a fence as told sees what was told.
        let _ = self.told.send(Change::HistoryTold(fences)).await;
        if !std::mem::replace(&mut self.begun, true) {
            // These were all fences: what was called while we were down has been told as well.
            self.tell_covered(self.settings.history, now).await;
        }
        Some(true)
    }

    /// Whether there are fences of which nothing was told or asked yet.
    #[must_use]
    pub fn has_new_fences(&self) -> bool {
        self.observer.graph.load().without_history().any(|fence| !self.asked.contains(fence))
    }

    /// Says that every call of the last time, `back` long, has been handed over, as far as Prometheus remembers it.
    async fn tell_covered(&self, back: SignedDuration, now: Timestamp) -> Answered {
        let query = memory::query(&self.settings.heartbeat, back);
        let answer = self.client.ask(&query).await.and_then(|body| client::read(&body));
        self.metrics.asked(answer.as_ref().err());
        let oldest = match answer {
            Ok(series) => memory::oldest(&series.all),
            Err(failure) => {
                warn!(%failure, query, "Prometheus did not answer; it is asked again");
                return Answered::No;
            }
        };
        let Some((begin, oldest)) = now.checked_sub(back).ok().zip(oldest) else {
            warn!(query, "Prometheus does not tell since when it looks; no host leaves on its word");
            return Answered::InPart;
        };
        let time = Coverage { since: begin.max(oldest), until: now };
        let covered = Covered { source: DependencySource::Prometheus, time };
        let _ = self.told.send(Change::Covered(covered)).await;
        Answered::Whole
    }

    async fn ask(
        &self,
        query: &Arc<Query>,
        back: SignedDuration,
        namespaces: &str,
        now: Timestamp,
    ) -> Answered {
        let answer = self.client.ask(&fill(&query.query, back, namespaces)).await;
        let read = match answer {
            Ok(body) => self.read(query.clone(), body, now).await,
            Err(failure) => Err(failure),
        };
        self.metrics.asked(read.as_ref().err());
        match read {
            Ok((news, in_part)) => {
                if self.hand_on(&news) && !in_part {
                    Answered::Whole
                } else {
                    Answered::InPart
                }
            }
            Err(failure) => {
                warn!(%failure, query = query.query, "Prometheus did not answer; it is asked again");
                Answered::No
            }
        }
    }

    /// Reads an answer where it holds nobody up: what is news, and whether more may be missing.
    async fn read(
        &self,
        query: Arc<Query>,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<(Vec<Observation>, bool), Failure> {
        let (graph, detour) = (self.observer.graph.load_full(), self.detour.clone());
        let reading = move || {
            let mut reading = Reading::new(&graph, &query, &detour, now);
            let series = client::read(&body)?;
            series.all.iter().for_each(|series| reading.read(series));
            Ok((reading.into_news(), series.in_part))
        };
        let read = tokio::task::spawn_blocking(reading).await;
        let ((tally, news), in_part) =
            read.unwrap_or_else(|_| Err(Failure::Unreadable("reading it failed".to_owned())))?;
        self.metrics.read(&tally);
        Ok((news, in_part))
    }

    fn hand_on(&self, news: &[Observation]) -> bool {
        let dropped = news.chunks(BATCH).map(|batch| self.observer.offer(batch.to_vec())).sum();
        self.metrics.dropped(dropped);
        dropped == 0
    }
}

impl Asked {
    fn new(query: Query) -> Self {
        Self { query: Arc::new(query), answered: None }
    }
}
