//! The hosts of a fence, and who said so: what the spec and the operator's configuration ask for, what was learned, and
//! what nobody could learn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::expiry::Expiry;
use crate::api::{Dependency, DependencySource, DomainStatus, whole_seconds};
use crate::graph::{EgressHost, FenceFacts, Few, Graph, Known, Lifetime, ObjectKey, Registry, Want, Wanted};

type Domains = BTreeMap<String, Dependency>;

/// The hosts of the fence `key`, without those that have `expired`.
pub(super) fn domains(
    key: &ObjectKey,
    facts: &FenceFacts,
    expired: &Expiry,
    graph: &Graph,
    now: Timestamp,
) -> Domains {
    let registry = graph.registry();
    let gone: BTreeSet<_> = expired.hosts.iter().map(|(host, _)| host).collect();
    let kept = facts.known.iter().filter(|(host, _)| !gone.contains(host));
    let mut domains: Domains =
        kept.map(|(host, known)| (host.to_string(), learned(host, known, registry))).collect();
    let wants = facts.wants.iter().chain(&graph.mesh_wide().wants);
    let (over, live): (Vec<_>, Vec<_>) = wants.partition(|want| is_over(want, expired, now));
    let (learned, stated): (Vec<_>, Vec<_>) = live.into_iter().partition(|want| want.source.is_learned());
    for want in learned {
        take_over(&mut domains, want, facts, registry, now);
    }
    for want in over {
        expire(&mut domains, want, facts);
    }
    for want in stated {
        want_hosts(&mut domains, want, registry);
    }
    for host in registry.hidden_in(&key.namespace) {
        list(&mut domains, &host.host, [host.clone()], DependencySource::Visibility);
    }
    domains
}

/// When the next of a fence's hosts leaves by what its spec says.
pub(super) fn next_deadline(facts: &FenceFacts, now: Timestamp) -> Option<Timestamp> {
    facts.wants.iter().filter_map(deadline).filter(|end| *end > now).min()
}

fn deadline(want: &Want) -> Option<Timestamp> {
    match want.lifetime {
        Lifetime::Until(end) => Some(end),
        Lifetime::Always | Lifetime::WhileCalled { .. } => None,
    }
}

fn is_over(want: &Want, expired: &Expiry, now: Timestamp) -> bool {
    match want.lifetime {
        Lifetime::Always => false,
        Lifetime::Until(end) => end <= now,
        Lifetime::WhileCalled { .. } => want.name().is_some_and(|name| expired.over.contains(&name)),
    }
}

/// Notes a host whose time is over; a call that was seen after its deadline keeps it, as a learned one.
fn expire(domains: &mut Domains, want: &Want, facts: &FenceFacts) {
    let Some(name) = want.name() else { return };
    let called = facts.known.get(name.as_str()).map(|known| known.last_seen);
    let domain = domains.entry(name).or_default();
    add(&mut domain.sources, want.source);
    if deadline(want).is_none_or(|end| called <= Some(end)) {
        domain.status = DomainStatus::Expired;
        domain.hosts.clear();
    }
}

/// Lists what somebody asks for, rather than called.
fn want_hosts(domains: &mut Domains, want: &Want, registry: &Registry) {
    let hosts = match &want.hosts {
        Wanted::Host(host) => registry.resolve(host),
        Wanted::Namespace(namespace) => registry.hosts_in(namespace).collect(),
        Wanted::Labels(selector) => {
            for host in registry.labelled(selector) {
                list(domains, &host.host, registry.resolve(&host.host), want.source);
            }
            return;
        }
    };
    if let Some(name) = want.name() {
        list(domains, &name, hosts, want.source);
    }
}

/// Adds a host, or `namespace/*`, that somebody stated, rather than called.
pub(super) fn state(domains: &mut Domains, want: &str, source: DependencySource, registry: &Registry) {
    want_hosts(domains, &Want::always(Wanted::parse(want), source), registry);
}

/// Takes over a host that was learned elsewhere, as if it had been seen here now. What is gone meanwhile, and what
/// this fence may not learn, is left out.
fn take_over(domains: &mut Domains, want: &Want, facts: &FenceFacts, registry: &Registry, now: Timestamp) {
    let Some(name) = want.name() else { return };
    let mut hosts = registry.resolve(&name);
    hosts.retain(|host| facts.learning.allows(&host.namespace));
    let full = domains.len() >= facts.learning.max_hosts as usize && !domains.contains_key(&name);
    if hosts.is_empty() || full {
        return;
    }
    let domain = list(domains, &name, hosts, want.source);
    domain.first_seen.get_or_insert_with(|| whole_seconds(now));
    domain.last_seen.get_or_insert_with(|| whole_seconds(now));
}

/// Lists a host for the sake of `source`.
pub(super) fn list<'a>(
    domains: &'a mut Domains,
    name: &str,
    hosts: impl IntoIterator<Item = EgressHost>,
    source: DependencySource,
) -> &'a mut Dependency {
    let domain = domains.entry(name.to_owned()).or_default();
    domain.status = DomainStatus::Active;
    domain.hosts.extend(hosts.into_iter().map(|host| host.to_string()));
    domain.hosts.sort();
    domain.hosts.dedup();
    add(&mut domain.sources, source);
    domain
}

fn add(sources: &mut Vec<DependencySource>, source: DependencySource) {
    sources.push(source);
    sources.sort();
    sources.dedup();
}

fn learned(host: &Arc<str>, known: &Known, registry: &Registry) -> Dependency {
    let own = known
        .namespaces
        .iter()
        .map(|namespace| EgressHost { namespace: namespace.clone(), host: host.clone() });
    // It is where it was found, even if its Service is being replaced.
    let found = if known.namespaces.is_empty() { registry.resolve(host) } else { own.collect() };
    let hosts: BTreeSet<_> = found.into_iter().chain(registry.other_names(host)).collect();
    Dependency {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        status: DomainStatus::Active,
        sources: known.sources.iter().copied().collect(),
        first_seen: Some(whole_seconds(known.first_seen)),
        last_seen: Some(whole_seconds(known.last_seen)),
    }
}

/// What a status remembers of hosts that were called.
pub(super) fn remembered(domains: &Domains) -> Vec<(Arc<str>, Known)> {
    domains.iter().filter_map(|(host, domain)| Some((host.as_str().into(), known(host, domain)?))).collect()
}

/// What a status remembers of `host`: the way back from [`domains`]. `None` for one that nobody called.
pub(super) fn known(host: &str, domain: &Dependency) -> Option<Known> {
    let sources: Few<_> = domain.sources.iter().copied().filter(|source| source.is_learned()).collect();
    let (first, last) = (domain.first_seen.as_ref()?.0, domain.last_seen.as_ref()?.0);
    let all = domain.hosts.iter().filter_map(|listed| listed.split_once('/'));
    // The others are further names of it.
    let namespaces = all.filter(|(_, name)| *name == host).map(|(namespace, _)| namespace.into());
    let learned = !sources.is_empty();
    learned.then(|| Known { namespaces: namespaces.collect(), sources, first_seen: first, last_seen: last })
}
