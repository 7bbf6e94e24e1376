use std::collections::BTreeSet;
use std::sync::Arc;

use super::namespaced::Namespaced;
use super::relation::Relation;
use super::{Change, DestinationRule, Graph, HashMap, Labels, ObjectKey, Pod, Proxy};

/// What matters of a `SmartLimiter`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limiter {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Labels of the pods that it is for; none: those of what has its host.
    pub selector: Labels,
    /// The host whose pods it is for; none: that of the Service of its name.
    pub host: Option<Arc<str>>,
    /// Its label `istio.io/rev`: a revision, or a tag.
    pub revision: Option<Arc<str>>,
}

/// The limiters of the mesh, and the `EnvoyFilter`s that were written for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Limiters {
    all: Namespaced<Limiter>,
    /// `EnvoyFilter` → the limiter.
    filters: HashMap<ObjectKey, ObjectKey>,
    /// Limiter → the names of its `EnvoyFilter`s.
    filters_of: Relation<ObjectKey, Arc<str>>,
}

impl Limiters {
    /// Takes in what concerns limiters.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Limiter(limiter) => drop(self.all.insert(limiter.key.clone(), Arc::new(limiter))),
            Change::LimiterGone(key) => drop(self.all.remove(&key)),
            Change::EnvoyFilter(key, limiter) => {
                self.remove_filter(&key);
                self.filters_of.insert(limiter.clone(), key.name.clone());
                self.filters.insert(key, limiter);
            }
            Change::EnvoyFilterGone(key) => self.remove_filter(&key),
            _ => {}
        }
    }

    fn remove_filter(&mut self, key: &ObjectKey) {
        if let Some(limiter) = self.filters.remove(key) {
            self.filters_of.remove(&limiter, &key.name);
        }
    }
}

