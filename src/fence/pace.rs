use jiff::{SignedDuration, Timestamp};

use crate::graph::{Debounce, Pushes, later};

/// How long proxies are given before the next step, each counted from when istiod begins to push the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From a new cluster to its route: istiod's debounce (100 ms), the push, and the warming in Envoy.
    pub settle: SignedDuration,
    /// The same for a change that concerns the whole mesh at once: all clusters, all routes, or the catch-all.
    pub open_settle: SignedDuration,
    /// From the last route to the end of its cluster: Envoy's drain time (45 s by default in Istio) and a margin.
    pub drain: SignedDuration,
    /// When istiod pushes.
    pub debounce: Debounce,
}

/// How long a write of a `Sidecar` takes at most.
const LONGEST_WRITE: SignedDuration = SignedDuration::from_secs(30);

/// When steps are due, as things stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace<'a> {
    /// How long proxies are given.
    pub(super) timings: &'a Timings,
    /// When they are reached.
    pub(super) pushes: &'a Pushes,
    /// When the API server had our latest write of the `Sidecar`, if we still know: its annotations say when that was
    /// decided.
    pub(super) written: Option<Timestamp>,
    /// Whether the status has all hosts that have clusters; routes wait until it has.
    pub(super) noted: bool,
    /// The time.
    pub(super) now: Timestamp,
}

impl Pace<'_> {
    /// When proxies have had `time` for what was decided at `decided`, if nothing else changes meanwhile.
    pub(super) fn due(&self, decided: Timestamp, time: SignedDuration) -> Option<Timestamp> {
        let had = self.had(decided);
        self.pushes.begun(had, self.now, &self.timings.debounce).checked_add(time).ok()
    }

    /// When the API server had what was decided at `decided`.
    pub(super) fn had(&self, decided: Timestamp) -> Timestamp {
        self.written.map_or(decided, |written| written.min(later(decided, LONGEST_WRITE)).max(decided))
    }
}
