use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;

use super::names::ByHost;
use super::registry::Registry;
use super::relation::Relation;
use super::{HashMap, Known, Labels, Learning, Lifetime, ObjectKey, Observation, PodSelection, Want, Wanted};
use crate::api::{self, Mode, SidecarPolicy};

/// What matters of a fence: whom it is for, what it asks for, and what was learned before.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The pods that it is for.
    pub selection: PodSelection,
    /// What it asks for.
    pub wants: Vec<Want>,
    /// What its status knows.
    pub known: Vec<(Arc<str>, Known)>,
    /// What its spec says of how it learns.
    pub learning: Option<api::Learning>,
    /// On which terms.
    pub terms: Terms,
}

/// What decides, of several fences that are for one pod, which of them write a `Sidecar`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// When the fence was made.
    pub created: Option<Timestamp>,
    /// Whether it is enabled, and not being deleted.
    pub enabled: bool,
    /// The mode that its spec asks for.
    pub mode: Option<Mode>,
    /// The policy that its spec asks for.
    pub sidecar_policy: Option<SidecarPolicy>,
    /// Its label `istio.io/rev`: a revision, or a tag ([`Graph::revision`](super::Graph::revision)).
    pub revision: Option<Arc<str>>,
}

/// A fence as the graph knows it.
#[derive(Clone, Debug)]
pub struct FenceFacts {
    /// How it says which pods it is for.
    pub selection: PodSelection,
    /// The labels that its pods have; `None` while the Service that should tell is missing.
    pub labels: Option<Labels>,
    /// What it asks for.
    pub wants: Arc<[Want]>,
    /// What was learned, by host.
    pub known: OrdMap<Arc<str>, Known>,
    /// Those of the known hosts that a namespace defines by now of which they may be learned and were not: mostly none.
    pub(super) moved: OrdSet<Arc<str>>,
    /// Until when hosts are asked for that leave at some time: mostly none.
    pub(super) deadlines: OrdMap<Arc<str>, Timestamp>,
    /// How it learns.
    pub learning: Learning,
    /// The first host of a call that it was not allowed to learn.
    pub refused: Option<Arc<str>>,
    /// Whether a source that remembers earlier calls has told all that it knows of these pods.
    pub history_told: bool,
    /// What became of asking its pods' proxies what they have counted; `None` if they were not asked on these terms since
    /// the workload has its full configuration.
    pub answers: Option<Answers>,
    /// On which terms.
    pub terms: Terms,
}

/// What became of asking the proxies of a fence's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// How many were asked.
    pub asked: u32,
    /// How many of these did not answer, or not whole.
    pub silent: u32,
    /// When.
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    by_key: HashMap<ObjectKey, Arc<FenceFacts>>,
    by_namespace: Relation<Arc<str>, ObjectKey>,
    /// A host that is asked for → the fences that do.
    wanted_hosts: ByHost<ObjectKey>,
    /// What else is asked for ([`Wanted::word`]) → the fences that do.
    wanted_by: Relation<Arc<str>, ObjectKey>,
    /// Host → the fences that have learned it. Its name of a host is the one that they all share.
    known_by: Relation<Arc<str>, ObjectKey>,
    /// The fences that select pods of whose earlier calls nothing was told yet.
    without_history: OrdSet<ObjectKey>,
}

