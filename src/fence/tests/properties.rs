//! Whatever happens.

use super::*;

fn some_known() -> impl Strategy<Value = Known> {
    let namespaces = prop::sample::subsequence(vec!["a", "b", "shop"], 0..=3);
    (namespaces, 0i64..4_000_000_000, 0i64..1_000_000).prop_map(|(namespaces, first, more)| Known {
        namespaces: namespaces.into_iter().map(Arc::from).collect(),
        sources: [DependencySource::AccessLog].into(),
        first_seen: Timestamp::from_second(first).unwrap(),
        last_seen: Timestamp::from_second(first + more).unwrap(),
    })
}

/// What a fence has learned, and what it asks for.
type Facts = (Vec<(Arc<str>, Known)>, Vec<Want>);

fn some_facts() -> impl Strategy<Value = Facts> {
    let names = prop::sample::select(vec![REVIEWS, EXAMPLE, "x.other.svc.cluster.local", "*.example.com"]);
    let wants =
        prop::sample::subsequence(vec![REVIEWS, EXAMPLE, "shop/*", "other/*", "*.example.com"], 0..=5);
    let known = prop::collection::btree_map(names, some_known(), 0..4);
    (known, wants).prop_map(|(known, wants)| {
        let known = known.into_iter().map(|(host, known)| (host.into(), known));
        let wants = wants.into_iter().map(|want| Want::always(Wanted::parse(want), DependencySource::Spec));
        (known.collect(), wants.collect())
    })
}

/// What the status says of a fence of which this is known, in a mesh of these objects.
fn written((known, wants): Facts, objects: Vec<Change>) -> BTreeMap<String, Dependency> {
    let mut graph = Graph::new("cluster.local");
    let fence = Fence { key: key("shop/f"), wants, known, ..Fence::default() };
    objects.into_iter().chain([Change::Fence(fence)]).for_each(|change| drop(graph.apply(change)));
    let (key, expired) = (key("shop/f"), Expiry::default());
    domains(&key, graph.fence(&key).unwrap(), &expired, &graph, Timestamp::UNIX_EPOCH)
}

/// What a status remembers, after it was stored.
fn read_back(domains: &BTreeMap<String, Dependency>) -> Vec<(Arc<str>, Known)> {
    let read: BTreeMap<String, _> = serde_json::from_str(&serde_json::to_string(domains).unwrap()).unwrap();
    remembered(&read)
}

fn some_objects() -> Vec<Change> {
    vec![
        service("shop/reviews"),
        headless("shop/redis"),
        service("other/x"),
        headless("other/y"),
        entry("a/e", EXAMPLE),
        entry("b/e", EXAMPLE),
    ]
}

