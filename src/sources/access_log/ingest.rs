use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::entry::{LogEntry, Passed, decode};
use super::limits::BATCH;
use super::metrics::{Metrics, OpenStream};
use super::wire::{Message, Protocol, Unreadable};
use crate::api::DependencySource;
use crate::graph::{Caller, Graph, Judgement, Observation, PassedThrough};
use crate::sources::outcome::Tally;
use crate::sources::{Observer, Unusable};

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
        self.message_of(None, message, now)
    }

    /// The same of a proxy that tells of its own direct calls, with its pod as their caller.
    pub(super) fn message_of(
        &self,
        caller: Option<&Caller>,
        message: Message,
        now: Timestamp,
    ) -> Result<(), Unreadable> {
        let graph = self.observer.graph.load();
        let mut reading = Reading::new(&graph, &self.metrics, caller, now);
        let result = message
            .entries()
            .try_for_each(|entry| entry.map(|(protocol, bytes)| reading.read(protocol, bytes)));
        self.metrics.add(&reading.tally);
        let passed = reading.passed;
        self.hand_on(reading.news, now);
        self.metrics.add_dropped(self.observer.offer_passed_through(passed));
        result
    }

    /// Waits for a while until what the next message tells can be handed on.
    pub(super) async fn room(&self) {
        self.observer.room().await;
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
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
    /// Who made all the calls, directly; `None` if each entry says who took the detour.
    caller: Option<&'a Caller>,
    now: Timestamp,
    tally: Tally,
    news: News,
    /// The connections that somebody may want to know of that were passed through.
    passed: HashSet<PassedThrough>,
}

impl<'a> Reading<'a> {
    fn new(graph: &'a Graph, metrics: &'a Metrics, caller: Option<&'a Caller>, now: Timestamp) -> Self {
        let (tally, news, passed) = (Tally::default(), News::new(), HashSet::new());
        Self { graph, metrics, caller, now, tally, news, passed }
    }

    fn read(&mut self, protocol: Protocol, entry: Bytes) {
        let outcome = decode(protocol, entry).and_then(|entry| match self.caller {
            Some(caller) => self.direct(caller, &entry),
            None => self.detour(&entry),
        });
        self.tally.count(outcome);
    }

    /// A call that came through the global proxy.
    fn detour(&mut self, entry: &LogEntry) -> Result<Judgement, Unusable> {
        let upstream = match entry.upstream() {
            Err(Unusable::NotOutbound) => return self.pass_through(entry),
            upstream => upstream?,
        };
        let (host, caller) =
            (self.graph.called(upstream, || entry.asked()), Caller::Address(entry.caller()?));
        let count = |fence: &_, host: &_| self.metrics.detours().count(fence, host);
        let judgement = self.graph.judge_telling(&caller, host, self.now, count);
        self.learn(judgement, &caller, host, upstream, entry)
    }

    /// A call that its proxy made itself; if it went to the global proxy, that tells where it ended.
    fn direct(&mut self, caller: &Caller, entry: &LogEntry) -> Result<Judgement, Unusable> {
        let upstream = entry.upstream()?;
        if *upstream == *self.graph.mesh_wide().global_proxy {
            return Err(Unusable::Detour);
        }
        let host = self.graph.called(upstream, || entry.asked());
        let judgement = self.graph.judge(caller, host, self.now);
        self.learn(judgement, caller, host, upstream, entry)
    }

    fn learn(
        &mut self,
        judgement: Judgement,
        caller: &Caller,
        host: &str,
        upstream: &str,
        entry: &LogEntry,
    ) -> Result<Judgement, Unusable> {
        if matches!(judgement, Judgement::New | Judgement::Stale) {
            // Only news is worth the question whether the callee was willing.
            if !entry.is_let_in() && self.graph.is_guarded(upstream) {
                return Err(Unusable::Denied);
            }
            self.note(caller.clone(), host);
        }
        Ok(judgement)
    }

    /// Counts a call that was passed through, and notes it if it may come to be direct.
    fn pass_through(&mut self, entry: &LogEntry) -> Result<Judgement, Unusable> {
        let Some(Passed { caller, spoken, asked }) = entry.passed_through() else {
            return Err(Unusable::NotOutbound);
        };
        for fence in self.graph.workloads().fences_of(&caller).into_iter().flatten() {
            self.metrics.passthrough().count(fence, spoken);
        }
        let Some((host, port)) = asked else { return Err(Unusable::NotOutbound) };
        let call = PassedThrough { caller, host, port };
        match self.graph.judge_passed_through(&call, self.now) {
            Judgement::UnknownHost => Err(Unusable::NotOutbound),
            judgement => {
                if matches!(judgement, Judgement::New | Judgement::Stale) {
                    self.passed.insert(call);
                }
                Ok(judgement)
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
