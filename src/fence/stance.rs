use super::adoption::OTHER_PODS;
use super::plan::Situation;
use super::status::Verdict;
use crate::api::{CONFLICT, Mode, SidecarPolicy, Statement, reasons};

/// What a fence is to do about its workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// Give it what it uses, and nothing else.
    Enforce,
    /// Give it its full configuration back; when its `Sidecar` is gone, this holds.
    Withdraw(Verdict),
    /// Leave everything as it is.
    Wait(Verdict),
}

impl Stance {
    /// Whether somebody wants to know what the fence lists, or would list.
    pub(super) fn is_of_interest(&self) -> bool {
        match self {
            Self::Enforce => true,
            Self::Withdraw(verdict) => verdict.reason == reasons::OBSERVING,
            Self::Wait(_) => false,
        }
    }
}

impl Situation<'_> {
    pub(super) fn stance(&self) -> Stance {
        if self.closing() {
            let message = if self.is_left() {
                "its revision (istio.io/rev) is none that Palisade looks after: the workload has its full configuration"
            } else {
                "the workload has its full configuration"
            };
            return Stance::Withdraw(Verdict::new(reasons::OPEN, message));
        }
        let observes = self.mode() == Mode::Observe;
        if observes {
            return Stance::Withdraw(self.obstacle().unwrap_or_else(|| {
                let message = "what the workload uses is learned and reported; it has its full configuration";
                Verdict::new(reasons::OBSERVING, message)
            }));
        }
        if let Some(verdict) = self.conflict().or_else(|| self.border()) {
            return Stance::Withdraw(verdict);
        }
        match self.contest().or_else(|| self.obstacle()) {
            Some(verdict) => Stance::Wait(verdict),
            None => self.carried().map_or(Stance::Enforce, Stance::Withdraw),
        }
    }

    fn carried(&self) -> Option<Verdict> {
        let carrier = self.others().carrier()?;
        let message = format!(
            "the older ServiceFence {carrier} selects all pods of this one: its Sidecar lists the hosts of both"
        );
        Some(Verdict::new(reasons::CARRIED_BY, message))
    }

    /// What keeps any `Sidecar` from doing the workload good.
    fn obstacle(&self) -> Option<Verdict> {
        self.others().obstacle()
    }

    /// Somebody else's `Sidecar` that has the name of the fence's, or is for its pods.
    fn conflict(&self) -> Option<Verdict> {
        let (name, others) = (&self.key, self.others());
        let objection = || others.objection(self.input.graph.foreign(name)?);
        let message = match others.conflict().map(|foreign| &foreign.key) {
            _ if self.is_named_by_another() && others.policy() == SidecarPolicy::Adopt => {
                let objection = objection().unwrap_or_else(|| "it was just written".to_owned());
                format!("a Sidecar {name} exists that this fence did not write: {objection}")
            }
            _ if self.is_named_by_another() => format!(
                "a Sidecar {name} exists that this fence did not write: delete or rename it to have the workload fenced"
            ),
            Some(key) if key == name && others.policy() == SidecarPolicy::Adopt => {
                format!("the Sidecar {name}, which this fence took over, is given back: {OTHER_PODS}")
            }
            Some(key) => format!(
                "the Sidecar {key}, which this fence did not write, selects pods of it: delete it or change its workloadSelector to have the workload fenced"
            ),
            None => return None,
        };
        Some(Verdict::new(reasons::SIDECAR_CONFLICT, message))
    }

    /// Somebody who writes the `Sidecar` that the fence took over.
    fn contest(&self) -> Option<Verdict> {
        let (name, other) = (&self.key, self.contested()?);
        let message = format!(
            "the field manager {other} has written the Sidecar {name} since this fence took it over, and it is left to {other}: have {other} leave it, then set sidecarPolicy to Defer and back to Adopt"
        );
        Some(Verdict::new(reasons::SIDECAR_CONFLICT, message))
    }

    /// A `Sidecar` whose place the fence's would take, and that bounds what its pods may reach.
    fn border(&self) -> Option<Verdict> {
        let key = &self.others().border()?.key;
        let message = format!(
            "the Sidecar {key} bounds what these pods may reach (REGISTRY_ONLY or an egressProxy, its own or the mesh's): over the global proxy they would reach more, so they keep it; set its outboundTrafficPolicy to ALLOW_ANY without an egressProxy to have the workload fenced"
        );
        Some(Verdict::new(reasons::REGISTRY_ONLY, message))
    }

    /// What the condition `Conflict` tells; of a fence that observes, what would keep it from enforcing.
    pub(super) fn contradiction(&self, stance: &Stance) -> Statement {
        let other = self.others().overlapping().filter(|_| *stance == Stance::Enforce);
        let ahead = match stance {
            Stance::Withdraw(verdict) if verdict.reason == reasons::OBSERVING => {
                self.conflict().or_else(|| self.border())
            }
            Stance::Withdraw(verdict) | Stance::Wait(verdict) => Some(verdict.clone()),
            Stance::Enforce => None,
        };
        match (ahead.filter(Verdict::is_of_a_sidecar), other) {
            (Some(verdict), _) => verdict.says(CONFLICT, true),
            (_, Some(other)) => {
                let message = format!(
                    "the ServiceFence {other} selects some pods of this one: the Sidecars of both list the hosts of both, and Istio takes the older one"
                );
                Verdict::new(reasons::OVERLAPPING_FENCE, message).says(CONFLICT, true)
            }
            (_, None) => {
                Verdict::new(reasons::AS_EXPECTED, "nobody else is for the same pods").says(CONFLICT, false)
            }
        }
    }
}
