use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::entry::{Call, LogEntry, Passed, decode};
use super::limits::BATCH;
use super::metrics::{Metrics, OpenStream, Outcome, Tally};
use super::wire::{Message, Protocol, Unreadable};
use crate::api::DependencySource;
use crate::graph::{Caller, Graph, Judgement, Observation, PassedThrough};
use crate::sources::Observer;

/// Reads messages: judges every entry, counts what became of it, and hands on what is news.
#[derive(Clone, Debug)]
pub struct Ingest {
    observer: Observer,
    metrics: Metrics,
}

impl Ingest {
    /// A reader that hands on to `observer`.
    #[must_use]
    pub fn new(observer: Observer, metrics: Metrics) -> Self {
        Self { observer, metrics }
    }

    /// Reads one message. A call that is news is handed on once, however many entries tell of it; it counts as
    /// seen at `now`, because the clocks of proxies are not ours.
    ///
    /// # Errors
    /// If the list of entries is broken. What came before the break is learned all the same.
    pub fn message(&self, message: Message, now: Timestamp) -> Result<(), Unreadable> {
        let graph = self.observer.graph.load();
        let mut reading = Reading::new(&graph, &self.metrics, now);
        let result = message
            .entries()
            .try_for_each(|entry| entry.map(|(protocol, bytes)| reading.read(protocol, bytes)));
        self.metrics.add(&reading.tally);
        let passed = reading.passed;
        self.hand_on(reading.news, now);
        self.metrics.add_dropped(self.observer.offer_passed_through(passed));
        result
    }

    pub(super) fn stream(&self) -> OpenStream {
        self.metrics.stream()
    }

    fn hand_on(&self, news: News, now: Timestamp) {
        if news.is_empty() {
            return;
        }
        let observations: Vec<_> =
            news.into_iter().flat_map(|(host, callers)| observe(host, callers, now)).collect();
        for batch in observations.chunks(BATCH) {
            self.metrics.add_dropped(self.observer.offer(batch.to_vec()));
        }
    }
}

/// Callers by the host that they called.
type News = HashMap<Arc<str>, HashSet<Caller>>;

fn observe(host: Arc<str>, callers: HashSet<Caller>, seen: Timestamp) -> impl Iterator<Item = Observation> {
    let source = DependencySource::AccessLog;
    callers.into_iter().map(move |caller| Observation { caller, host: host.clone(), source, seen })
}

/// The reading of one message.
struct Reading<'a> {
    graph: &'a Graph,
    metrics: &'a Metrics,
    now: Timestamp,
    tally: Tally,
    news: News,
    /// The connections that somebody may want to know of that were passed through.
    passed: HashSet<PassedThrough>,
}

impl<'a> Reading<'a> {
    fn new(graph: &'a Graph, metrics: &'a Metrics, now: Timestamp) -> Self {
        Self { graph, metrics, now, tally: Tally::default(), news: News::new(), passed: HashSet::new() }
    }

    fn read(&mut self, protocol: Protocol, entry: Bytes) {
        let outcome = decode(protocol, entry).and_then(|entry| match entry.call() {
            Ok(call) => Ok(self.judge(call, &entry)),
            Err(Outcome::NotOutbound) => Err(self.pass_through(&entry)),
            Err(outcome) => Err(outcome),
        });
        self.tally.count(outcome.unwrap_or_else(|outcome| outcome));
    }

    fn judge(&mut self, call: Call<'_>, entry: &LogEntry) -> Outcome {
        let host = self.graph.called(call.upstream, || call.asked());
        let caller = Caller::Address(call.caller);
        let detour = |fence: &_, host: &_| self.metrics.detours().count(fence, host);
        let judgement = self.graph.judge_telling(&caller, host, self.now, detour);
        if matches!(judgement, Judgement::New | Judgement::Stale) {
            // Only news is worth the question whether the callee was willing.
            if !entry.is_let_in() && self.graph.is_guarded(call.upstream) {
                return Outcome::Denied;
            }
            self.note(caller, host);
        }
        judgement.into()
    }

    /// Counts a call that was passed through, and notes it if it may come to be direct.
    fn pass_through(&mut self, entry: &LogEntry) -> Outcome {
        let Some(Passed { caller, spoken, asked }) = entry.passed_through() else {
            return Outcome::NotOutbound;
        };
        for fence in self.graph.workloads().fences_of(&caller).into_iter().flatten() {
            self.metrics.passthrough().count(fence, spoken);
        }
        let Some((host, port)) = asked else { return Outcome::NotOutbound };
        let call = PassedThrough { caller, host, port };
        match self.graph.judge_passed_through(&call, self.now) {
            Judgement::UnknownHost => Outcome::NotOutbound,
            judgement => {
                if matches!(judgement, Judgement::New | Judgement::Stale) {
                    self.passed.insert(call);
                }
                judgement.into()
            }
        }
    }

    fn note(&mut self, caller: Caller, host: &str) {
        match self.news.get_mut(host) {
            Some(callers) => drop(callers.insert(caller)),
            None => drop(self.news.insert(host.into(), HashSet::from([caller]))),
        }
    }
}
