//! The `Sidecar` that somebody else wrote and has a fence take over: in place, so that no pod changes hands, and to be
//! given back as it was.

use std::sync::Arc;

use kube::ResourceExt;

use super::others::Others;
use super::plan::Situation;
use super::{CLUSTERS_ADDED, MANAGED_BY, ROUTES_REMOVED, Scope, writers};
use crate::api::SidecarPolicy;
use crate::graph::{Consent, Foreign, Labels};
use crate::istio::{EgressListener, OutboundTrafficPolicy, Sidecar, SidecarSpec};

/// The annotation by which the owner of a `Sidecar` lets the fence of its name take it over (`"true"`).
pub const ADOPT: &str = "palisade.io/adopt";
/// The annotation that keeps what a `Sidecar` said before it was taken over: its spec, as JSON.
pub const ADOPTED: &str = "palisade.io/adopted";

/// Why a `Sidecar` is not taken over, or given back, if it is for other pods than the fence.
pub(super) const OTHER_PODS: &str =
    "it is not for just the pods of this fence: make their selectors the same";

/// Whether a `Sidecar` of somebody else says that it may be taken over, and whether it still has a keeper: a tool that
/// marked it, or a field manager that applies it and will again.
#[must_use]
pub fn consent(sidecar: &Sidecar) -> Consent {
    if sidecar.annotations().get(ADOPT).map(String::as_str) != Some("true") {
        return Consent::Missing;
    }
    let keeper = sidecar.labels().get(MANAGED_BY).map(String::as_str).or_else(|| writers::applying(sidecar));
    keeper.map_or(Consent::Given, |keeper| Consent::Kept(keeper.into()))
}

/// What a `Sidecar` said before it was taken over.
pub(super) fn adopted(sidecar: &Sidecar) -> Option<SidecarSpec> {
    serde_json::from_str(sidecar.annotations().get(ADOPTED)?).ok()
}

/// Who writes the hosts of an adopted `Sidecar` too. Until we have changed them once, its former writer is still
/// noted for what it wrote before.
pub(super) fn contested(sidecar: &Sidecar) -> Option<Arc<str>> {
    if !sidecar.annotations().contains_key(ADOPTED) || is_fresh(sidecar) {
        return None;
    }
    writers::of_egress(sidecar).map(Into::into)
}

/// Whether an apply to an owned `Sidecar` may take fields from others: one that the fence made is its own; of an adopted
/// one it takes the hosts once, as its owner let it, and never again.
#[must_use]
pub fn may_force(sidecar: &Sidecar) -> bool {
    !sidecar.annotations().contains_key(ADOPTED) || is_fresh(sidecar)
}

fn is_fresh(sidecar: &Sidecar) -> bool {
    ![CLUSTERS_ADDED, ROUTES_REMOVED].iter().any(|step| sidecar.annotations().contains_key(*step))
}

/// What the captured traffic of a `Sidecar`'s pods is routed to.
pub(super) fn scope(spec: &SidecarSpec) -> Scope {
    let captured = spec.egress.iter().find(|listener| listener.port.is_none());
    captured.map_or(Scope::Everything, |listener| Scope::from_hosts(&listener.hosts))
}

impl<'a> Others<'a> {
    /// The `Sidecar` of the fence's name that it is to take over.
    pub(super) fn adoptable(self) -> Option<&'a Foreign> {
        let foreign = self.graph.foreign(self.fence)?;
        (self.policy() == SidecarPolicy::Adopt && self.objection(foreign).is_none()).then_some(foreign)
    }

    /// Why the fence cannot take over the `Sidecar` of its name, and what to do about it.
    pub(super) fn objection(self, foreign: &Foreign) -> Option<String> {
        match &foreign.consent {
            Consent::Missing => Some(format!("annotate it {ADOPT}=true to have this fence take it over")),
            Consent::Kept(keeper) => Some(format!(
                "{keeper} looks after it and would write it again: take it from {keeper}'s care to have this fence take it over"
            )),
            Consent::Given => self.mismatch(foreign).map(str::to_owned),
        }
    }

    /// Whether what somebody else wrote is for just the pods of the fence.
    pub(super) fn is_for(self, foreign: &Foreign) -> bool {
        let Some(facts) = self.facts() else { return true };
        let selector = foreign.spec.workload_selector.as_ref();
        let theirs = selector.map(|selector| Labels::from(&selector.labels)).unwrap_or_default();
        let asked = facts.labels.clone().unwrap_or_default();
        !theirs.is_empty() && self.graph.select_the_same(&self.fence.namespace, &theirs, &asked)
    }

    fn mismatch(self, foreign: &Foreign) -> Option<&'static str> {
        let facts = self.facts()?;
        if !self.is_for(foreign) {
            return Some(OTHER_PODS);
        }
        if foreign.spec.egress.iter().any(EgressListener::is_bound) {
            return Some("it has egress listeners on ports of their own, which a fence does not carry");
        }
        let revision = self.graph.revision(facts.terms.revision.as_deref());
        (foreign.revision.as_deref() != revision)
            .then_some("its label istio.io/rev is not the one that this fence gives its Sidecar")
    }
}

impl Situation<'_> {
    /// What the fence's pods are routed to without it.
    pub(super) fn base(&self) -> Scope {
        let own = self.own.as_ref().and_then(|(sidecar, _)| adopted(sidecar));
        own.as_ref().or(self.adopting.map(|sidecar| &sidecar.spec)).map_or(Scope::Everything, scope)
    }

    /// What the fence's `Sidecar` said, or says, before it is the fence's.
    pub(super) fn original(&self) -> Option<SidecarSpec> {
        let own = self.own.as_ref().and_then(|(sidecar, _)| adopted(sidecar));
        own.or_else(|| self.adopting.map(|sidecar| sidecar.spec.clone()))
    }

    pub(super) fn contested(&self) -> Option<Arc<str>> {
        self.own.as_ref().and_then(|(sidecar, _)| contested(sidecar))
    }

    /// The `Sidecar` as it was before the fence took it over; if somebody else has written it since, as it is, but for
    /// our detour.
    pub(super) fn given_back(&self) -> Option<Sidecar> {
        let (current, _) = self.own.as_ref()?;
        let mut spec = adopted(current)?;
        if self.contested().is_some() {
            let (theirs, before) = (current.spec.clone(), spec.outbound_traffic_policy.take());
            let policy = theirs.outbound_traffic_policy.clone();
            let policy = if self.is_detour(policy.as_ref()) { before } else { policy };
            spec = SidecarSpec { outbound_traffic_policy: policy, ..theirs };
        }
        let mut sidecar = Sidecar::new(&current.name_any(), spec);
        sidecar.metadata.namespace = current.namespace();
        Some(sidecar)
    }

    fn is_detour(&self, policy: Option<&OutboundTrafficPolicy>) -> bool {
        let proxy = policy.and_then(|policy| policy.egress_proxy.as_ref());
        proxy.is_some_and(|proxy| *proxy.host == *self.input.settings.global_proxy.host.host)
    }
}
