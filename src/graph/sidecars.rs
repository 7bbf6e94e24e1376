use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::relation::Relation;
use super::{EgressHost, HashMap, Labels, MeshConfig, ObjectKey, Registry};
use crate::istio::{Mode, SidecarSpec};

/// A `Sidecar`, a fence's or somebody else's.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// When it was made: of several that are for a pod, istiod takes the oldest.
    pub created: Option<Timestamp>,
    /// Its label `istio.io/rev`: other revisions do not read it.
    pub revision: Option<Arc<str>>,
    /// Whose it is.
    pub origin: Origin,
}

/// Whose a `Sidecar` is.
#[derive(Clone, Debug)]
pub enum Origin {
    /// That of the fence of its name.
    Fence(Standing),
    /// Somebody else's.
    Other(Arc<SidecarSpec>, Consent),
}

/// A fence's `Sidecar`, as it stands on the cluster.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Whether it routes to everything.
    pub wide: bool,
    /// The pods that it selects: those that the fence asked for when it was written, not those of now.
    pub selector: Labels,
    /// What it said before the fence took it over from somebody else; `None` for one that the fence made.
    pub adopted: Option<Arc<SidecarSpec>>,
    /// Who writes it too since it was taken over.
    pub contested: Option<Arc<str>>,
    /// Its label `istio.io/rev`.
    pub revision: Option<Arc<str>>,
    /// Whether it was us who labelled it so.
    pub labelled: bool,
}

/// Whether somebody else's `Sidecar` may be taken over by the fence of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// Nobody has said so.
    #[default]
    Missing,
    /// It says so itself.
    Given,
    /// It says so, but this one still looks after it.
    Kept(Arc<str>),
}

/// A `Sidecar` that is no fence's.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The revision that reads it; none: all do.
    pub revision: Option<Arc<str>>,
    /// What it says.
    pub spec: Arc<SidecarSpec>,
    /// Whether it may be taken over.
    pub consent: Consent,
}

impl Foreign {
    /// Whether it is for a namespace's pods that have none of their own.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.spec.workload_selector.is_none()
    }

    /// Whether a pod with these labels is among those that it selects. To istiod, a selector without labels selects
    /// every pod of the namespace.
    #[must_use]
    pub fn selects(&self, pod: &Labels) -> bool {
        let selector = self.spec.workload_selector.as_ref();
        selector.is_some_and(|s| s.labels.iter().all(|(key, value)| pod.get(key) == Some(value)))
    }

    /// Whether it refuses calls that the global proxy would let through, or has a way out of its own for them. istiod
    /// has a `Sidecar` that says nothing inherit the mesh's policy, and so does the global proxy's (Istio 1.31,
    /// `convertToSidecarScope`).
    #[must_use]
    pub fn is_closed(&self, mesh: Option<&MeshConfig>) -> bool {
        let refusing_mesh = mesh.is_some_and(|mesh| mesh.registry_only);
        let refuses = match &self.spec.outbound_traffic_policy {
            Some(policy) if policy.egress_proxy.is_some() => return true,
            Some(policy) => policy.mode == Mode::RegistryOnly,
            None => refusing_mesh,
        };
        refuses && !(refusing_mesh && self.lists_everything())
    }

    fn lists_everything(&self) -> bool {
        let mut hosts = self.spec.egress.iter().flat_map(|listener| &listener.hosts);
        self.spec.egress.is_empty() || hosts.any(|host| host == "*/*")
    }

    /// The hosts that it names: whole (`shop/reviews.shop.svc.cluster.local`), or all of a namespace that it names
    /// (`monitoring/*`), one by one. What has a wildcard for a namespace, or means the own one as a whole (`./*`),
    /// says how far a workload may see, not what it needs.
    pub fn hosts<'a>(
        &'a self,
        namespace: &'a str,
        registry: &'a Registry,
    ) -> impl Iterator<Item = EgressHost> + 'a {
        self.wants(namespace).flat_map(move |(scope, host)| {
            let all = (host == "*").then(|| registry.hosts_in(scope));
            let one = (host != "*").then(|| {
                let definers = registry.namespaces(host).into_iter();
                definers
                    .filter(move |definer| scope == "*" || **definer == *scope)
                    .map(move |namespace| EgressHost { namespace, host: host.into() })
            });
            all.into_iter().flatten().chain(one.into_iter().flatten())
        })
    }

    fn wants<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        let hosts = self.spec.egress.iter().flat_map(|listener| &listener.hosts);
        let named = hosts.filter_map(|host| host.split_once('/'));
        named
            .filter(|(scope, host)| !scope.starts_with('~') && (*host != "*" || !matches!(*scope, "*" | ".")))
            .map(move |(scope, host)| (if scope == "." { namespace } else { scope }, host))
    }
}

/// The Sidecars of the mesh.
#[derive(Clone, Debug, Default)]
pub(super) struct Sidecars {
    /// Whose pods without a default `Sidecar` of their namespace get the one of this namespace.
    root: Arc<str>,
    own: HashMap<ObjectKey, Arc<Own>>,
    /// Namespace → the fences in it whose `Sidecar` does not select what they ask for: few, and not for long.
    astray: Relation<Arc<str>, ObjectKey>,
    foreign: HashMap<Arc<str>, Arc<BTreeMap<Arc<str>, Foreign>>>,
    /// What Sidecars of others name, or named before a fence took them over (a host, or `namespace/*`) → those that do.
    wanted_by: Relation<Arc<str>, ObjectKey>,
}

/// A fence's own `Sidecar`.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) created: Option<Timestamp>,
    pub(super) standing: Standing,
    /// The one that it was before it was taken over.
    pub(super) adopted: Option<Foreign>,
}

