//! Which learned hosts leave, because nobody has used them for their retention.
//!
//! Unused is a word about calls that nobody saw, so it is taken only from a source that would have seen them: one
//! that sees direct calls, has looked without a gap for the whole retention, and sees this very workload, as it
//! has told of a call of it lately. All times are those up to which the source has looked: while it is down, no
//! time passes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{DependencySource, ServiceFence};
use crate::graph::{Coverage, FenceFacts, Graph, Known, later};

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
    /// Each with the time of its last call.
    pub(super) hosts: Vec<(Arc<str>, Timestamp)>,
    pub(super) wake: Option<Timestamp>,
}

/// What has expired of the hosts of a fence: what it was told to forget, and what nobody has used.
pub(super) fn of(fence: &ServiceFence, facts: &FenceFacts, graph: &Graph, now: Timestamp) -> Expiry {
    let mut expiry = unused(facts, graph, now);
    let Some(before) = forget_before(fence) else { return expiry };
    if before > now {
        expiry.wake = expiry.wake.into_iter().chain([before]).min();
        return expiry;
    }
    let told = |known: &Known| known.last_seen < before;
    expiry.hosts.retain(|(host, _)| facts.known.get(host).is_some_and(|known| !told(known)));
    let forgotten = facts.known.iter().filter(|(_, known)| told(known));
    expiry.hosts.extend(forgotten.map(|(host, known)| (host.clone(), known.last_seen)));
    expiry
}

/// What a fence's annotation tells it to forget: an end of the learned that a user asks for.
fn forget_before(fence: &ServiceFence) -> Option<Timestamp> {
    fence.annotations().get(FORGET_BEFORE)?.parse().ok()
}

fn unused(facts: &FenceFacts, graph: &Graph, now: Timestamp) -> Expiry {
    let Some(retention) = facts.learning.retention.duration() else { return Expiry::default() };
    let watches: Vec<_> = graph
        .coverage()
        .iter()
        .filter(|(source, coverage)| told_lately(facts, **source, coverage))
        .map(|(_, coverage)| Watch { retention, coverage: *coverage })
        .collect();
    let mut expiry = Expiry::default();
    for (host, known) in &facts.known {
        let unused = SignedDuration::saturating_add(retention, facts.learning.precision() + ROUNDING);
        if watches.iter().any(|watch| watch.due(known, unused) <= watch.coverage.until) {
            expiry.hosts.push((host.clone(), known.last_seen));
        } else {
            let wakes = watches.iter().filter_map(|watch| watch.wake(known, unused, now));
            expiry.wake = expiry.wake.into_iter().chain(wakes).min();
        }
    }
    expiry
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

/// A source that watches the fence.
struct Watch {
    retention: SignedDuration,
    coverage: Coverage,
}

impl Watch {
    /// When the source must have looked, for the host to leave: `unused` after the last call that was noted, and a
    /// retention after it began to watch.
    fn due(&self, known: &Known, unused: SignedDuration) -> Timestamp {
        later(known.last_seen, unused).max(later(self.coverage.since, self.retention))
    }

    /// When the source is expected to have looked that far: it stays as far behind as it is.
    fn wake(&self, known: &Known, unused: SignedDuration, now: Timestamp) -> Option<Timestamp> {
        let left = self.due(known, unused).duration_since(self.coverage.until);
        now.checked_add(left.clamp(PATIENCE.0, PATIENCE.1)).ok()
    }
}