impl Graph {
    /// Every limiter, to find those that are gone after a fresh listing.
    pub fn limiter_keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.limiters.all.keys()
    }

    /// Every `EnvoyFilter` of a limiter, to find those that are gone after a fresh listing.
    pub fn envoy_filter_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.limiters.filters.keys()
    }

    /// The `EnvoyFilter`s that were written for a limiter.
    pub fn envoy_filters_of(&self, limiter: &ObjectKey) -> impl Iterator<Item = ObjectKey> + '_ {
        let names = self.limiters.filters_of.of(limiter);
        let namespace = limiter.namespace.clone();
        names.map(move |name| ObjectKey { namespace: namespace.clone(), name: name.clone() })
    }

    /// The labels of a limiter's pods: its own, or those of what has its host; none if nothing has.
    #[must_use]
    pub fn limited<'a>(&'a self, limiter: &'a Limiter) -> Option<&'a Labels> {
        let of_host = || self.registry.pods_of(&limiter.key.namespace, &self.limited_host(limiter));
        if limiter.selector.is_empty() { of_host() } else { Some(&limiter.selector) }
    }

    /// The full name of the host whose pods a limiter is for.
    fn limited_host(&self, limiter: &Limiter) -> Arc<str> {
        let own = limiter.host.as_ref().map(|host| self.registry.full_name(host, &limiter.key.namespace));
        own.unwrap_or_else(|| self.registry.host_of(&limiter.key))
    }

    /// The labels of the pods of a limiter's host that have a subset's name, by the `DestinationRule`s of its namespace, in
    /// the order of their names.
    #[must_use]
    pub fn subset(&self, limiter: &Limiter, name: &str) -> Option<&Labels> {
        let (namespace, host) = (&limiter.key.namespace, self.limited_host(limiter));
        let rules = self.rules.of(namespace).filter(|rule| rule.host == host);
        let mut subsets = rules.flat_map(|rule| &rule.subsets);
        subsets.find(|(subset, _)| **subset == *name).map(|(_, labels)| labels)
    }

    /// How many pods with these labels are ready.
    #[must_use]
    pub fn ready_pods(&self, namespace: &str, selector: &Labels) -> usize {
        self.ready(namespace, selector).count()
    }

    /// The names of the pods with these labels that are ready.
    #[must_use]
    pub fn ready_pod_names(&self, namespace: &str, selector: &Labels) -> BTreeSet<Arc<str>> {
        self.ready(namespace, selector).map(|pod| pod.key.name.clone()).collect()
    }

    /// The pods with these labels that are ready and have a proxy.
    pub fn proxied_pods(&self, namespace: &str, selector: &Labels) -> impl Iterator<Item = &ObjectKey> {
        let has_proxy = |pod: &&Pod| !matches!(pod.proxy, Proxy::None | Proxy::HostNetwork);
        self.ready(namespace, selector).filter(has_proxy).map(|pod| &pod.key)
    }

    fn ready(&self, namespace: &str, selector: &Labels) -> impl Iterator<Item = &Pod> {
        let pods = self.workloads.with_labels(namespace, |labels| labels.satisfy(selector));
        pods.filter(|pod| pod.ready)
    }

    /// The limiters about which a change may say something new. To be asked before the change is taken in. A pod costs a
    /// look at the limiters of its namespace.
    #[must_use]
    pub fn limiters_concerned(&self, change: &Change) -> BTreeSet<ObjectKey> {
        match change {
            Change::Limiter(limiter) => BTreeSet::from([limiter.key.clone()]),
            Change::LimiterGone(key) => BTreeSet::from([key.clone()]),
            Change::EnvoyFilter(key, limiter) => {
                self.limiters.filters.get(key).into_iter().chain([limiter]).cloned().collect()
            }
            Change::EnvoyFilterGone(key) => self.limiters.filters.get(key).into_iter().cloned().collect(),
            Change::Service(service) => self.limiting_service(&service.key, Some(&service.labels)),
            Change::ServiceGone(key) => self.limiting_service(key, None),
            Change::ServiceEntry(entry) => {
                let old = self.registry.entry(&entry.key).into_iter();
                let hosts: Vec<_> = old.chain([entry]).flat_map(|entry| entry.hosts.clone()).collect();
                self.limiting_host(&entry.key.namespace, &hosts)
            }
            Change::ServiceEntryGone(key) => {
                let old = self.registry.entry(key).map(|entry| &*entry.hosts);
                self.limiting_host(&key.namespace, old.unwrap_or_default())
            }
            Change::DestinationRule(rule) => {
                let old = self.rules.get(&rule.key);
                old.into_iter().chain([rule]).flat_map(|rule| self.limited_by(rule)).collect()
            }
            Change::DestinationRuleGone(key) => {
                self.rules.get(key).into_iter().flat_map(|rule| self.limited_by(rule)).collect()
            }
            Change::Pod(pod) => {
                let old = self.workloads.pod(&pod.key);
                let same = |old: &Pod| (&old.labels, old.ready) == (&pod.labels, pod.ready);
                if old.is_some_and(same) {
                    BTreeSet::new()
                } else {
                    self.limiting(&old.into_iter().chain([pod]).collect::<Vec<_>>())
                }
            }
            Change::PodGone(key) => self.limiting(self.workloads.pod(key).as_slice()),
            _ => BTreeSet::new(),
        }
    }

    /// The limiters that are for the pods of a Service, or for the tag that it stands for now or with these labels.
    fn limiting_service(&self, key: &ObjectKey, labels: Option<&Labels>) -> BTreeSet<ObjectKey> {
        let mut limiters = self.limiting_host(&key.namespace, &[self.registry.host_of(key)]);
        let old = self.registry.service(key).map(|old| &old.labels);
        let tags = self.tags(key, old.into_iter().chain(labels));
        let all = (!tags.is_empty()).then(|| self.limiters.all.values()).into_iter().flatten();
        let tagged = all.filter(|limiter| limiter.revision.as_deref().is_some_and(|tag| tags.contains(tag)));
        limiters.extend(tagged.map(|limiter| limiter.key.clone()));
        limiters
    }

    /// The limiters of a namespace that are for the pods of one of these hosts.
    fn limiting_host(&self, namespace: &str, hosts: &[Arc<str>]) -> BTreeSet<ObjectKey> {
        let limiters = self.limiters.all.of(namespace);
        let limiters = limiters.filter(|limiter| hosts.contains(&self.limited_host(limiter)));
        limiters.map(|limiter| limiter.key.clone()).collect()
    }

    fn limited_by(&self, rule: &DestinationRule) -> BTreeSet<ObjectKey> {
        let namespace = &rule.key.namespace;
        self.limiting_host(namespace, &[self.registry.full_name(&rule.host, namespace)])
    }

    /// The limiters of which one of these is a ready pod.
    fn limiting(&self, pods: &[&Pod]) -> BTreeSet<ObjectKey> {
        let Some(first) = pods.first() else { return BTreeSet::new() };
        let limiters = self.limiters.all.of(&first.key.namespace);
        let counts = |limiter: &&Arc<Limiter>| {
            let selector = self.limited(limiter);
            selector.is_some_and(|selector| pods.iter().any(|pod| pod.ready && pod.labels.satisfy(selector)))
        };
        limiters.filter(counts).map(|limiter| limiter.key.clone()).collect()
    }
}