impl Sidecars {
    pub(super) fn new(root: &Arc<str>) -> Self {
        Self { root: root.clone(), ..Self::default() }
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn own(&self, fence: &ObjectKey) -> Option<&Own> {
        self.own.get(fence).map(Arc::as_ref)
    }

    /// Notes whether the `Sidecar` of a fence selects something else than the fence asks for.
    pub(super) fn set_astray(&mut self, fence: &ObjectKey, astray: bool) {
        if astray {
            self.astray.insert(fence.namespace.clone(), fence.clone());
        } else {
            self.astray.remove(&fence.namespace, fence);
        }
    }

    /// The fences of a namespace whose `Sidecar` selects something else than they ask for, with that.
    pub(super) fn astray(&self, namespace: &str) -> impl Iterator<Item = (&ObjectKey, &Labels)> {
        let astray = self.astray.of(namespace);
        astray.filter_map(|fence| Some((fence, &self.own(fence)?.standing.selector)))
    }

    /// Takes a `Sidecar` in, and gives back those of other people that are not, or no longer, as they were.
    pub(super) fn apply(&mut self, sidecar: Sidecar) -> Vec<Foreign> {
        let Sidecar { key, created, revision, origin } = sidecar;
        let before = self.remove(&key);
        match origin {
            Origin::Fence(standing) => {
                let (of, consent) = (key.clone(), Consent::Given);
                let was = |spec| Foreign { key: of, created, revision, spec, consent };
                let adopted = standing.adopted.clone().map(was);
                if let Some(adopted) = &adopted {
                    self.index_wants(adopted);
                }
                self.own.insert(key, Arc::new(Own { created, standing, adopted }));
                before.into_iter().collect()
            }
            Origin::Other(spec, consent) => {
                let foreign = Foreign { key, created, revision, spec, consent };
                self.index(&foreign);
                // An edit of what does not matter is no change.
                let same = before.as_ref() == Some(&foreign);
                before.into_iter().chain([foreign]).filter(|_| !same).collect()
            }
        }
    }

    fn index_wants(&mut self, foreign: &Foreign) {
        for want in wanted(foreign) {
            self.wanted_by.insert(want, foreign.key.clone());
        }
    }

    fn index(&mut self, foreign: &Foreign) {
        self.index_wants(foreign);
        let all = Arc::make_mut(self.foreign.entry(foreign.key.namespace.clone()).or_default());
        all.insert(foreign.key.name.clone(), foreign.clone());
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Foreign> {
        let own = self.own.remove(key);
        for want in own.iter().flat_map(|own| &own.adopted).flat_map(wanted) {
            self.wanted_by.remove(&want, key);
        }
        let all = Arc::make_mut(self.foreign.get_mut(&key.namespace)?);
        let gone = all.remove(&key.name);
        if all.is_empty() {
            self.foreign.remove(&key.namespace);
        }
        for want in gone.iter().flat_map(wanted) {
            self.wanted_by.remove(&want, key);
        }
        gone
    }

    /// Whether somebody else's `Sidecar` refuses what is not registered, to some pods of a namespace at least.
    pub(super) fn is_registry_only(&self, namespace: &str) -> bool {
        let own = self.foreign_in(namespace);
        own.chain(self.foreign_in(&self.root).filter(|sidecar| sidecar.is_default())).any(|sidecar| {
            sidecar.spec.outbound_traffic_policy.as_ref().is_some_and(|it| it.mode == Mode::RegistryOnly)
        })
    }

    /// Somebody else's Sidecars of a namespace.
    pub(super) fn foreign_in(&self, namespace: &str) -> impl Iterator<Item = &Foreign> {
        self.foreign.get(namespace).into_iter().flat_map(|all| all.values())
    }

    /// The Sidecar that pods of a namespace have by default: the oldest without a selector, of their own namespace
    /// or else of the root namespace.
    pub(super) fn default_of(&self, namespace: &str, is_read: impl Fn(&Foreign) -> bool) -> Option<&Foreign> {
        let oldest = |namespace| {
            let all = self.foreign_in(namespace);
            all.filter(|sidecar| sidecar.is_default() && is_read(sidecar))
                .min_by_key(|sidecar| (sidecar.created, &sidecar.key))
        };
        oldest(namespace).or_else(|| oldest(&self.root))
    }

    /// Somebody else's Sidecars of the whole mesh: few.
    pub(super) fn all_foreign(&self) -> impl Iterator<Item = &Foreign> {
        self.foreign.values().flat_map(|all| all.values())
    }

    /// The namespaces with default Sidecars that name `want` (a host, or `namespace/*`).
    pub(super) fn wanting(&self, want: &str) -> impl Iterator<Item = &Arc<str>> {
        self.wanted_by.of(want).map(|key| &key.namespace)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        let foreign = self.all_foreign().map(|sidecar| sidecar.key.clone());
        self.own.keys().cloned().chain(foreign)
    }
}

/// Whether pods of `revision` (`None`: it could be any) may be given what is for `label`, which is no tag: istiod reads what has
/// no label, or its own revision's (Istio 1.31, `LabelsInRevision`).
pub(super) fn is_read_by(label: Option<&str>, revision: Option<&str>) -> bool {
    label.is_none() || revision.is_none() || label == revision
}

fn wanted(foreign: &Foreign) -> Vec<Arc<str>> {
    let wants = foreign.wants(&foreign.key.namespace);
    wants.map(|(scope, host)| if host == "*" { format!("{scope}/*").into() } else { host.into() }).collect()
}