impl Fences {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&FenceFacts> {
        self.by_key.get(key).map(Arc::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut FenceFacts> {
        self.by_key.get_mut(key).map(Arc::make_mut)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_key.keys()
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &ObjectKey> {
        self.by_namespace.of(namespace)
    }

    pub(super) fn without_history(&self) -> impl Iterator<Item = &ObjectKey> {
        self.without_history.iter()
    }

    /// Notes that all that is remembered of these fences' pods was told, and names those to which that is news.
    pub(super) fn set_history_told(&mut self, keys: Vec<ObjectKey>) -> BTreeSet<ObjectKey> {
        let news: BTreeSet<_> =
            keys.into_iter().filter(|key| self.without_history.remove(key).is_some()).collect();
        for key in &news {
            if let Some(facts) = self.by_key.get_mut(key).map(Arc::make_mut) {
                facts.history_told = true;
            }
        }
        news
    }

    /// Notes that the proxies of a fence's pods were asked, and tells whether there is such a fence.
    pub(super) fn set_answers(&mut self, key: &ObjectKey, answers: Option<Answers>) -> bool {
        let Some(facts) = self.by_key.get_mut(key).map(Arc::make_mut) else { return false };
        facts.answers = answers;
        true
    }

    /// Notes that the fence is for other pods now, of which nothing was told.
    pub(super) fn forget_history(&mut self, key: &ObjectKey) {
        let Some(facts) = self.by_key.get_mut(key).map(Arc::make_mut) else { return };
        (facts.history_told, facts.answers) = (false, None);
        if facts.labels.is_some() {
            self.without_history.insert(key.clone());
        } else {
            self.without_history.remove(key);
        }
    }

    /// The fences that ask for something by this word ([`Wanted::word`]).
    pub(super) fn wanting(&self, word: &str) -> impl Iterator<Item = &ObjectKey> {
        self.wanted_by.of(word)
    }

    /// The fences to which it makes a difference that `host` comes or goes.
    pub(super) fn wanting_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a ObjectKey> {
        self.wanted_hosts.overlapping(host)
    }

    /// The fences that have learned `host`.
    pub(super) fn knowing(&self, host: &str) -> impl Iterator<Item = &ObjectKey> {
        self.known_by.of(host)
    }

    /// The fences that a pod with these labels is in.
    pub(super) fn of_pod(&self, namespace: &str, labels: &Labels) -> Arc<[ObjectKey]> {
        let selects = |key: &&ObjectKey| {
            self.get(key)
                .and_then(|facts| facts.labels.as_ref())
                .is_some_and(|selector| labels.satisfy(selector))
        };
        self.in_namespace(namespace).filter(selects).cloned().collect()
    }

    /// Takes a fence in; what is known of it already stays known.
    pub(super) fn apply(
        &mut self,
        fence: Fence,
        labels: Option<Labels>,
        learning: Learning,
        registry: &Registry,
    ) {
        let old = self.take(&fence.key);
        let same = old.as_ref().filter(|old| old.labels == labels);
        let history_told = same.is_some_and(|old| old.history_told);
        // What was asked of a workload that was to be observed does not do for one that is to be fenced.
        let answers = same.filter(|old| old.terms == fence.terms).and_then(|old| old.answers);
        let (mut known, refused) = match old {
            Some(old) => (old.known, old.refused.filter(|_| old.learning == learning)),
            None => (OrdMap::new(), None),
        };
        for (host, fact) in fence.known {
            note(&mut known, &mut self.known_by, &fence.key, host, fact);
        }
        for want in &fence.wants {
            if let Wanted::Host(host) = &want.hosts {
                self.wanted_hosts.insert(host.clone(), fence.key.clone());
            }
            if let Some(word) = want.hosts.word() {
                self.wanted_by.insert(word, fence.key.clone());
            }
        }
        self.by_namespace.insert(fence.key.namespace.clone(), fence.key.clone());
        if labels.is_some() && !history_told {
            self.without_history.insert(fence.key.clone());
        }
        let (selection, wants, terms) = (fence.selection, Arc::<[Want]>::from(fence.wants), fence.terms);
        let moved = OrdSet::new();
        let deadlines = deadlines(&wants);
        let mut facts = FenceFacts {
            selection,
            labels,
            wants,
            known,
            moved,
            deadlines,
            learning,
            refused,
            history_told,
            answers,
            terms,
        };
        facts.note_moved(registry);
        self.by_key.insert(fence.key, Arc::new(facts));
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        let Some(facts) = self.take(key) else { return };
        for host in facts.known.keys() {
            self.known_by.remove(host, key);
        }
    }

    /// Takes a fence out, but for the hosts that it knows.
    fn take(&mut self, key: &ObjectKey) -> Option<FenceFacts> {
        let facts = Arc::unwrap_or_clone(self.by_key.remove(key)?);
        for want in facts.wants.iter() {
            if let Wanted::Host(host) = &want.hosts {
                self.wanted_hosts.remove(host, key);
            }
            if let Some(word) = want.hosts.word() {
                self.wanted_by.remove(&word, key);
            }
        }
        self.by_namespace.remove(&key.namespace, key);
        self.without_history.remove(key);
        Some(facts)
    }

    /// Notes a call of a pod of the fence `key`, and tells whether that is news. `definers` are the namespaces that
    /// define its host.
    pub(super) fn learn(&mut self, key: &ObjectKey, call: &Observation, definers: &[Arc<str>]) -> bool {
        let Some(facts) = self.get(key) else { return false };
        let namespaces: Vec<_> =
            definers.iter().filter(|namespace| facts.learning.allows(namespace)).cloned().collect();
        let known = facts.known.get(&call.host);
        let refuses = known.is_none() && namespaces.is_empty();
        let news = match known {
            Some(known) => {
                known.is_added_to_by(call, &namespaces, &facts.learning)
                    || facts.is_over(&call.host, known, call.seen)
            }
            None if definers.is_empty() || facts.is_full() => false,
            None => !refuses || facts.refused.is_none(),
        };
        // Whoever looks for something to change copies what others look at.
        if !news {
            return false;
        }
        let Some(facts) = self.by_key.get_mut(key).map(Arc::make_mut) else { return false };
        if refuses {
            facts.refused = Some(call.host.clone());
        } else {
            let fact = call.as_known(&namespaces);
            note(&mut facts.known, &mut self.known_by, key, call.host.clone(), fact);
            facts.moved.remove(&call.host);
        }
        true
    }

    /// Forgets hosts of a fence, but none that was seen again meanwhile.
    pub(super) fn forget(&mut self, key: &ObjectKey, hosts: &[(Arc<str>, Timestamp)]) {
        let Some(facts) = self.by_key.get_mut(key).map(Arc::make_mut) else { return };
        for (host, last_seen) in hosts {
            if facts.known.get(host).is_some_and(|known| known.last_seen <= *last_seen) {
                facts.known.remove(host);
                facts.moved.remove(host);
                self.known_by.remove(host, key);
            }
        }
    }
}

fn deadlines(wants: &[Want]) -> OrdMap<Arc<str>, Timestamp> {
    let deadline = |want: &Want| match (&want.hosts, &want.lifetime) {
        (Wanted::Host(host), Lifetime::Until(end)) => Some((host.clone(), *end)),
        _ => None,
    };
    wants.iter().filter_map(deadline).collect()
}

/// Notes a fact of a fence, and in the index, if it is the first of its host, which fence it is.
fn note(
    known: &mut OrdMap<Arc<str>, Known>,
    known_by: &mut Relation<Arc<str>, ObjectKey>,
    fence: &ObjectKey,
    host: Arc<str>,
    fact: Known,
) {
    if let Some(old) = known.get_mut(&host) {
        return old.merge(&fact);
    }
    let host = known_by.key(&host).cloned().unwrap_or(host);
    known_by.insert(host.clone(), fence.clone());
    known.insert(host, fact);
}
