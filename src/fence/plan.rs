use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::Resource;

use super::declared;
use super::domains::{domains, known, next_end};
use super::expiry::{self, Expiry};
use super::fitness::{self, Pods};
use super::history::awaiting;
use super::sidecar::{build, is_up_to_date};
use super::status::{self, Verdict};
use super::{Defaults, Egress, GlobalProxy, Scope, Timings, Transition, conditions, is_owned_by};
use crate::api::{Dependency, ServiceFence, ServiceFenceStatus, reasons};
use crate::graph::{FenceFacts, Graph, Labels, ObjectKey};
use crate::istio::Sidecar;

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
}

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The fence.
    pub fence: &'a ServiceFence,
    /// The `Sidecar` of the fence's name, as it stands.
    pub sidecar: Option<&'a Sidecar>,
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
    /// Delete the one there is.
    Delete,
}

/// Decides what to do for a fence.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let key = ObjectKey::of(input.fence);
    let facts = input.graph.fence(&key);
    let expired =
        facts.map(|facts| expiry::of(input.fence, facts, input.graph, input.now)).unwrap_or_default();
    let mut domains =
        facts.map(|facts| domains(&key, facts, &expired, input.graph, input.now)).unwrap_or_default();
    if facts.is_some() {
        declared::add(&mut domains, input.graph, &key, input.settings.defaults.max_policy_hosts);
    }
    let plan = match obstacle(input, facts) {
        Some(verdict) => input.conclude(facts, SidecarAction::Leave, domains, &verdict, None),
        None => match input.waits_for_history(facts) {
            Some(until) => input.conclude(facts, SidecarAction::Leave, domains, &awaiting(), Some(until)),
            None => input.without_history(facts, input.advance(facts, domains)),
        },
    };
    let leaving = facts.and_then(|facts| next_end(facts, input.now));
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

/// What keeps a fence from being enforced.
fn obstacle(input: &Input<'_>, facts: Option<&FenceFacts>) -> Option<Verdict> {
    let name = ObjectKey::of(input.fence);
    if input.sidecar.is_some_and(|sidecar| !is_owned_by(sidecar, input.fence)) {
        let message = format!(
            "a Sidecar {name} exists that this fence did not write: delete or rename it to have the workload fenced"
        );
        return Some(Verdict::new(reasons::SIDECAR_CONFLICT, message)).filter(|_| !input.closing());
    }
    match facts.and_then(|facts| facts.labels.as_ref()) {
        _ if input.closing() => None,
        None => {
            let message =
                format!("there is no Service {name}: create it, or set spec.workloadSelector.labels");
            Some(Verdict::new(reasons::SERVICE_NOT_FOUND, message))
        }
        Some(labels) if labels.is_empty() => {
            let message = format!("the Service {name} has no selector: set spec.workloadSelector.labels");
            Some(Verdict::new(reasons::SERVICE_WITHOUT_SELECTOR, message))
        }
        Some(_) => misfit(input, &name),
    }
}

/// What keeps any `Sidecar` from doing the fence's pods good.
fn misfit(input: &Input<'_>, name: &ObjectKey) -> Option<Verdict> {
    if input.settings.defaults.system_namespaces.iter().any(|system| **system == *name.namespace) {
        let message = format!(
            "{} is a namespace of the cluster or the mesh itself: nothing is fenced there",
            name.namespace
        );
        return Some(Verdict::new(reasons::SYSTEM_NAMESPACE, message));
    }
    match fitness::pods(input.graph, name) {
        Pods::Unfit(unfit) => Some(Verdict::new(unfit.reason(), unfit.message())),
        // A Sidecar that no pod has is a finding of `istioctl analyze` (IST0101). Once there, it stays: a
        // workload that is scaled to zero comes back to it.
        Pods::None if input.owned().is_none() => Some(Verdict::new(
            reasons::NO_PODS,
            "no pod has been there yet: the Sidecar comes with the first",
        )),
        Pods::Fit | Pods::None => None,
    }
}

