use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::Resource;

use super::Defaults;
use super::conditions::{Statement, find, whole_seconds};
use super::expiry::Expiry;
use crate::api::{
    Dependency, DependencySource, DomainStatus, READY, ServiceFence, ServiceFenceStatus, reasons,
};
use crate::graph::{EgressHost, FenceFacts, Known, Registry};

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
    }
}

/// What the verdict changes for somebody who watches the fence's Events.
pub(super) fn transition(fence: &ServiceFence, verdict: &Verdict) -> Option<Transition> {
    let old = find(fence, READY).map(|condition| condition.reason.as_str());
    // What is under way is told when it is done, and a fence that was never enabled has nothing to tell.
    let quiet = matches!(verdict.reason, reasons::FENCING | reasons::OPENING | reasons::NO_PODS);
    let changed =
        old != Some(verdict.reason) && !quiet && !(old.is_none() && verdict.reason == reasons::OPEN);
    // Every other reason needs somebody.
    let warning = !matches!(verdict.reason, reasons::FENCED | reasons::OPEN);
    changed.then(|| Transition { reason: verdict.reason, message: verdict.message.clone(), warning })
}

/// The hosts of a fence: from its spec, from the operator's configuration, and from what was learned and has not
/// `expired`.
pub(super) fn domains(
    facts: &FenceFacts,
    expired: &Expiry,
    registry: &Registry,
    defaults: &Defaults,
) -> BTreeMap<String, Dependency> {
    let gone: BTreeSet<_> = expired.hosts.iter().map(|(host, _)| host).collect();
    let kept = facts.known.iter().filter(|(host, _)| !gone.contains(host));
    let learned = kept.map(|(host, known)| (host.to_string(), learned(host, known)));
    let mut domains: BTreeMap<String, Dependency> = learned.collect();
    for want in facts.wants.iter() {
        state(&mut domains, want, DependencySource::Spec, registry);
    }
    for want in &defaults.stable_host {
        state(&mut domains, want, DependencySource::Configuration, registry);
    }
    domains
}

/// Adds a host that somebody stated, rather than called.
pub(super) fn state(
    domains: &mut BTreeMap<String, Dependency>,
    want: &str,
    source: DependencySource,
    registry: &Registry,
) {
    let domain = domains.entry(want.to_owned()).or_default();
    domain.hosts.extend(resolve(want, registry).map(|host| host.to_string()));
    domain.hosts.sort();
    domain.hosts.dedup();
    domain.sources.push(source);
    domain.sources.sort();
}

fn learned(host: &str, known: &Known) -> Dependency {
    Dependency {
        hosts: known.namespaces.iter().map(|namespace| format!("{namespace}/{host}")).collect(),
        status: DomainStatus::Active,
        sources: known.sources.iter().copied().collect(),
        first_seen: Some(whole_seconds(known.first_seen)),
        last_seen: Some(whole_seconds(known.last_seen)),
    }
}

/// What a status remembers of a host: the way back from [`domains`]. `None` for a host that only the spec names.
#[must_use]
pub fn known(domain: &Dependency) -> Option<Known> {
    let sources: BTreeSet<_> = domain.sources.iter().copied().filter(|source| source.is_learned()).collect();
    let (first, last) = (domain.first_seen.as_ref()?.0, domain.last_seen.as_ref()?.0);
    let namespaces = domain.hosts.iter().filter_map(|host| Some(host.split_once('/')?.0.into()));
    let learned = !sources.is_empty();
    learned.then(|| Known { namespaces: namespaces.collect(), sources, first_seen: first, last_seen: last })
}

/// What a host of the spec stands for now: the namespaces that define it, or a namespace's Services.
fn resolve<'a>(want: &'a str, registry: &'a Registry) -> Box<dyn Iterator<Item = EgressHost> + 'a> {
    match want.strip_suffix("/*") {
        Some(namespace) => Box::new(registry.hosts_in(namespace)),
        None => Box::new(
            registry
                .namespaces(want)
                .into_iter()
                .map(move |namespace| EgressHost { namespace, host: want.into() }),
        ),
    }
}
