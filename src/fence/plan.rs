use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};

use super::conditions;
use super::declared::{self, Declared};
use super::domains::{domains, known, next_deadline};
use super::expiry::{self, Expiry};
use super::fitness;
use super::observed::observe;
use super::others::{self, Others};
use super::stance::Stance;
use super::status::{self, Report, Verdict};
use super::{Defaults, Egress, GlobalProxy, Scope, Timings, is_owned_by};
use crate::api::{
    CONFLICT, Dependency, ENFORCED, Mode, READY, ServiceFence, ServiceFenceStatus, Statement, Transition,
    reasons,
};
use crate::graph::{FenceFacts, Graph, ObjectKey};
use crate::istio::{Installation, REVISION, Sidecar};

/// What holds for all fences.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where calls to unknown hosts go.
    pub global_proxy: GlobalProxy,
    /// How long proxies are given between steps.
    pub timings: Timings,
    /// What the operator's configuration says.
    pub defaults: Defaults,
    /// How long a new fence waits for a source to tell what its pods have used so far; `None` if there is no such source.
    pub patience: Option<SignedDuration>,
    /// Whether the proxies of a workload's pods are asked, before it is fenced, what they have counted. Whoever asks them
    /// tells what became of it in any case.
    pub asks_proxies: bool,
    /// Which fences are ours. One that was ours, and has our finalizer, opens.
    pub istio: Installation,
}

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The fence.
    pub fence: &'a ServiceFence,
    /// The `Sidecar` of the fence's name, as it stands.
    pub sidecar: Option<&'a Sidecar>,
    /// When the API server had our latest write of it, if we still know.
    pub written: Option<Timestamp>,
    /// What is known of the mesh.
    pub graph: &'a Graph,
    /// What holds for all fences.
    pub settings: &'a Settings,
    /// Whether all fences are asked to open, before an uninstall or in an emergency.
    pub open_all: bool,
    /// Since when there has been a picture of the mesh.
    pub since: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whether the fence must not go before its `Sidecar` has: our finalizer is on it.
    pub hold: bool,
    /// What to do with the `Sidecar`.
    pub sidecar: SidecarAction,
    /// The fence's status.
    pub status: ServiceFenceStatus,
    /// The hosts that the status no longer has, each with the time of its last call: they can be forgotten once the
    /// status is written.
    pub expired: Vec<(Arc<str>, Timestamp)>,
    /// What changed for somebody who watches.
    pub transitions: Vec<Transition>,
    /// Whether the proxies of the fence's pods are to be asked what they have counted.
    pub ask: bool,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// What to do with a fence's `Sidecar`.
#[derive(Clone, Debug, PartialEq)]
pub enum SidecarAction {
    /// Nothing.
    Leave,
    /// Apply this one, which routes as before (clusters come or go): it need not wait for the status.
    Warm(Box<Sidecar>),
    /// Apply this one, once the status says what it lists.
    Apply(Box<Sidecar>),
    /// Apply this one in the place of somebody else's, in just the state that was looked at.
    Adopt(Box<Sidecar>),
    /// Give the one there is back to whom it was taken over from, as this.
    GiveBack(Box<Sidecar>),
    /// Delete the one there is.
    Delete,
}

/// Decides what to do for a fence.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let situation = Situation::of(*input);
    let expired = situation.expired();
    let stance = situation.stance();
    let domains = situation.domains(&stance, &expired);
    let leave =
        |verdict, wake| situation.conclude(SidecarAction::Leave, domains.clone(), &stance, verdict, wake);
    let plan = match (&stance, situation.waits_for_history()) {
        (Stance::Wait(_), _) if situation.steps_aside() => situation.advance(domains, &stance),
        (Stance::Wait(verdict), _) => leave(verdict, None),
        (Stance::Enforce, Some(wait)) => {
            Plan { ask: wait.proxies, ..leave(&wait.verdict(), Some(wait.until)) }
        }
        (Stance::Enforce, None) => situation.without_history(situation.advance(domains, &stance)),
        (Stance::Withdraw(_), _) if stance.is_of_interest() => {
            situation.observing(situation.advance(domains, &stance))
        }
        (Stance::Withdraw(_), _) => situation.advance(domains, &stance),
    };
    let leaving = situation.facts.and_then(|facts| next_deadline(facts, input.now));
    plan.letting_go(expired, leaving)
}

