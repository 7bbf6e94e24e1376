//! The steps of a `Sidecar` that is not the only one for its pods, or whose pods change. Whatever pods leave one
//! `Sidecar` for another, or for none, both are wide at that moment: istiod moves them in one step.

use super::egress::Step;
use super::pace::Pace;
use super::{Egress, Scope};

/// Where a fence is heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A `Sidecar` that lists these hosts.
    Trimmed(Scope),
    /// A `Sidecar` that routes to everything, for as long as this is the goal.
    Wide,
    /// No `Sidecar`.
    Open,
    /// The `Sidecar` of somebody else, which routes to this much: the one that the fence took over, as it was, or the one
    /// that its pods get when its own is gone.
    Back(Scope),
}

impl Goal {
    /// What is routed to when the goal is reached.
    pub(super) fn scope(&self) -> &Scope {
        match self {
            Self::Trimmed(scope) | Self::Back(scope) => scope,
            Self::Wide | Self::Open => &Scope::Everything,
        }
    }
}

impl Egress {
    /// The next step towards `goal`. `in_place`: the `Sidecar` is, or is to be, one that was somebody else's.
    pub(super) fn head_for(&self, goal: &Goal, in_place: bool, pace: &Pace<'_>) -> Step {
        match goal {
            Goal::Back(base) => self.retreat(base, pace),
            _ if !self.diverted && (in_place || !self.is_wide()) => self.embark(goal.scope(), pace),
            Goal::Trimmed(target) => self.advance(target, pace),
            Goal::Wide if !self.diverted => self.advance(&Scope::nothing(), pace),
            Goal::Wide if self.is_wide() => Step { egress: self.clone(), wake: self.turning(pace) },
            Goal::Wide | Goal::Open => self.advance(&Scope::Everything, pace),
        }
    }

    /// Whether everything is routed.
    pub(super) fn is_wide(&self) -> bool {
        self.route == Scope::Everything
    }

    /// The first steps from a state that is, or was to be, somebody else's: what is to be routed gets clusters, the global proxy's
    /// among them, and then the catch-all turns, while no route changes.
    fn embark(&self, target: &Scope, pace: &Pace<'_>) -> Step {
        self.warm(target, pace)
            .unwrap_or_else(|| Self { diverted: true, widened: Some(pace.now), ..self.clone() }.stay(pace))
    }

    /// The next step back to a `Sidecar` of somebody else that routes to `base`: the same backwards, and then what else
    /// had clusters drains.
    fn retreat(&self, base: &Scope, pace: &Pace<'_>) -> Step {
        if !self.diverted && self.route != *base {
            return self.embark(base, pace);
        }
        if !self.diverted {
            let drained = self.drained_at(pace).filter(|at| *at > pace.now);
            let before = || Self { route: base.clone(), ..Self::open() };
            return Step { egress: drained.map_or_else(before, |_| self.clone()), wake: drained };
        }
        if self.turning(pace).is_some() {
            return self.clone().stay(pace);
        }
        self.warm(base, pace).unwrap_or_else(|| self.move_back(base, pace))
    }

    fn move_back(&self, base: &Scope, pace: &Pace<'_>) -> Step {
        let mut next = Self { routes_removed: Some(pace.now), ..self.clone() };
        if self.route == *base {
            (next.diverted, next.widened) = (false, None);
            return Step { wake: next.drained_at(pace), egress: next };
        }
        next.keep = self.clusters().beyond(base);
        (next.route, next.widened) = (base.clone(), Some(pace.now));
        next.stay(pace)
    }

    /// The step, or the wait, that gives clusters to whatever of `target` has none; `None` when all have had theirs for
    /// long enough.
    fn warm(&self, target: &Scope, pace: &Pace<'_>) -> Option<Step> {
        let cold = target.beyond(&self.clusters());
        if cold.is_nothing() {
            let wake = self.settled_at(pace).filter(|at| *at > pace.now)?;
            return Some(Step { egress: self.clone(), wake: Some(wake) });
        }
        let egress = Self { keep: self.keep.union(&cold), clusters_added: Some(pace.now), ..self.clone() };
        Some(Step { wake: egress.settled_at(pace), egress })
    }
}
