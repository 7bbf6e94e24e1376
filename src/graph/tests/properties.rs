//! Whatever happens, in whatever order.

use super::strategies::{WORKLOADS, some_change};
use super::*;
use crate::graph::{DestinationRule, Extension, GatewayRoute, VirtualService};

pub(super) const HOSTS: [&str; 4] = [REVIEWS, RATINGS, EXAMPLE, "no.such.host"];

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let one = (1u8..=4, prop::sample::select(HOSTS.to_vec()), 0i64..240);
    prop::collection::vec(one.prop_map(|(caller, host, minute)| seen(caller, host, minute)), 0..24)
}

/// Changes that have nothing to do with the shop's pods, services and fences.
fn unrelated() -> Vec<Change> {
    vec![
        service("other/reviews", "app=reviews"),
        service("shop/unasked", "app=unasked"),
        headless("other/redis"),
        entry("other/e", &["api.example.com"]),
        of_service("other/reviews"),
        selecting("shop/unrelated", "app=unrelated"),
        pod("other/p", &[40], "app=reviews"),
        pod("shop/unrelated", &[41], "app=unrelated"),
        Change::PodGone(key("shop/never-was")),
        Change::FenceGone(key("shop/never-was")),
    ]
}

/// What is learned, without the time of the last call, which may be an hour behind.
fn learned(graph: &Graph) -> Vec<String> {
    let facts =
        ["shop/client", "shop/web"].map(|name| graph.fence(&key(name)).map(|facts| facts.known.clone()));
    let known = facts.iter().flatten().flatten();
    known.map(|(host, k)| format!("{host} {:?} {:?} {}", k.namespaces, k.sources, k.first_seen)).collect()
}

/// When the fence's pods called the host last.
fn newest(calls: &[Observation], callers: &[u8], host: &str) -> Option<Timestamp> {
    let of_fence =
        |call: &&Observation| callers.iter().any(|caller| Caller::from(ip(*caller)) == call.caller);
    calls.iter().filter(of_fence).filter(|call| &*call.host == host).map(|call| call.seen).max()
}

proptest! {
    #[test]
    fn the_order_of_calls_and_of_unrelated_changes_is_no_matter(
        (calls, mixed) in observations().prop_flat_map(|calls| {
            let changes = calls.iter().cloned().map(Change::Call).chain(unrelated()).collect::<Vec<_>>();
            (Just(calls), Just(changes).prop_shuffle())
        }),
    ) {
        let mut sorted = calls.clone();
        sorted.sort_by_key(|call| call.seen);
        let mut straight = shop();
        take(&mut straight, sorted.into_iter().map(Change::Call));
        let mut shuffled = shop();
        take(&mut shuffled, mixed);

        prop_assert_eq!(learned(&straight), learned(&shuffled));
        for (name, callers) in [("shop/client", &[1, 2][..]), ("shop/web", &[2][..])] {
            for host in known_hosts(&shuffled, name) {
                let last = known(&shuffled, name, &host).map(|known| known.last_seen);
                let newest = newest(&calls, callers, &host);
                prop_assert!(last <= newest && last > newest.map(|newest| newest - LAST_SEEN_PRECISION));
            }
        }
    }

    /// As a source sees it: it judges a batch by the graph as it was published before, and hands on what is news.
    #[test]
    fn the_batches_in_which_calls_come_are_no_matter(calls in observations(), size in 1usize..8) {
        let mut calls = calls;
        calls.sort_by_key(|call| call.seen);
        let mut straight = shop();
        calls.iter().cloned().for_each(|call| drop(straight.apply(Change::Call(call))));
        let mut batched = shop();
        for batch in calls.chunks(size) {
            let published = batched.clone();
            let news = |call: &&Observation| {
                matches!(published.judge(&call.caller, &call.host, call.seen), Judgement::New | Judgement::Stale)
            };
            batch.iter().filter(news).cloned().for_each(|call| drop(batched.apply(Change::Call(call))));
        }
        prop_assert_eq!(learned(&straight), learned(&batched));
    }

    #[test]
    fn a_call_that_is_learned_twice_is_learned_once(calls in observations()) {
        let mut graph = shop();
        for call in calls {
            graph.apply(Change::Call(call.clone()));
            let before = learned(&graph);
            prop_assert!(graph.apply(Change::Call(call.clone())).is_empty());
            prop_assert_eq!(before, learned(&graph));
            let judged = graph.judge(&call.caller, &call.host, call.seen);
            prop_assert!(!matches!(judged, Judgement::New | Judgement::Stale), "{judged:?}");
        }
    }
}