impl Input<'_> {
    /// Whether the workload is to get its full configuration back.
    pub(super) fn closing(&self) -> bool {
        self.open_all || !self.fence.spec.enable || self.fence.meta().deletion_timestamp.is_some()
    }

    /// Our own `Sidecar`; another one of the same name is left alone.
    pub(super) fn owned(&self) -> Option<&Sidecar> {
        self.sidecar.filter(|sidecar| is_owned_by(sidecar, self.fence))
    }

    fn advance(&self, facts: Option<&FenceFacts>, domains: BTreeMap<String, Dependency>) -> Plan {
        let labels = self.labels(facts);
        let target = self.target(&domains);
        let egress = self.current(&labels);
        let step = egress.advance(&target, self.now, &self.settings.timings);
        let verdict = self.verdict();
        let action = match self.owned() {
            None if !step.egress.diverted => SidecarAction::Leave,
            Some(_) if !step.egress.diverted => SidecarAction::Delete,
            current => {
                let desired = build(self.fence, &labels, &step.egress, &self.settings.global_proxy);
                match current {
                    Some(current) if is_up_to_date(current, &desired) => SidecarAction::Leave,
                    Some(_) if step.egress.route == egress.route => SidecarAction::Warm(Box::new(desired)),
                    _ => SidecarAction::Apply(Box::new(desired)),
                }
            }
        };
        // What has to wait for its turn in the Sidecar waits here as well, so that a burst is few writes of the
        // status too. If it is lost until then, the next call brings it again: it still takes the detour.
        let waits = action == SidecarAction::Leave && !target.is_within(&step.egress.route);
        let noted = self.fence.status.as_ref().filter(|_| waits).map(|status| status.domains.clone());
        self.conclude(facts, action, noted.unwrap_or(domains), &verdict, step.wake)
    }

    /// The labels to select by; a fence that opens keeps those that its `Sidecar` has.
    fn labels(&self, facts: Option<&FenceFacts>) -> Labels {
        let selector = self.owned().and_then(|sidecar| sidecar.spec.workload_selector.as_ref());
        let current = selector.map(|selector| Labels::from(selector.labels.clone()));
        let wanted = facts.and_then(|facts| facts.labels.clone());
        if self.closing() { current.or(wanted) } else { wanted }.unwrap_or_default()
    }

    /// The state of the proxies. Pods that a changed selector takes in have their full configuration yet.
    fn current(&self, labels: &Labels) -> Egress {
        let Some(sidecar) = self.owned() else { return Egress::open() };
        let egress = Egress::of(sidecar, self.now);
        let selector = sidecar.spec.workload_selector.as_ref();
        let selects = selector.is_some_and(|selector| selector.labels == *labels.as_map());
        if selects || egress.route == Scope::Everything {
            return egress;
        }
        Egress { diverted: true, ..Egress::open() }
    }

    fn target(&self, domains: &BTreeMap<String, Dependency>) -> Scope {
        if self.closing() {
            return Scope::Everything;
        }
        // A short name of a headless service has no address by which the global proxy could tell it apart, and
        // it always means the caller's own namespace.
        let headless = self
            .graph
            .registry()
            .headless_in(&ObjectKey::of(self.fence).namespace)
            .map(|host| host.to_string());
        let used = domains.values().flat_map(|domain| domain.hosts.iter().cloned());
        used.chain(headless).chain([self.settings.global_proxy.host.to_string()]).collect()
    }

    /// How the fence stands, by the `Sidecar` that is there, not by the one about to be written.
    fn verdict(&self) -> Verdict {
        match (self.closing(), self.owned()) {
            (true, None) => Verdict::new(reasons::OPEN, "the workload has its full configuration"),
            (true, Some(_)) => Verdict::new(reasons::OPENING, "the full configuration is being given back"),
            (false, None) => Verdict::new(reasons::FENCING, "the Sidecar is being brought in"),
            (false, Some(sidecar)) if Egress::of(sidecar, self.now).route == Scope::Everything => {
                Verdict::new(reasons::FENCING, "the Sidecar is being brought in")
            }
            (false, Some(_)) => Verdict::new(
                reasons::FENCED,
                "the workload gets what it uses; calls to anything else go through the global proxy",
            ),
        }
    }

    fn conclude(
        &self,
        facts: Option<&FenceFacts>,
        sidecar: SidecarAction,
        domains: BTreeMap<String, Dependency>,
        verdict: &Verdict,
        wake: Option<Timestamp>,
    ) -> Plan {
        let stays = self.owned().is_some() && sidecar != SidecarAction::Delete;
        let limit = self.settings.defaults.max_policy_hosts;
        let left_out = declared::left_out(self.graph, &ObjectKey::of(self.fence), limit);
        let degraded = conditions::degraded(self.fence, facts, left_out);
        let told = [status::transition(self.fence, verdict), conditions::transition(self.fence, &degraded)];
        let others = [conditions::learning(facts, &domains), degraded];
        Plan {
            hold: stays || matches!(sidecar, SidecarAction::Warm(_) | SidecarAction::Apply(_)),
            sidecar,
            status: status::build(self.fence, domains, verdict, others, self.now),
            expired: Vec::new(),
            transitions: told.into_iter().flatten().collect(),
            wake,
        }
    }
}
