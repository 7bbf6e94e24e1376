//! Whether the proxies have taken the limits, by what istiod tells of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::{PROGRAMMED, Statement, reasons};
use crate::graph::{Debounce, ObjectKey, Pushes};

/// What istiod told of the proxies that are connected to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When it was asked.
    pub at: Timestamp,
    /// The proxies that it showed, by their pods.
    pub proxies: HashMap<ObjectKey, ProxyState>,
    /// Why others may be missing: an istiod that did not answer.
    pub failure: Option<String>,
    /// Whether it showed proxies of our own namespace only: it shows others to those whom it is told to trust.
    pub restricted: bool,
}

/// How a proxy stands to the listeners and filters that istiod has sent it last. The last of these is the worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProxyState {
    /// It has taken them.
    Synced,
    /// It has not answered yet.
    Pending,
    /// It has refused them, in these words.
    Rejected(Arc<str>),
}

/// What is known of the proxies of a limiter.
#[derive(Clone, Copy, Debug)]
pub struct Proxies<'a> {
    /// What istiod told last.
    pub look: Option<&'a Look>,
    /// When we last wrote the limiter's `EnvoyFilter`s, if we have since we started.
    pub written: Option<Timestamp>,
    /// When istiod pushes.
    pub debounce: Debounce,
    /// The time.
    pub now: Timestamp,
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What the condition says; `None` if what it said before stands, until there is a look that tells.
    pub(super) statement: Option<Statement>,
    /// When istiod is to be asked again.
    pub(super) look: Timestamp,
}

/// What a push takes to come to a proxy and its answer to istiod.
const ROUND_TRIP: SignedDuration = SignedDuration::from_secs(1);
/// How old a look may be that says of a pod that its proxy is not connected: the pod may be younger.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// When proxies that may be about to answer are looked at again, ...
const SOON: SignedDuration = SignedDuration::from_secs(5);
/// ... for how long, ...
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);
/// ... and when those that are taking long, or have refused.
const LATER: SignedDuration = SignedDuration::from_mins(1);
/// When nothing is amiss: other resources may have a proxy refuse what comes.
const SETTLED: SignedDuration = SignedDuration::from_mins(5);
/// How many proxies a message names.
const NAMED: usize = 3;

impl Proxies<'_> {
    /// Whether the proxies of `pods` have taken the limits.
    pub(super) fn judge(&self, pods: &BTreeSet<ObjectKey>, pushes: &Pushes) -> Verdict {
        // Who is away pushes nothing, and that is all there is to say.
        let written = self.written.filter(|_| !pushes.is_away());
        let begun = written.map(|written| pushes.begun(written, self.now, &self.debounce));
        let due = begun.map_or(Timestamp::MIN, |begun| later(begun, ROUND_TRIP));
        let again = |look| Verdict { statement: None, look };
        let Some(look) = self.look.filter(|look| look.at >= due) else { return again(due.max(self.now)) };
        let fresh = look.at >= later(self.now, -FRESH);
        let missing = pods.iter().filter(|pod| !look.proxies.contains_key(pod));
        if !fresh && !look.restricted && missing.count() > 0 {
            return again(self.now);
        }
        let statement = look.statement(pods);
        let pause = match statement.reason {
            reasons::PROGRAMMED | reasons::NO_PROXIES | reasons::NOT_VISIBLE => SETTLED,
            reasons::PENDING if look.at < later(due, PATIENCE) => SOON,
            _ => LATER,
        };
        Verdict { statement: Some(statement), look: later(look.at, pause) }
    }
}

impl Look {
    /// What is said of the proxies of these pods.
    fn statement(&self, pods: &BTreeSet<ObjectKey>) -> Statement {
        let of = |wanted: fn(&ProxyState) -> bool| -> Vec<_> {
            let state = |pod: &&ObjectKey| self.proxies.get(*pod).is_some_and(wanted);
            pods.iter().filter(state).collect()
        };
        let missing: Vec<_> = pods.iter().filter(|pod| !self.proxies.contains_key(*pod)).collect();
        let rejected = of(|state| matches!(state, ProxyState::Rejected(_)));
        let pending = of(|state| *state == ProxyState::Pending);
        let (holds, reason, message) = if pods.is_empty() {
            let message = "no ready pod with a proxy has the labels of a limit that is in force";
            (Some(false), reasons::NO_PROXIES, message.to_owned())
        } else if let Some(first) = rejected.first() {
            (Some(false), reasons::REJECTED, self.refusal(first, &rejected, pods.len()))
        } else if let Some(failure) = self.failure.as_ref().filter(|_| !missing.is_empty()) {
            (None, reasons::ISTIOD_UNAVAILABLE, failure.clone())
        } else if self.restricted && !missing.is_empty() {
            let message = "istiod does not show the proxies of other namespaces: name Palisade's in its \
                           DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES";
            (None, reasons::NOT_VISIBLE, message.to_owned())
        } else if !missing.is_empty() {
            let message = format!("not connected to istiod: {}", names(&missing, pods.len()));
            (Some(false), reasons::PENDING, message)
        } else if !pending.is_empty() {
            (Some(false), reasons::PENDING, format!("not answered yet: {}", names(&pending, pods.len())))
        } else {
            (
                Some(true),
                reasons::PROGRAMMED,
                "the proxies of all ready pods have taken the limits".to_owned(),
            )
        };
        Statement { condition: PROGRAMMED, holds, reason, message }
    }

    fn refusal(&self, first: &ObjectKey, rejected: &[&ObjectKey], all: usize) -> String {
        let why = match self.proxies.get(first) {
            Some(ProxyState::Rejected(why)) => &**why,
            _ => "",
        };
        let names = names(rejected, all);
        format!(
            "refused what istiod sends, from limits or from other resources: {names}; the first says: {why}"
        )
    }
}

/// What a limiter says until there is a look that tells.
pub(super) fn awaited() -> Statement {
    let message = "istiod is asked what the proxies say once it has pushed what was written last".to_owned();
    Statement { condition: PROGRAMMED, holds: None, reason: reasons::PENDING, message }
}

/// Some of the `of` that there are, by name.
fn names(pods: &[&ObjectKey], of: usize) -> String {
    let names: Vec<_> = pods.iter().take(NAMED).map(|pod| &*pod.name).collect();
    let more = if pods.len() > NAMED { ", …" } else { "" };
    format!("{} of {of} proxies ({}{more})", pods.len(), names.join(", "))
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}