/// The last word on each object, to build a graph from scratch.
#[derive(Clone, Debug, Default)]
struct Objects {
    services: BTreeMap<ObjectKey, Service>,
    entries: BTreeMap<ObjectKey, ServiceEntry>,
    pods: BTreeMap<ObjectKey, Pod>,
    fences: BTreeMap<ObjectKey, Fence>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    policies: BTreeMap<ObjectKey, Policy>,
    mesh_config: Option<MeshConfig>,
    routes: BTreeMap<ObjectKey, VirtualService>,
    gateway_routes: BTreeMap<ObjectKey, GatewayRoute>,
    rules: BTreeMap<ObjectKey, DestinationRule>,
    extensions: BTreeMap<ObjectKey, Extension>,
    sidecars: BTreeMap<ObjectKey, Sidecar>,
}

impl Objects {
    fn note(&mut self, change: &Change) {
        match change.clone() {
            Change::Service(o) => drop(self.services.insert(o.key.clone(), o)),
            Change::ServiceEntry(o) => drop(self.entries.insert(o.key.clone(), o)),
            Change::Pod(o) => drop(self.pods.insert(o.key.clone(), o)),
            Change::Fence(o) => drop(self.fences.insert(o.key.clone(), o)),
            Change::ServiceGone(key) => drop(self.services.remove(&key)),
            Change::ServiceEntryGone(key) => drop(self.entries.remove(&key)),
            Change::PodGone(key) => drop(self.pods.remove(&key)),
            Change::FenceGone(key) => drop(self.fences.remove(&key)),
            Change::Namespace(o) => drop(self.namespaces.insert(o.name.clone(), o)),
            Change::NamespaceGone(key) => drop(self.namespaces.remove(&key.name)),
            Change::Policy(o) => drop(self.policies.insert(o.key.clone(), o)),
            Change::PolicyGone(key) => drop(self.policies.remove(&key)),
            Change::MeshConfig(config) => self.mesh_config = Some(config),
            Change::VirtualService(o) => drop(self.routes.insert(o.key.clone(), o)),
            Change::VirtualServiceGone(key) => drop(self.routes.remove(&key)),
            Change::GatewayRoute(o) => drop(self.gateway_routes.insert(o.key.clone(), o)),
            Change::GatewayRouteGone(_, key) => drop(self.gateway_routes.remove(&key)),
            Change::Sidecar(o) => drop(self.sidecars.insert(o.key.clone(), o)),
            Change::SidecarGone(key) => drop(self.sidecars.remove(&key)),
            Change::DestinationRule(o) => drop(self.rules.insert(o.key.clone(), o)),
            Change::DestinationRuleGone(key) => drop(self.rules.remove(&key)),
            Change::Extension(o) => drop(self.extensions.insert(o.key.clone(), o)),
            Change::ExtensionGone(key) => drop(self.extensions.remove(&key)),
            Change::Call(_)
            | Change::Limiter(_)
            | Change::LimiterGone(_)
            | Change::EnvoyFilter(..)
            | Change::EnvoyFilterGone(_)
            | Change::Istiod(..)
            | Change::IstiodGone(..)
            | Change::Disturbed(_)
            | Change::Endpoints
            | Change::Covered(_)
            | Change::HistoryTold(_)
            | Change::Forget(..)
            | Change::PassedThrough(..)
            | Change::ProxiesAsked(..) => {}
        }
    }

