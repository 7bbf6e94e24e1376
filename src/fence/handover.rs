//! The steps of a `Sidecar` that is not the only one for its pods, or whose pods change. Whatever pods leave one
//! `Sidecar` for another, or for none, both are wide at that moment: istiod moves them in one step.

use jiff::Timestamp;

use super::egress::Step;
use super::{Egress, Scope, Timings};

/// Where a fence is heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A `Sidecar` that lists these hosts.
    Trimmed(Scope),
    /// A `Sidecar` that routes to everything, for as long as this is the goal.
    Wide,
    /// No `Sidecar`.
    Open,
}

impl Goal {
    /// What is routed to when the goal is reached.
    pub(super) fn scope(&self) -> &Scope {
        match self {
            Self::Trimmed(target) => target,
            Self::Wide | Self::Open => &Scope::Everything,
        }
    }
}

impl Egress {
    /// The next step towards `goal`.
    pub(super) fn head_for(&self, goal: &Goal, now: Timestamp, timings: &Timings) -> Step {
        match goal {
            Goal::Trimmed(target) => self.advance(target, now, timings),
            Goal::Wide if !self.diverted => self.advance(&Scope::nothing(), now, timings),
            Goal::Wide if self.is_wide() => Step { egress: self.clone(), wake: self.turning(now, timings) },
            Goal::Wide | Goal::Open => self.advance(&Scope::Everything, now, timings),
        }
    }

    /// Whether everything is routed.
    pub(super) fn is_wide(&self) -> bool {
        self.route == Scope::Everything
    }
}
