use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::Resource;

use super::conditions::find;
use crate::api::{
    Dependency, Mode, Observed, READY, ServiceFence, ServiceFenceStatus, Statement, Transition, reasons,
};

/// How a fence stands: one of the documented reasons of its `Ready` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether it tells of somebody else's `Sidecar` that the fence steps back from.
    pub(super) fn is_of_a_sidecar(&self) -> bool {
        [reasons::SIDECAR_CONFLICT, reasons::REGISTRY_ONLY].contains(&self.reason)
    }

    fn is_ready(&self) -> bool {
        let ready = [reasons::FENCED, reasons::OPEN, reasons::OBSERVING, reasons::CARRIED_BY];
        ready.contains(&self.reason)
    }

    pub(super) fn ready(&self) -> Statement {
        self.says(READY, self.is_ready())
    }

    pub(super) fn says(&self, condition: &'static str, holds: bool) -> Statement {
        Statement { condition, holds: Some(holds), reason: self.reason, message: self.message.clone() }
    }
}

/// What a status is made of.
#[derive(Debug)]
pub(super) struct Report {
    /// What the conditions say, in their order.
    pub(super) statements: Vec<Statement>,
    pub(super) mode: Option<Mode>,
    pub(super) observed: Option<Observed>,
    pub(super) domains: BTreeMap<String, Dependency>,
}

/// The status of a fence; equal to the old one if nothing changed.
pub(super) fn build(fence: &ServiceFence, report: Report, now: Timestamp) -> ServiceFenceStatus {
    let before = fence.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = fence.meta().generation;
    ServiceFenceStatus {
        observed_generation: generation,
        conditions: report
            .statements
            .into_iter()
            .map(|statement| statement.of(before, generation, now))
            .collect(),
        mode: report.mode,
        observed: report.observed,
        hosts: u32::try_from(report.domains.len()).unwrap_or(u32::MAX),
        domains: report.domains,
        // Not ours: it is neither written nor a difference.
        metric_status: fence.status.as_ref().map(|status| status.metric_status.clone()).unwrap_or_default(),
    }
}

/// What the verdict changes for somebody who watches the fence's Events.
pub(super) fn transition(fence: &ServiceFence, verdict: &Verdict) -> Option<Transition> {
    let old = find(fence, READY).map(|condition| condition.reason.as_str());
    // What is under way is told when it is done, and a fence that never was in force has nothing to tell.
    let quiet = matches!(
        verdict.reason,
        reasons::AWAITING_HISTORY | reasons::FENCING | reasons::OPENING | reasons::NO_PODS
    );
    let idle = old.is_none() && matches!(verdict.reason, reasons::OPEN | reasons::OBSERVING);
    let changed = old != Some(verdict.reason) && !quiet && !idle;
    // Every other reason needs somebody.
    let warning = !verdict.is_ready();
    changed.then(|| Transition { reason: verdict.reason, message: verdict.message.clone(), warning })
}