    fn changes(&self) -> Vec<Change> {
        let services = self.services.values().cloned().map(Change::Service);
        let entries = self.entries.values().cloned().map(Change::ServiceEntry);
        let pods = self.pods.values().cloned().map(Change::Pod);
        let fences = self.fences.values().cloned().map(Change::Fence);
        let namespaces = self.namespaces.values().cloned().map(Change::Namespace);
        let routes = self.routes.values().cloned().map(Change::VirtualService);
        let gateway_routes = self.gateway_routes.values().cloned().map(Change::GatewayRoute);
        let mesh = self.mesh_config.clone().map(Change::MeshConfig);
        let policies = self.policies.values().cloned().map(Change::Policy);
        let sidecars = self.sidecars.values().cloned().map(Change::Sidecar);
        let rules = self.rules.values().cloned().map(Change::DestinationRule);
        let extensions = self.extensions.values().cloned().map(Change::Extension);
        let declaring =
            policies.chain(mesh).chain(routes).chain(gateway_routes).chain(rules).chain(extensions);
        let others = namespaces.chain(sidecars).chain(declaring);
        services.chain(entries).chain(pods).chain(fences).chain(others).collect()
    }
}

/// The fences that a caller is in, each once.
fn in_fences_of(graph: &Graph, caller: &Caller) -> Option<BTreeSet<String>> {
    graph.workloads().fences_of(caller).map(|fences| fences.map(ToString::to_string).collect())
}

/// An empty graph of a mesh with a root namespace and a global proxy.
fn in_a_mesh() -> Graph {
    let proxy = Identity { namespace: "palisade".into(), account: "global-proxy".into() };
    of_root(Some(proxy))
}

/// Everything about a fence that decisions rest on.
fn view(graph: &Graph, key: &ObjectKey) -> String {
    let peers = graph.peers(key).into_iter();
    let peers: Vec<_> = peers
        .map(|peer| (peer, graph.covers(peer, key), graph.covers(key, peer), own_view(graph, peer)))
        .collect();
    let near = graph.neighbours(key).into_iter();
    let near: Vec<_> = near
        .map(|other| {
            let standing =
                (graph.is_wide(other), graph.standing_selector(other), graph.is_of_its_revision(other));
            (other, standing, own_view(graph, other))
        })
        .collect();
    format!("{} {:?} {peers:?} {near:?}", own_view(graph, key), graph.standing_selector(key))
}

/// What it says of itself, and of Sidecars.
fn own_view(graph: &Graph, key: &ObjectKey) -> String {
    let Some(facts) = graph.fence(key) else { return String::new() };
    let registry = graph.registry();
    let resolve = |want: &Want| match &want.hosts {
        Wanted::Host(host) => registry.resolve(host),
        Wanted::Namespace(namespace) => registry.hosts_in(namespace).collect(),
        Wanted::Labels(selector) => registry.labelled(selector).collect(),
    };
    let resolved: Vec<_> = facts.wants.iter().map(resolve).collect();
    let hidden = registry.hidden_in(&key.namespace);
    let headless: Vec<_> =
        graph.registry().headless_in(&key.namespace).map(|host| host.to_string()).collect();
    let pods: BTreeMap<_, _> = graph
        .workloads()
        .of_fence(key)
        .map(|pod| (&pod.key, (&pod.labels, pod.proxy, &pod.revision, pod.captures_dns)))
        .collect();
    let declared = graph.declared(key).into_iter();
    // As a Sidecar lists it: with the namespaces that route it.
    let listed = |host: &Arc<str>| {
        let mut all = registry.resolve(host);
        let routed: Vec<_> =
            all.iter().flat_map(|listed| graph.routed_from(&listed.host, &key.namespace)).collect();
        all.extend(routed);
        all
    };
    let declared: Vec<_> = declared.map(|(host, source)| (listed(&host), host, source)).collect();
    let around = (pods, declared, graph.namespace(&key.namespace), headless, hidden);
    let over: Vec<_> = graph.foreign_over(key).map(|foreign| &foreign.key).collect();
    let default = graph.default_sidecar(key);
    let hosts = default.map(|foreign| foreign.hosts(&key.namespace, graph.registry()).collect::<Vec<_>>());
    let sidecars = (over, default.map(|foreign| &foreign.key), hosts, graph.is_wide(key), &facts.terms);
    let around = (around, sidecars, graph.foreign(key).is_some(), graph.revision_of(key));
    let names: Vec<BTreeSet<_>> =
        facts.known.keys().map(|host| registry.other_names(host).collect()).collect();
    let FenceFacts { labels, wants, known, .. } = facts;
    format!("{labels:?} {wants:?} {resolved:?} {known:?} {names:?} {around:?}")
}