impl Plan {
    /// The same plan, for a fence of which some hosts have expired. What the status still has, because it waits for
    /// its turn, is not forgotten yet. The next host leaves by its spec at `leaving`.
    fn letting_go(mut self, expired: Expiry, leaving: Option<Timestamp>) -> Self {
        self.wake = [self.wake, expired.wake, leaving].into_iter().flatten().min();
        let has =
            |host: &str| self.status.domains.get(host).is_some_and(|domain| known(host, domain).is_some());
        self.expired = expired.hosts.into_iter().filter(|(host, _)| !has(host)).collect();
        self
    }
}

/// The input, and what is read off it once.
pub(super) struct Situation<'a> {
    pub(super) input: Input<'a>,
    pub(super) key: ObjectKey,
    pub(super) facts: Option<&'a FenceFacts>,
    declared: Declared,
    /// Our own `Sidecar`, and the state that it puts the proxies in; another one of the same name is left alone.
    pub(super) own: Option<(&'a Sidecar, Egress)>,
    /// The one of somebody else that is to be taken over.
    pub(super) adopting: Option<&'a Sidecar>,
}

impl<'a> Situation<'a> {
    fn of(input: Input<'a>) -> Self {
        let key = ObjectKey::of(input.fence);
        let owned = input.sidecar.filter(|sidecar| is_owned_by(sidecar, input.fence));
        let own = owned.map(|sidecar| (sidecar, Egress::of(sidecar, input.now)));
        let adoptable = Others::of(&key, input.graph, input.settings).adoptable();
        let adopting = input.sidecar.filter(|_| own.is_none() && adoptable.is_some());
        let declared = Declared::of(&key, input.graph, input.settings.defaults.max_declared_hosts);
        Self { facts: input.graph.fence(&key), declared, input, key, own, adopting }
    }

    fn expired(&self) -> Expiry {
        let Input { fence, graph, now, .. } = self.input;
        self.facts.map(|facts| expiry::of(fence, facts, graph, now)).unwrap_or_default()
    }