/// What happens to a fence and around it.
#[derive(Clone, Debug)]
enum Happening {
    Object(Change),
    Gone(Change),
    Call(&'static str),
    Wants(Vec<&'static str>),
    Enable(bool),
    OpenAll(bool),
    Select(Option<&'static str>),
    SidecarGone,
    SidecarEmptied,
    Foreign,
    Pause(i64),
}

impl Happening {
    fn befall(self, world: &mut World) {
        match self {
            Self::Object(change) => world.tell([change]),
            Self::Gone(Change::Service(service)) => world.tell([Change::ServiceGone(service.key)]),
            Self::Gone(Change::ServiceEntry(entry)) => world.tell([Change::ServiceEntryGone(entry.key)]),
            Self::Gone(_) => {}
            Self::Call(host) => world.call(host),
            Self::Wants(hosts) => world.edit(|spec| spec.host = wants(&hosts)),
            Self::Enable(enable) => world.edit(|spec| spec.enable = enable),
            Self::OpenAll(open_all) => world.open_all = open_all,
            Self::Select(own) => world.edit(|spec| {
                let selector = |own| WorkloadSelector { labels: labels(own), from_service: false };
                spec.workload_selector = own.map(selector);
            }),
            Self::SidecarGone => world.sidecar = None,
            Self::SidecarEmptied => world.sidecar.iter_mut().for_each(|sidecar| sidecar.spec.egress.clear()),
            Self::Foreign => {
                world.sidecar.iter_mut().for_each(|sidecar| sidecar.metadata.owner_references = None);
            }
            Self::Pause(millis) => world.now += SignedDuration::from_millis(millis),
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let hosts = vec![REVIEWS, EXAMPLE, "x.other.svc.cluster.local", "redis.shop.svc.cluster.local"];
    let wants = vec![REVIEWS, EXAMPLE, "shop/*", "other/*", "nobody.defines.it"];
    prop_oneof![
        4 => prop::sample::select(some_objects()).prop_map(Happening::Object),
        1 => prop::sample::select(some_objects()).prop_map(Happening::Gone),
        4 => prop::sample::select(hosts).prop_map(Happening::Call),
        2 => prop::sample::subsequence(wants, 0..=5).prop_map(Happening::Wants),
        1 => any::<bool>().prop_map(Happening::Enable),
        1 => any::<bool>().prop_map(Happening::OpenAll),
        1 => prop::sample::select(vec![None, Some("app=client"), Some("app=client,tier=web")])
            .prop_map(Happening::Select),
        1 => prop::sample::select(vec![Happening::SidecarGone, Happening::SidecarEmptied, Happening::Foreign]),
        6 => prop_oneof![0i64..400, Just(300), Just(10_000), 40_000i64..60_000].prop_map(Happening::Pause),
    ]
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec(happening(), 0..12)
}

/// Exact hosts, or everything: one wildcard among exact hosts would cost istiod its short cut.
fn lists_exact_hosts(sidecar: &Sidecar) -> bool {
    let exact =
        |hosts: &Vec<String>| hosts.iter().all(|host| !host.contains('*') && host.split('/').count() == 2);
    sidecar.spec.egress.iter().all(|listener| listener.hosts == ["*/*"] || exact(&listener.hosts))
}

proptest! {
    #[test]
    fn a_status_remembers_what_is_known((known, _) in some_facts()) {
        let written = written((known.clone(), Vec::new()), Vec::new());
        prop_assert_eq!(read_back(&written), known);
    }

    #[test]
    fn a_status_that_is_read_back_changes_nothing((known, wants) in some_facts()) {
        let first = written((known.clone(), wants.clone()), some_objects());
        let both = known.into_iter().chain(read_back(&first)).collect();
        prop_assert_eq!(written((both, wants), some_objects()), first);
    }

    #[test]
    fn the_same_knowledge_gives_the_same_bytes(
        objects in Just(some_objects()).prop_shuffle(),
        calls in Just(vec![REVIEWS, EXAMPLE, "x.other.svc.cluster.local"]).prop_shuffle(),
    ) {
        let bytes = |objects: Vec<Change>, calls: Vec<&str>| {
            let mut world = World::new();
            world.edit(|spec| spec.host = wants(&["other/*", EXAMPLE]));
            world.tell(objects);
            for host in calls {
                world.call(host);
            }
            // The wide Sidecar has no host of its own; the trimmed one has all of them.
            let wide = world.plan();
            world.turn();
            let plan = world.plan();
            let both = [applied(&wide), applied(&plan)];
            format!("{}{}", serde_json::to_string(&both).unwrap(), serde_json::to_string(&plan.status).unwrap())
        };
        prop_assert_eq!(bytes(objects, calls), bytes(some_objects(), vec![REVIEWS, EXAMPLE, "x.other.svc.cluster.local"]));
    }

    #[test]
    fn whatever_happens_what_was_planned_is_planned_once(happenings in happenings()) {
        let mut world = World::new();
        for happening in happenings {
            happening.befall(&mut world);
            world.settle();
            prop_assert!(world.sidecar.as_ref().is_none_or(lists_exact_hosts), "{}", world.hosts());
        }
    }

    #[test]
    fn whatever_happened_a_fence_lists_what_its_status_says_in_the_end(happenings in happenings()) {
        let mut world = World::new();
        for happening in happenings {
            happening.befall(&mut world);
            world.settle();
        }
        world.run();
        let status = world.fence.status.clone().unwrap();
        let used = status.domains.values().flat_map(|domain| domain.hosts.clone());
        let headless = world.graph.registry().headless_in("shop").map(|host| host.to_string());
        let all: BTreeSet<_> = used.chain(headless).chain([PROXY.to_owned()]).collect();
        match world.reason() {
            reasons::FENCED => {
                let expected = format!("route: {}", all.into_iter().collect::<Vec<_>>().join(" "));
                prop_assert_eq!(world.hosts(), expected);
            }
            reasons::OPEN => {
                prop_assert!(!world.has_own_sidecar());
            }
            reason => prop_assert!(!matches!(reason, reasons::FENCING | reasons::OPENING), "{reason}"),
        }
    }

    #[test]
    fn whatever_happened_a_deleted_fence_leaves_nothing_behind(happenings in happenings()) {
        let mut world = World::new();
        for happening in happenings {
            happening.befall(&mut world);
            world.settle();
        }
        world.fence.metadata.deletion_timestamp = Some(Time(world.now));
        world.run();
        prop_assert!(!world.has_own_sidecar());
        prop_assert!(!world.plan().hold);
    }
}
