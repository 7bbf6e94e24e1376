//! Whether the proxies have taken the limits, by what istiod tells of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::{PROGRAMMED, Statement, reasons};
use crate::graph::{Debounce, ObjectKey, Pushes, later};

/// What istiod told of the proxies that are connected to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When it was asked.
    pub at: Timestamp,
    /// When it had answered.
    pub until: Timestamp,
    /// The proxies that it showed, by their pods.
    pub proxies: HashMap<ObjectKey, ProxyState>,
    /// Why others may be missing: an istiod that did not answer.
    pub failure: Option<String>,
    /// Whether an istiod showed proxies of our own namespace only: it shows others to those whom it is told to trust.
    pub restricted: bool,
}

/// How a proxy stands to the listeners and filters that istiod has sent it last. The last of these is the worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProxyState {
    /// It has taken them.
    Synced,
    /// It has not answered yet, as far as we have seen since then.
    Pending(Timestamp),
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
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the condition says; `None` if what it said before stands, until there is a look that tells.
    pub statement: Option<Statement>,
    /// When istiod is to be asked again.
    pub look: Timestamp,
}

/// What a push takes to come to a proxy, and its answer to istiod.
const ROUND_TRIP: SignedDuration = SignedDuration::from_secs(1);
/// How old a look may be that says of a pod that its proxy is not connected: the pod may be younger.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// How long a proxy may take to answer before that is worth a word: some are answering whenever istiod pushes anything.
const GRACE: SignedDuration = SignedDuration::from_secs(15);
/// When proxies that may be about to answer are looked at again, ...
const SOON: SignedDuration = SignedDuration::from_secs(5);
/// ... and, if they are not, when all is looked at again that is amiss and may pass, or was written less than a minute ago.
const LATER: SignedDuration = SignedDuration::from_mins(1);
/// When what is said is likely to stay so. Other resources may have a proxy refuse what comes.
const SETTLED: SignedDuration = SignedDuration::from_mins(5);
/// How many proxies a message names.
const NAMED: usize = 3;

/// When there is to be a first look at what becomes of what was written at `written`, if nothing else changes.
#[must_use]
pub fn first_look(written: Timestamp, debounce: &Debounce) -> Timestamp {
    later(later(written, debounce.after), ROUND_TRIP)
}

impl Proxies<'_> {
    /// Whether the proxies of `pods` have taken the limits.
    pub(super) fn judge(&self, pods: &BTreeSet<ObjectKey>, pushes: &Pushes, now: Timestamp) -> Verdict {
        let begun = self.written.map(|written| pushes.begun(written, now, &self.debounce));
        let due = begun.map(|begun| first_look(begun, &self.debounce));
        let again = |look| Verdict { statement: None, look };
        let Some(look) = self.look else { return again(due.unwrap_or(now).max(now)) };
        let found = look.found(pods);
        let rejected = !found.rejected.is_empty() && self.written.is_none_or(|written| look.at >= written);
        if let Some(due) = due.filter(|due| look.at < *due && !rejected) {
            return again(due.max(now));
        }
        if !found.missing.is_empty() && !rejected {
            // A pod may be younger than the look, and its proxy may be on its way to another istiod.
            if look.until < later(now, -FRESH) {
                return again(now);
            }
            if let Some(back) = pushes.back(now, &self.debounce).filter(|back| look.at < *back) {
                return again(back);
            }
        }
        let waiting = found.pending.iter().map(|(since, _)| *since).min();
        let waiting = waiting.filter(|_| !rejected && found.missing.is_empty());
        if waiting.is_some_and(|since| look.at < later(since, GRACE)) {
            return again(later(look.at, SOON));
        }
        let statement = look.statement(&found, pods.len());
        let lasts =
            [reasons::PROGRAMMED, reasons::NO_PROXIES, reasons::NOT_VISIBLE].contains(&statement.reason);
        let is_old = due.is_none_or(|due| look.at >= later(due, LATER));
        let pause = if lasts && is_old { SETTLED } else { LATER };
        Verdict { statement: Some(statement), look: later(look.at, pause) }
    }
}

/// What a look found of some pods, as far as it is no good.
#[derive(Default)]
struct Found<'a> {
    missing: Vec<&'a ObjectKey>,
    pending: Vec<(Timestamp, &'a ObjectKey)>,
    rejected: Vec<(&'a str, &'a ObjectKey)>,
}

impl Look {
    fn found<'a>(&'a self, pods: &'a BTreeSet<ObjectKey>) -> Found<'a> {
        let mut found = Found::default();
        for pod in pods {
            match self.proxies.get(pod) {
                None => found.missing.push(pod),
                Some(ProxyState::Pending(since)) => found.pending.push((*since, pod)),
                Some(ProxyState::Rejected(words)) => found.rejected.push((words, pod)),
                Some(ProxyState::Synced) => {}
            }
        }
        found
    }

    /// What is said of so many proxies.
    fn statement(&self, found: &Found<'_>, all: usize) -> Statement {
        let Found { missing, pending, rejected } = found;
        let (holds, reason, message) = if all == 0 {
            let message = "no ready pod with a proxy has the labels of a limit that is in force";
            (Some(false), reasons::NO_PROXIES, message.to_owned())
        } else if let Some((words, _)) = rejected.first() {
            let names = names(rejected.iter().map(|(_, pod)| *pod), all);
            let message =
                format!("refused, for limits or for other resources: {names}; the first says: {words}");
            (Some(false), reasons::REJECTED, message)
        } else if let Some(failure) = self.failure.as_ref().filter(|_| !missing.is_empty()) {
            (None, reasons::ISTIOD_UNAVAILABLE, failure.clone())
        } else if self.restricted && !missing.is_empty() {
            let message = "istiod does not show the proxies of other namespaces: name Palisade's in its \
                           DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES";
            (None, reasons::NOT_VISIBLE, message.to_owned())
        } else if !missing.is_empty() {
            let names = names(missing.iter().copied(), all);
            (Some(false), reasons::PENDING, format!("not connected to istiod: {names}"))
        } else if !pending.is_empty() {
            let names = names(pending.iter().map(|(_, pod)| *pod), all);
            (Some(false), reasons::PENDING, format!("not answered yet: {names}"))
        } else {
            let message = "the proxies of all ready pods have taken what istiod has sent";
            (Some(true), reasons::PROGRAMMED, message.to_owned())
        };
        Statement { condition: PROGRAMMED, holds, reason, message }
    }
}

/// What a limiter says until there is a look that tells.
pub(super) fn awaited() -> Statement {
    let message = "istiod is asked what the proxies say once it has pushed what was written last".to_owned();
    Statement { condition: PROGRAMMED, holds: None, reason: reasons::PENDING, message }
}

/// Some of the `all` that there are, by name.
fn names<'a>(pods: impl ExactSizeIterator<Item = &'a ObjectKey>, all: usize) -> String {
    let (count, more) = (pods.len(), if pods.len() > NAMED { ", …" } else { "" });
    let names: Vec<_> = pods.take(NAMED).map(|pod| &*pod.name).collect();
    format!("{count} of {all} proxies ({}{more})", names.join(", "))
}
