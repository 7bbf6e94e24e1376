//! Which hosts leave because nobody has used them: learned ones for their retention, those of the spec for what it says.
//!
//! Unused is a word about calls that nobody saw, so it is taken only from a source that would have seen them: one
//! that sees direct calls, has looked without a gap for the whole retention, and sees this very workload, as it
//! has told of a call of it lately. All times are those up to which the source has looked: while it is down, no
//! time passes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{DependencySource, ServiceFence};
use crate::graph::{Coverage, FenceFacts, Graph, Known, Lifetime, Want, Wanted, later};

/// A fence's annotation with a time (RFC 3339) that has come: whatever it learned from calls that were last seen
/// before that is forgotten. What is still used is learned again, over the global proxy.
pub const FORGET_BEFORE: &str = "palisade.io/forget-before";
/// A status tells times in whole seconds.
const ROUNDING: SignedDuration = SignedDuration::from_secs(1);
/// How long to wait for a source to have looked further: at least, and at most.
const PATIENCE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(1), SignedDuration::from_hours(24));

/// The hosts whose time is over, and when the next one's may be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expiry {
    /// Those that were learned, each with the time of its last call.
    pub(super) hosts: Vec<(Arc<str>, Timestamp)>,
    /// Those that the spec asks for while they are called, as they stand in the status.
    pub(super) over: BTreeSet<String>,
    pub(super) wake: Option<Timestamp>,
}

/// What has expired of the hosts of a fence: what it was told to forget, and what nobody has used.
pub(super) fn of(fence: &ServiceFence, facts: &FenceFacts, graph: &Graph, now: Timestamp) -> Expiry {
    let watches = watches(facts, graph);
    let mut expiry = unused(facts, &watches, now);
    expiry.forget(fence, facts, now);
    expiry.end(facts, &watches, now);
    expiry
}

/// The same of another fence: that one looks after it, and its status tells.
pub(super) fn of_peer(facts: &FenceFacts) -> Expiry {
    let is_over = |want: &&Want| matches!(want.lifetime, Lifetime::WhileCalled { over: true, .. });
    let over = facts.wants.iter().filter(is_over).filter_map(Want::name).collect();
    Expiry { over, ..Expiry::default() }
}

impl Expiry {
    fn forget(&mut self, fence: &ServiceFence, facts: &FenceFacts, now: Timestamp) {
        let Some(before) = forget_before(fence) else { return };
        if before > now {
            self.wake_at(Some(before));
            return;
        }
        let told = |known: &Known| known.last_seen < before;
        self.hosts.retain(|(host, _)| facts.known.get(host).is_some_and(|known| !told(known)));
        let forgotten = facts.known.iter().filter(|(_, known)| told(known));
        self.hosts.extend(forgotten.map(|(host, known)| (host.clone(), known.last_seen)));
    }

    /// Notes what the spec asks for while it is called, and is not. What was over stays so until it is called, also if the source
    /// that said so is gone.
    fn end(&mut self, facts: &FenceFacts, watches: &[Coverage], now: Timestamp) {
        for want in facts.wants.iter() {
            let (Some(name), Lifetime::WhileCalled { within, base, over }) = (want.name(), want.lifetime)
            else {
                continue;
            };
            if is_unheard(&want.hosts, facts) {
                continue;
            }
            let called = facts.known.iter().filter(|(host, known)| want.hosts.includes(host, known));
            let last = called.map(|(_, known)| last_call(known, facts)).chain([base]).max().unwrap_or(base);
            let idle = Idle::of(last, within, watches, now);
            if matches!(idle, Idle::Long) || (over && later(last, within) <= now) {
                self.over.insert(name);
            } else if let Idle::Until(wake) = idle {
                self.wake_at(wake);
            }
        }
    }

    fn wake_at(&mut self, wake: Option<Timestamp>) {
        self.wake = self.wake.into_iter().chain(wake).min();
    }
}

/// What a fence's annotation tells it to forget: an end of the learned that a user asks for.
fn forget_before(fence: &ServiceFence) -> Option<Timestamp> {
    fence.annotations().get(FORGET_BEFORE)?.parse().ok()
}

fn unused(facts: &FenceFacts, watches: &[Coverage], now: Timestamp) -> Expiry {
    let mut expiry = Expiry::default();
    let Some(retention) = facts.learning.retention.duration() else { return expiry };
    let automatic: Vec<_> = facts.wants.iter().filter_map(while_called).collect();
    for (host, known) in &facts.known {
        // As long as the spec asks for it, if that is longer: the last call must not be forgotten before.
        let asking = automatic.iter().filter(|(wanted, _)| wanted.includes(host, known));
        let time = asking.map(|(_, within)| *within).chain([retention]).max().unwrap_or(retention);
        match Idle::of(last_call(known, facts), time, watches, now) {
            Idle::Long => expiry.hosts.push((host.clone(), known.last_seen)),
            Idle::Until(wake) => expiry.wake_at(wake),
        }
    }
    expiry
}

/// What is asked for while it is called, and at least how often.
fn while_called(want: &Want) -> Option<(&Wanted, SignedDuration)> {
    match want.lifetime {
        Lifetime::WhileCalled { within, .. } => Some((&want.hosts, within)),
        Lifetime::Always | Lifetime::Until(_) => None,
    }
}

/// Whether calls of what is asked for may go unnoted, because the fence may not learn more hosts, or those of all namespaces.
fn is_unheard(wanted: &Wanted, facts: &FenceFacts) -> bool {
    let is_bounded = facts.is_full() || !facts.learning.namespaces.is_empty();
    is_bounded && !matches!(wanted, Wanted::Host(host) if facts.known.contains_key(host))
}

/// When a host may have been called last: what is noted may be that much behind.
fn last_call(known: &Known, facts: &FenceFacts) -> Timestamp {
    later(known.last_seen, facts.learning.precision() + ROUNDING)
}

/// The time for which sources have watched the fence.
fn watches(facts: &FenceFacts, graph: &Graph) -> Vec<Coverage> {
    let all = graph.coverage().iter();
    all.filter(|(source, coverage)| told_lately(facts, **source, coverage)).map(|(_, time)| *time).collect()
}

/// Whether the source itself has told of a call of the workload lately: within two of the times after which it
/// tells of a repeated call again.
fn told_lately(facts: &FenceFacts, source: DependencySource, coverage: &Coverage) -> bool {
    let lately = facts.learning.precision() * 2;
    source.sees_direct_calls()
        && facts.known.values().any(|known| {
            known.sources.contains(&source) && coverage.until.duration_since(known.last_seen) <= lately
        })
}

/// Whether nobody has called a host.
enum Idle {
    /// For too long, by the word of a source.
    Long,
    /// Not until then, as far as anybody would see it. `None`: nobody would.
    Until(Option<Timestamp>),
}

impl Idle {
    /// Whether a source has looked as far as `time` after the `last` call, and after it began to watch.
    fn of(last: Timestamp, time: SignedDuration, watches: &[Coverage], now: Timestamp) -> Self {
        let due = |watch: &Coverage| later(last.max(watch.since), time);
        if watches.iter().any(|watch| due(watch) <= watch.until) {
            return Self::Long;
        }
        // A source stays as far behind as it is.
        let left = |watch: &Coverage| due(watch).duration_since(watch.until).clamp(PATIENCE.0, PATIENCE.1);
        Self::Until(watches.iter().filter_map(|watch| now.checked_add(left(watch)).ok()).min())
    }
}
