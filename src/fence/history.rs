//! Before a live workload is fenced, those who remember are asked what it has used: Prometheus, and its own proxies. While it
//! is only observed, its proxies are asked now and then: they may be the only ones who see its calls.

use jiff::{SignedDuration, Timestamp};

use super::plan::Situation;
use super::status::Verdict;
use super::{Input, Plan, SidecarAction};
use crate::api::{Transition, reasons};
use crate::graph::{Answers, later};

/// How long to wait before the proxies are asked once more, should nobody have told what became of it.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// How often the proxies of a workload that is only observed are asked at most, and at least.
const OBSERVATION: (SignedDuration, SignedDuration) = (ASK_AGAIN, SignedDuration::from_hours(1));

/// For whom a fence waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    prometheus: bool,
    /// Whether the proxies of its pods are to be asked.
    pub(super) proxies: bool,
    /// When to look again, if nobody tells anything before.
    pub(super) until: Timestamp,
}

impl Wait {
    /// How a fence stands that waits.
    pub(super) fn verdict(self) -> Verdict {
        let asked = match (self.prometheus, self.proxies) {
            (true, true) => "Prometheus and the proxies of its pods are",
            (true, false) => "Prometheus is",
            (false, _) => "the proxies of its pods are",
        };
        Verdict::new(reasons::AWAITING_HISTORY, format!("{asked} asked what the workload has used so far"))
    }
}

impl Situation<'_> {
    /// For whom the fence has to wait who remembers what its pods have used; `None` if it has not.
    pub(super) fn waits_for_history(&self) -> Option<Wait> {
        let Input { settings, now, .. } = self.input;
        let prometheus = self.patience_with_prometheus().filter(|until| *until > now);
        let proxies = settings.asks_proxies && self.own.is_none() && self.answers().is_none();
        let again = now.checked_add(ASK_AGAIN).ok().filter(|_| proxies);
        let until = [prometheus, again].into_iter().flatten().min()?;
        Some(Wait { prometheus: prometheus.is_some(), proxies, until })
    }

    /// Has the proxies of a workload that is only observed asked, each time when the fence is twice as old as the last time,
    /// or an hour later.
    pub(super) fn observing(&self, plan: Plan) -> Plan {
        let Input { fence, settings, now, .. } = self.input;
        if !settings.asks_proxies || self.own.is_some() {
            return plan;
        }
        let due = self.answers().map(|Answers { at, .. }| {
            let created = fence.metadata.creation_timestamp.as_ref().map_or(at, |time| time.0);
            later(at, at.duration_since(created).clamp(OBSERVATION.0, OBSERVATION.1))
        });
        let next = due.filter(|due| *due > now);
        let wake = next.unwrap_or_else(|| later(now, ASK_AGAIN));
        Plan { ask: next.is_none(), wake: plan.wake.into_iter().chain([wake]).min(), ..plan }
    }

    /// Until when the fence waits for Prometheus; `None` if it has told, or nobody asks it.
    fn patience_with_prometheus(&self) -> Option<Timestamp> {
        let Input { fence, settings, since, .. } = self.input;
        let created = fence.metadata.creation_timestamp.as_ref().map_or(since, |time| time.0);
        let from = self.untold().then_some(since.max(created))?;
        settings.patience.and_then(|patience| from.checked_add(patience).ok())
    }

    /// Notes in a plan who told nothing in time, when that makes a difference for the first time.
    pub(super) fn without_history(&self, plan: Plan) -> Plan {
        if self.own.is_some() || !matches!(plan.sidecar, SidecarAction::Apply(_)) {
            return plan;
        }
        let prometheus = self.untold().then(|| "Prometheus".to_owned());
        let silent = self.answers().filter(|answers| self.input.settings.asks_proxies && answers.silent > 0);
        let proxies =
            silent.map(|Answers { asked, silent, .. }| format!("the proxies of {silent} of {asked} pods"));
        let missing: Vec<_> = prometheus.into_iter().chain(proxies).collect();
        if missing.is_empty() {
            return plan;
        }
        let message = format!(
            "{} did not tell in time what the workload has used so far; it is fenced without",
            missing.join(" and ")
        );
        let told = Transition { reason: reasons::FENCING, message, warning: true };
        Plan { transitions: plan.transitions.into_iter().chain([told]).collect(), ..plan }
    }

    /// Whether the fence has no `Sidecar` yet, and Prometheus might tell more.
    fn untold(&self) -> bool {
        let told = self.facts.is_some_and(|facts| facts.history_told);
        self.input.settings.patience.is_some() && !told && self.own.is_none()
    }

    fn answers(&self) -> Option<Answers> {
        self.facts.and_then(|facts| facts.answers)
    }
}
