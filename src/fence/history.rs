//! Before a live workload is fenced for the first time, a source that remembers is asked what it has used.

use jiff::Timestamp;

use super::status::Verdict;
use super::{Input, Plan, SidecarAction, Transition};
use crate::api::reasons;
use crate::graph::FenceFacts;

impl Input<'_> {
    /// Until when the fence has to wait for what is remembered of its pods; `None` if it has not.
    pub(super) fn waits_for_history(&self, facts: Option<&FenceFacts>) -> Option<Timestamp> {
        let created = self.fence.metadata.creation_timestamp.as_ref().map_or(self.since, |time| time.0);
        let until = self.untold(facts).then_some(self.since.max(created))?;
        self.settings
            .patience
            .and_then(|patience| until.checked_add(patience).ok())
            .filter(|until| *until > self.now)
    }

    /// Notes in a plan that nothing was told in time, when that makes a difference for the first time.
    pub(super) fn without_history(&self, facts: Option<&FenceFacts>, plan: Plan) -> Plan {
        if !self.untold(facts) || !matches!(plan.sidecar, SidecarAction::Apply(_)) {
            return plan;
        }
        let message =
            "Prometheus did not tell in time what the workload has used so far; it is fenced without";
        let told = Transition { reason: reasons::FENCING, message: message.to_owned(), warning: true };
        Plan { transitions: plan.transitions.into_iter().chain([told]).collect(), ..plan }
    }

    /// Whether the fence is about to be enforced for the first time, and there is somebody who might tell more.
    fn untold(&self, facts: Option<&FenceFacts>) -> bool {
        let told = facts.is_some_and(|facts| facts.history_told);
        self.settings.patience.is_some() && !told && !self.closing() && self.owned().is_none()
    }
}

/// How a fence stands that waits.
pub(super) fn awaiting() -> Verdict {
    Verdict::new(reasons::AWAITING_HISTORY, "Prometheus is asked what the workload has used so far")
}