fn everything(graph: &Graph) -> Vec<String> {
    let keys: BTreeSet<_> = graph.fence_keys().cloned().collect();
    let fences = keys.iter().map(|key| format!("{key} {}", view(graph, key)));
    let callers = (0..12).map(|number| format!("{number} {:?}", fences_of(graph, number)));
    let hosts =
        HOSTS.iter().map(|host| format!("{host} {:?} {}", namespaces(graph, host), graph.is_guarded(host)));
    let workloads = ["shop", "other"]
        .into_iter()
        .flat_map(|namespace| WORKLOADS.map(|name| Caller::Workload(ObjectKey::new(namespace, name))));
    let named = graph.workloads().pod_keys().cloned().map(Caller::Pod).chain(workloads);
    let named: BTreeSet<_> =
        named.map(|caller| format!("{caller:?} {:?}", in_fences_of(graph, &caller))).collect();
    let untold = graph.without_history().map(|key| format!("{key} has no history"));
    let services: BTreeSet<_> = graph.registry().service_keys().map(ToString::to_string).collect();
    let entries: BTreeSet<_> = graph.registry().entry_keys().map(ToString::to_string).collect();
    let pods: BTreeSet<_> = graph.workloads().pod_keys().map(ToString::to_string).collect();
    let objects = [services, entries, pods].into_iter().flatten();
    fences.chain(callers).chain(hosts).chain(named).chain(untold).chain(objects).collect()
}

proptest! {
    #[test]
    fn whatever_happened_the_graph_is_as_if_made_from_what_is_left(
        changes in prop::collection::vec(some_change(), 0..24),
    ) {
        let (mut graph, mut left) = (in_a_mesh(), Objects::default());
        for change in changes {
            left.note(&change);
            graph.apply(change);
        }
        let mut fresh = in_a_mesh();
        left.changes().into_iter().for_each(|change| drop(fresh.apply(change)));
        prop_assert_eq!(everything(&graph), everything(&fresh));
    }

    #[test]
    fn the_order_in_which_objects_are_listed_is_no_matter(
        (listed, shuffled) in prop::collection::vec(some_change(), 0..24).prop_flat_map(|changes| {
            let mut objects = Objects::default();
            for change in &changes {
                objects.note(change);
            }
            (Just(objects.changes()), Just(objects.changes()).prop_shuffle())
        }),
    ) {
        let (mut one, mut other) = (in_a_mesh(), in_a_mesh());
        take(&mut one, listed);
        take(&mut other, shuffled);
        prop_assert_eq!(everything(&one), everything(&other));
    }

    #[test]
    fn a_change_that_makes_a_difference_to_a_fence_touches_it(
        changes in prop::collection::vec(some_change(), 0..24),
    ) {
        let mut graph = in_a_mesh();
        for change in changes {
            let before: BTreeMap<_, _> = graph.fence_keys().map(|key| (key.clone(), view(&graph, key))).collect();
            let touched = graph.apply(change.clone());
            for key in graph.fence_keys() {
                let same = before.get(key).is_some_and(|before| *before == view(&graph, key));
                prop_assert!(same || touched.contains(key), "{key} is not touched by {change:?}");
            }
            prop_assert!(touched.iter().all(|key| graph.fence(key).is_some()), "{touched:?}");
        }
    }
}
