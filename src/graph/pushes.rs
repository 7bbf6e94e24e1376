use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Change, Graph, ObjectKey};

/// What is known of when istiod pushes, and of whether the proxies hear it.
///
/// istiod (1.31) takes changes together until none has come for a moment (`PILOT_DEBOUNCE_AFTER`, 100 ms), but no
/// longer than `PILOT_DEBOUNCE_MAX` (10 s). Where something changes all the time, two writes of a `Sidecar` some hundred
/// milliseconds apart come to the proxies as one. We hear of nearly all that istiod hears of, and so see the pauses in
/// which it pushes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushes {
    /// When something changed last.
    last: Option<Timestamp>,
    /// The latest times in which nothing changed, the oldest first: from one change to the next.
    pauses: VecDeque<(Timestamp, Timestamp)>,
    istiods: BTreeMap<ObjectKey, Istiod>,
    /// Whether there was one once.
    has_run: bool,
    /// When one of several istiods last went or came.
    changed: Option<Timestamp>,
    /// When all of istiod came back last, or the API server that it listens to was last away.
    away: Option<Timestamp>,
}

/// What matters of a pod of istiod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Istiod {
    /// Whether proxies can connect to it.
    pub ready: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Where it is, once that is known.
    pub address: Option<IpAddr>,
}

/// How istiod and the proxies behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// How long nothing has to change before istiod pushes: its `PILOT_DEBOUNCE_AFTER`.
    pub after: SignedDuration,
    /// After how long it pushes in any case: its `PILOT_DEBOUNCE_MAX`.
    pub max: SignedDuration,
    /// How long proxies may take to come back to an istiod that was away, and istiod to the API server. Both try again
    /// after 30 s at the latest (Envoy 1.40's ADS streams, client-go's watches).
    pub reconnect: SignedDuration,
}

impl Debounce {
    /// How they do unless they are told otherwise.
    pub const DEFAULT: Self = Self {
        after: SignedDuration::from_millis(100),
        max: SignedDuration::from_secs(10),
        reconnect: SignedDuration::from_secs(30),
    };
}

/// Shorter pauses are not kept: no istiod is told to push so soon.
const SHORTEST: SignedDuration = SignedDuration::from_millis(50);
/// How many pauses are kept. If more are needed, a push is taken to be later than it was.
const KEPT: usize = 64;

impl Pushes {
    /// When istiod began to push what was written at `at`; if it has not, when it will if nothing else changes.
    #[must_use]
    pub fn begun(&self, at: Timestamp, now: Timestamp, debounce: &Debounce) -> Timestamp {
        // What comes to istiod a little later than to us must not make a pause of none.
        let enough = debounce.after + debounce.after / 2;
        let since = |(from, to): &(Timestamp, Timestamp)| ((*from).max(at), *to);
        let mut quiet = self.pauses.iter().map(since);
        let quiet = quiet.find(|(from, to)| to.duration_since(*from) >= enough).map(|(from, _)| from);
        let pushed = quiet.unwrap_or_else(|| self.last.map_or(at, |last| last.max(at)));
        let pushed = pushed.min(later(at, debounce.max));
        let back = |at: Timestamp| later(at, debounce.reconnect);
        // One that comes and goes again and again must not stop everything.
        let changed = self.changed.map(|changed| back(changed).min(back(back(at))));
        [Some(pushed), changed, self.away(now).map(back)].into_iter().flatten().max().unwrap_or(pushed)
    }

    /// The pods of istiod, to find those that are gone after a fresh listing.
    pub fn istiods(&self) -> impl Iterator<Item = &ObjectKey> {
        self.istiods.keys()
    }

    /// When proxies have had time to come back to istiod from what last happened to it, if anything has.
    #[must_use]
    pub fn back(&self, now: Timestamp, debounce: &Debounce) -> Option<Timestamp> {
        self.changed.max(self.away(now)).map(|at| later(at, debounce.reconnect))
    }

    /// The pods of istiod that can be connected to, and where they are.
    pub fn ready_istiods(&self) -> impl Iterator<Item = (&ObjectKey, IpAddr)> {
        let ready = self.istiods.iter().filter(|(_, istiod)| istiod.ready);
        ready.filter_map(|(key, istiod)| Some((key, istiod.address?)))
    }

    /// Whether there is an istiod, or was, and no proxy can connect to one. Where none has run in the cluster, nothing is known
    /// of it.
    fn is_away(&self) -> bool {
        self.has_run && self.istiods.values().all(|istiod| !istiod.ready)
    }

    /// When istiod, or the API server that it listens to, was away last.
    fn away(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_away() { Some(now) } else { self.away }
    }

    /// Notes that something changed.
    fn note_change(&mut self, at: Timestamp) {
        if let Some(last) = self.last.filter(|last| at.duration_since(*last) >= SHORTEST) {
            self.pauses.push_back((last, at));
            if self.pauses.len() > KEPT {
                self.pauses.pop_front();
            }
        }
        self.last = self.last.max(Some(at));
    }

    /// Takes in what tells of istiod and the API server.
    fn apply(&mut self, change: Change) {
        let was_away = self.is_away();
        let changed = match change {
            Change::Istiod(key, istiod) => {
                self.has_run = true;
                let news = self.istiods.insert(key, istiod) != Some(istiod);
                news.then_some(istiod.since)
            }
            Change::IstiodGone(key, at) => self.istiods.remove(&key).map(|_| at),
            Change::Disturbed(at) => {
                self.away = self.away.max(Some(at));
                None
            }
            _ => None,
        };
        self.changed = self.changed.max(changed);
        if was_away && !self.is_away() {
            self.away = self.away.max(changed);
        }
    }
}

impl Graph {
    /// What is known of when istiod pushes.
    #[must_use]
    pub fn pushes(&self) -> &Pushes {
        &self.pushes
    }

    /// Notes when `change` was heard of, if istiod hears of it too.
    pub fn note(&mut self, change: &Change, at: Timestamp) {
        if self.is_heard_by_istiod(change) {
            Arc::make_mut(&mut self.pushes).note_change(at);
        }
    }

    pub(super) fn apply_to_pushes(&mut self, change: Change) {
        Arc::make_mut(&mut self.pushes).apply(change);
    }

    /// Whether istiod hears of a change too. It does of whatever is not known to be ours alone: to wait once more breaks
    /// no call.
    fn is_heard_by_istiod(&self, change: &Change) -> bool {
        match change {
            // A pod's status changes more often than its address and its readiness.
            Change::Pod(pod) => self.workloads.pod(&pod.key) != Some(pod),
            Change::Istiod(..)
            | Change::IstiodGone(..)
            | Change::Disturbed(_)
            | Change::Fence(_)
            | Change::FenceGone(_)
            | Change::Limiter(_)
            | Change::LimiterGone(_)
            | Change::Call(_)
            | Change::PassedThrough(..)
            | Change::Covered(_)
            | Change::HistoryTold(_)
            | Change::ProxiesAsked(..)
            | Change::Forget(..) => false,
            _ => true,
        }
    }
}

/// The time that is `by` later; the last one there is, if that is too late.
pub(crate) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
