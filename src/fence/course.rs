//! Where a fence is heading, and the next step of its `Sidecar` on the way.

use std::sync::Arc;

use kube::ResourceExt;

use super::adoption::scope;
use super::egress::Step;
use super::handover::Goal;
use super::pace::Pace;
use super::plan::Situation;
use super::sidecar::{Content, build, is_up_to_date};
use super::stance::Stance;
use super::{Egress, Input, Scope, SidecarAction, writers};
use crate::graph::{Labels, is_for};
use crate::istio::{EgressListener, REVISION, Sidecar, SidecarSpec};

/// Whom a `Sidecar` is for.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The pods.
    pub(super) labels: Labels,
    /// The istiods that read it, by its label `istio.io/rev`; `None`: all, or whom somebody else says.
    pub(super) revision: Option<String>,
}

impl Selection {
    fn of(sidecar: &Sidecar) -> Self {
        let selector = sidecar.spec.workload_selector.as_ref();
        let labels = selector.map(|selector| Labels::from(&selector.labels)).unwrap_or_default();
        let revision = sidecar.labels().get(REVISION).filter(|_| writers::set_the_revision(sidecar));
        Self { labels, revision: revision.cloned() }
    }
}

impl Situation<'_> {
    /// Whom to select, in which state their proxies are, and where they are heading. Pods that change hands do so
    /// while everything is routed, so a selection changes only then, and stays as it is while a fence opens.
    pub(super) fn course(&self, stance: &Stance, wanted: Scope) -> (Selection, Egress, Goal) {
        let goal = match stance {
            Stance::Withdraw(_) => {
                let back = self.original().map(Arc::new).or_else(|| self.heir());
                back.map_or(Goal::Open, |theirs| Goal::Back(scope(&theirs)))
            }
            Stance::Wait(_) => Goal::Wide,
            Stance::Enforce if self.others().is_beside_a_move() => Goal::Wide,
            Stance::Enforce => Goal::Trimmed(wanted),
        };
        let asked = self.asked();
        let open = || Egress { route: self.base(), ..Egress::open() };
        let Some((sidecar, egress)) = &self.own else { return (asked, open(), goal) };
        let has = Selection::of(sidecar);
        let turning = egress.turning(&self.pace()).is_some();
        match goal {
            // Somebody took it off.
            _ if has.labels.is_empty() => (asked, egress.clone(), goal),
            Goal::Open | Goal::Back(_) => (has, egress.clone(), goal),
            _ if matches!(stance, Stance::Wait(_)) => (has, egress.clone(), goal),
            _ if self.is_same(sidecar, &has, &asked) => (asked, egress.clone(), goal),
            _ if egress.is_wide() && !turning && !self.others().is_beside_a_trimmed_one() => {
                (asked, Egress { widened: Some(self.input.now), ..egress.clone() }, goal)
            }
            _ => (has, egress.clone(), Goal::Wide),
        }
    }

    fn asked(&self) -> Selection {
        let selects = |was: SidecarSpec| Some(Labels::from(was.workload_selector?.labels));
        // One that was somebody else's stays with the pods that it was for.
        let theirs = self.original().and_then(selects);
        let labels = theirs.or_else(|| self.facts?.labels.clone()).unwrap_or_default();
        let label = self.input.fence.labels().get(REVISION).map(String::as_str);
        Selection { labels, revision: self.input.graph.revision(label).map(str::to_owned) }
    }

    /// Whether the same pods get the fence's `Sidecar` as it stands, as it `has` it, as when it is as it is `asked`.
    fn is_same(&self, sidecar: &Sidecar, has: &Selection, asked: &Selection) -> bool {
        let (one, other) = (&has.labels, &asked.labels);
        let pods = one == other || self.input.graph.select_the_same(&self.key.namespace, one, other);
        let label = sidecar.labels().get(REVISION).map(String::as_str);
        pods && is_for(label, has.revision.is_some(), asked.revision.as_deref())
    }

    fn pace(&self) -> Pace<'_> {
        let Input { graph, settings, written, now, .. } = self.input;
        Pace { timings: &settings.timings, pushes: graph.pushes(), written, noted: true, now }
    }

    /// The next step; `noted` tells whether the status has all hosts that have clusters by now.
    pub(super) fn step(&self, current: &Egress, goal: &Goal, noted: bool) -> Step {
        if self.contested().is_some() {
            return Step { egress: Egress { route: self.base(), ..Egress::open() }, wake: None };
        }
        let in_place = self.original().is_some();
        let step = current.head_for(goal, in_place, &Pace { noted, ..self.pace() });
        let goes = self.own.is_some() && !in_place && step.egress == self.without(goal);
        if goes && self.others().is_beside_a_trimmed_one() {
            return Step { egress: current.clone(), wake: None };
        }
        step
    }

    /// The `Sidecar` of somebody else that all pods of the fence's own get when that is gone, unless it lists everything
    /// or has listeners for some ports only. If another fence is about, all Sidecars are to be wide instead.
    fn heir(&self) -> Option<Arc<SidecarSpec>> {
        self.own.as_ref().filter(|_| self.original().is_none() && !self.others().has_neighbours())?;
        let spec = &self.input.graph.heir(&self.key)?.spec;
        let plain = !spec.egress.iter().any(EgressListener::is_bound);
        (plain && scope(spec) != Scope::Everything).then(|| spec.clone())
    }

    /// What the pods' proxies are told without the fence.
    fn without(&self, goal: &Goal) -> Egress {
        let route = if let Goal::Back(theirs) = goal { theirs.clone() } else { self.base() };
        Egress { route, ..Egress::open() }
    }

    pub(super) fn action(&self, selection: &Selection, step: &Step, goal: &Goal) -> SidecarAction {
        let Input { fence, settings, .. } = self.input;
        let (composed, original) = (self.others().composed(), self.original());
        // Only then it matters; and it is looked for among all pods of the namespace.
        let heir = (!step.egress.diverted).then(|| self.heir()).flatten();
        let content = Content {
            selection,
            egress: &step.egress,
            composed: &composed,
            original: original.as_ref(),
            heir: heir.as_deref(),
        };
        let as_before = step.egress == self.without(goal);
        match &self.own {
            None if as_before => SidecarAction::Leave,
            // Without labels it would be everybody's.
            Some(_) if as_before || selection.labels.is_empty() => self
                .given_back()
                .map_or(SidecarAction::Delete, |back| SidecarAction::GiveBack(Box::new(back))),
            own => {
                let desired = build(fence, &content, &settings.global_proxy);
                match own {
                    None if self.adopting.is_some() => SidecarAction::Adopt(Box::new(self.in_place(desired))),
                    Some((current, _)) if is_up_to_date(current, &desired) => SidecarAction::Leave,
                    Some((_, egress)) if step.egress.route == egress.route => {
                        SidecarAction::Warm(Box::new(desired))
                    }
                    _ => SidecarAction::Apply(Box::new(desired)),
                }
            }
        }
    }

    /// The same for the very object that was looked at.
    fn in_place(&self, mut desired: Sidecar) -> Sidecar {
        desired.metadata.uid = self.adopting.and_then(|sidecar| sidecar.metadata.uid.clone());
        desired.metadata.resource_version =
            self.adopting.and_then(|sidecar| sidecar.metadata.resource_version.clone());
        desired
    }
}