    pub(super) fn others(&self) -> Others<'_> {
        Others::of(&self.key, self.input.graph, self.input.settings)
    }

    /// Whether others wait for the fence's `Sidecar` to route to everything, for as long as pods change hands.
    fn steps_aside(&self) -> bool {
        self.own.is_some() && self.contested().is_none() && self.others().is_beside_a_move()
    }

    pub(super) fn is_named_by_another(&self) -> bool {
        self.input.sidecar.is_some() && self.own.is_none() && self.adopting.is_none()
    }

    /// Whether the fence is not to be: the workload gets its full configuration back.
    pub(super) fn closing(&self) -> bool {
        let fence = self.input.fence;
        let going = !fence.spec.enable || fence.meta().deletion_timestamp.is_some();
        self.input.open_all || going || self.is_left()
    }

    /// Whether the fence was ours, and is that of another revision now.
    pub(super) fn is_left(&self) -> bool {
        !self.input.settings.istio.covers(self.input.fence.labels())
    }

    pub(super) fn mode(&self) -> Mode {
        self.input.fence.spec.mode.unwrap_or(self.input.settings.defaults.mode)
    }

    fn advance(&self, domains: BTreeMap<String, Dependency>, stance: &Stance) -> Plan {
        let (selection, current, goal) = self.course(stance, self.wanted(&domains));
        let noted = current.keep.is_nothing() || self.has_noted(&domains, &current.clusters());
        let step = self.step(&current, &goal, noted);
        let action = self.action(&selection, &step, &goal);
        // What has to wait for its turn in the Sidecar waits here as well, so that a burst is few writes of the
        // status too. If it is lost until then, the next call brings it again: it still takes the detour.
        let waits = action == SidecarAction::Leave && !goal.scope().is_within(&step.egress.route);
        let noted = self.input.fence.status.as_ref().filter(|_| waits).map(|status| status.domains.clone());
        let domains = match noted {
            // Where all hosts have their clusters, they wait for their routes.
            Some(noted) if step.egress.keep == Scope::Everything => noted,
            Some(noted) => with_what_is_warm(noted, domains, &step.egress.clusters()),
            None => domains,
        };
        self.conclude(action, domains, stance, &self.verdict(stance), step.wake)
    }

    /// Whether the status has all of these hosts that have clusters.
    fn has_noted(&self, domains: &BTreeMap<String, Dependency>, clusters: &Scope) -> bool {
        let status = self.input.fence.status.as_ref();
        let news =
            domains.iter().filter(|(host, _)| !status.is_some_and(|it| it.domains.contains_key(*host)));
        !news.map(|(_, domain)| Scope::from_hosts(&domain.hosts)).any(|hosts| hosts.is_within(clusters))
    }

    /// The hosts of the fence: its own, and if it is for more than itself, those of the others.
    fn domains(&self, stance: &Stance, expired: &Expiry) -> BTreeMap<String, Dependency> {
        let Input { graph, settings, now, .. } = self.input;
        let of = |fence: &ObjectKey, facts: &FenceFacts, expired: &Expiry, declared: &Declared| {
            let mut domains = domains(fence, facts, expired, graph, now);
            declared.add(&mut domains);
            domains
        };
        let own = self.facts.map(|facts| of(&self.key, facts, expired, &self.declared));
        let mut domains = own.unwrap_or_default();
        if let Some(status) = &self.input.fence.status {
            declared::keep_unread(&mut domains, graph, &self.key, &status.domains);
        }
        if stance.is_of_interest() {
            let peers = self.others().peers().filter_map(|peer| Some((peer, graph.fence(peer)?)));
            for (peer, facts) in peers {
                let declared = Declared::of(peer, graph, settings.defaults.max_declared_hosts);
                others::share(&mut domains, of(peer, facts, &expiry::of_peer(facts), &declared));
            }
            for composed in self.others().composed() {
                others::compose(&mut domains, composed.hosts(&self.key.namespace, graph.registry()));
            }
        }
        domains
    }

    /// What the `Sidecar` of a fence with these hosts lists.
    fn wanted(&self, domains: &BTreeMap<String, Dependency>) -> Scope {
        let Input { graph, settings, .. } = self.input;
        // A short name of a headless service has no address by which the global proxy could tell it apart, and
        // it always means the caller's own namespace.
        let headless: Vec<_> =
            graph.registry().headless_in(&self.key.namespace).map(|host| host.to_string()).collect();
        let used = domains.values().flat_map(|domain| &domain.hosts).chain(&headless);
        let names = used.clone().filter_map(|listed| Some(listed.split_once('/')?.1));
        let routed =
            names.flat_map(|host| graph.routed_from(host, &self.key.namespace)).map(|host| host.to_string());
        let fixed = settings.global_proxy.host.to_string();
        used.cloned().chain(routed).chain([fixed]).collect()
    }

    /// How the fence stands, by the `Sidecar` that is there, not by the one about to be written.
    fn verdict(&self, stance: &Stance) -> Verdict {
        match (stance, self.is_trimmed()) {
            (Stance::Withdraw(verdict), _) if self.own.is_none() => verdict.clone(),
            (Stance::Withdraw(verdict), _) if verdict.is_of_a_sidecar() => verdict.clone(),
            (Stance::Withdraw(_), _) => {
                Verdict::new(reasons::OPENING, "the full configuration is being given back")
            }
            (Stance::Wait(verdict), _) => verdict.clone(),
            (Stance::Enforce, true) => self.unread().unwrap_or_else(|| {
                let message =
                    "the workload gets what it uses; calls to anything else go through the global proxy";
                Verdict::new(reasons::FENCED, message)
            }),
            (Stance::Enforce, false) => Verdict::new(reasons::FENCING, "the Sidecar is being brought in"),
        }
    }

    /// That no istiod of the fence's pods reads its `Sidecar` as it is labelled, by whomever.
    fn unread(&self) -> Option<Verdict> {
        let (sidecar, _) = self.own.as_ref()?;
        let revision = sidecar.labels().get(REVISION)?;
        fitness::is_unread(self.input.graph, &self.key, revision).then(|| {
            let message = format!(
                "the Sidecar has the label istio.io/rev={revision}, and the istiods of the pods are of another revision and do not read it: label the fence with the pods' revision (their annotation istio.io/rev) or with a tag, or take the label off"
            );
            Verdict::new(reasons::OTHER_REVISION, message)
        })
    }

    fn is_trimmed(&self) -> bool {
        self.own
            .as_ref()
            .is_some_and(|(_, egress)| egress.diverted && egress.route != self.base() && !egress.is_wide())
    }

    fn conclude(
        &self,
        sidecar: SidecarAction,
        domains: BTreeMap<String, Dependency>,
        stance: &Stance,
        verdict: &Verdict,
        wake: Option<Timestamp>,
    ) -> Plan {
        let Input { fence, graph, now, .. } = self.input;
        let goes = matches!(sidecar, SidecarAction::Delete | SidecarAction::GiveBack(_));
        let stays = self.own.is_some() && !goes;
        let degraded = conditions::degraded(fence, self.facts, self.declared.left_out);
        let conflict = self.contradiction(stance);
        // What makes it not ready, or did, is told once.
        let reason = |condition| conditions::find(fence, condition).map(|old| old.reason.as_str());
        let twice = conflict.reason == verdict.reason
            || reason(CONFLICT).is_some_and(|old| reason(READY) == Some(old));
        let told = [
            status::transition(fence, verdict),
            conditions::transition(fence, &conflict).filter(|_| !twice),
            conditions::transition(fence, &degraded),
        ];
        let enforced = self.enforced(stance, verdict);
        let learning = conditions::learning(self.facts, &domains);
        let old = fence.status.as_ref().and_then(|status| status.observed);
        let kept = stance.is_of_interest().then(|| self.wanted(&domains));
        let report = Report {
            statements: vec![verdict.ready(), enforced, conflict, learning, degraded],
            mode: (!self.closing()).then(|| self.mode()),
            observed: kept.map(|kept| observe(&kept, graph.registry(), old)),
            domains,
        };
        Plan {
            hold: stays || (!goes && sidecar != SidecarAction::Leave),
            sidecar,
            status: status::build(fence, report, now),
            expired: Vec::new(),
            transitions: told.into_iter().flatten().collect(),
            ask: false,
            wake,
        }
    }

    /// Whether the fence's own `Sidecar` is there, and trimmed.
    fn enforced(&self, stance: &Stance, verdict: &Verdict) -> Statement {
        if !self.is_trimmed() || matches!(stance, Stance::Withdraw(_)) {
            return verdict.says(ENFORCED, false);
        }
        let fenced = || Verdict::new(reasons::FENCED, "the Sidecar lists what the workload uses");
        self.unread().map_or_else(|| fenced().says(ENFORCED, true), |unread| unread.says(ENFORCED, false))
    }
}

/// The hosts that are noted, and those that have clusters by now.
fn with_what_is_warm(
    mut noted: BTreeMap<String, Dependency>,
    domains: BTreeMap<String, Dependency>,
    clusters: &Scope,
) -> BTreeMap<String, Dependency> {
    let warm = domains.into_iter().filter(|(_, domain)| Scope::from_hosts(&domain.hosts).is_within(clusters));
    for (host, domain) in warm {
        noted.entry(host).or_insert(domain);
    }
    noted
}
