//! Before a live workload is fenced for the first time, a source that remembers is asked what it has used.

use jiff::Timestamp;

use super::plan::Situation;
use super::status::Verdict;
use super::{Input, Plan, SidecarAction, Transition};
use crate::api::reasons;

impl Situation<'_> {
    /// Until when the fence has to wait for what is remembered of its pods; `None` if it has not.
    pub(super) fn waits_for_history(&self) -> Option<Timestamp> {
        let Input { fence, settings, since, now, .. } = self.input;
        let created = fence.metadata.creation_timestamp.as_ref().map_or(since, |time| time.0);
        let from = self.untold().then_some(since.max(created))?;
        settings.patience.and_then(|patience| from.checked_add(patience).ok()).filter(|until| *until > now)
    }

    /// Notes in a plan that nothing was told in time, when that makes a difference for the first time.
    pub(super) fn without_history(&self, plan: Plan) -> Plan {
        if !self.untold() || !matches!(plan.sidecar, SidecarAction::Apply(_)) {
            return plan;
        }
        let message =
            "Prometheus did not tell in time what the workload has used so far; it is fenced without";
        let told = Transition { reason: reasons::FENCING, message: message.to_owned(), warning: true };
        Plan { transitions: plan.transitions.into_iter().chain([told]).collect(), ..plan }
    }

    /// Whether the fence has no `Sidecar` yet, and there is somebody who might tell more.
    fn untold(&self) -> bool {
        let told = self.facts.is_some_and(|facts| facts.history_told);
        self.input.settings.patience.is_some() && !told && self.own.is_none()
    }
}

/// How a fence stands that waits.
pub(super) fn awaiting() -> Verdict {
    Verdict::new(reasons::AWAITING_HISTORY, "Prometheus is asked what the workload has used so far")
}
