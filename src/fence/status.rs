use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::Resource;

use super::conditions::{Statement, find};
use crate::api::{Dependency, READY, ServiceFence, ServiceFenceStatus, reasons};

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

    fn ready(&self) -> Statement {
        let holds = matches!(self.reason, reasons::FENCED | reasons::OPEN);
        Statement { condition: READY, holds, reason: self.reason, message: self.message.clone() }
    }
}

/// A change of a fence's `Ready` reason: what an Event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new reason.
    pub reason: &'static str,
    /// What it means for this fence.
    pub message: String,
    /// Whether somebody has to do something about it.
    pub warning: bool,
}

/// The status of a fence; equal to the old one if nothing changed.
pub(super) fn build(
    fence: &ServiceFence,
    domains: BTreeMap<String, Dependency>,
    verdict: &Verdict,
    others: impl IntoIterator<Item = Statement>,
    now: Timestamp,
) -> ServiceFenceStatus {
    let statements = [verdict.ready()].into_iter().chain(others);
    ServiceFenceStatus {
        observed_generation: fence.meta().generation,
        conditions: statements.map(|statement| statement.of(fence, now)).collect(),
        hosts: u32::try_from(domains.len()).unwrap_or(u32::MAX),
        domains,
        // Not ours: it is neither written nor a difference.
        metric_status: fence.status.as_ref().map(|status| status.metric_status.clone()).unwrap_or_default(),
    }
}

/// What the verdict changes for somebody who watches the fence's Events.
pub(super) fn transition(fence: &ServiceFence, verdict: &Verdict) -> Option<Transition> {
    let old = find(fence, READY).map(|condition| condition.reason.as_str());
    // What is under way is told when it is done, and a fence that was never enabled has nothing to tell.
    let quiet = matches!(
        verdict.reason,
        reasons::AWAITING_HISTORY | reasons::FENCING | reasons::OPENING | reasons::NO_PODS
    );
    let changed =
        old != Some(verdict.reason) && !quiet && !(old.is_none() && verdict.reason == reasons::OPEN);
    // Every other reason needs somebody.
    let warning = !matches!(verdict.reason, reasons::FENCED | reasons::OPEN);
    changed.then(|| Transition { reason: verdict.reason, message: verdict.message.clone(), warning })
}
