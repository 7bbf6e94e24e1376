//! External hosts without a `ServiceEntry`: which get one, and who learns them.

use super::super::{EgressHost, ExternalPolicy, MeshWide, OwnEntry, PassedThrough, entry_key};
use super::*;
use crate::istio::{Mode, OutboundTrafficPolicy};

const API: &str = "api.example.org";

fn policy() -> ExternalPolicy {
    ExternalPolicy { service_entries: true, max_per_namespace: 2, ..ExternalPolicy::default() }
}

/// A fence `shop/client` with the pod 1, one `shop/web` with the pod 2, and one in another namespace with the pod 3.
fn under(policy: ExternalPolicy) -> Graph {
    let mut graph = Graph::of(MeshWide { external: policy, ..MeshWide::default() });
    take(
        &mut graph,
        [
            service("shop/reviews", "app=reviews"),
            selecting("shop/client", "app=client"),
            selecting("shop/web", "app=web"),
            selecting("bank/client", "app=client"),
            pod("shop/client-1", &[1], "app=client"),
            pod("shop/web-1", &[2], "app=web"),
            pod("bank/client-1", &[3], "app=client"),
        ],
    );
    graph
}

fn passed(caller: u8, host: &str, port: u16) -> PassedThrough {
    PassedThrough { caller: ip(caller).into(), host: host.into(), port }
}

fn seen_passing(caller: u8, host: &str, port: u16) -> Change {
    Change::PassedThrough(passed(caller, host, port), at(1))
}

/// Our own entry for a host.
fn own_entry(namespace: &str, host: &str, ports: &[u16]) -> Change {
    Change::ServiceEntry(ServiceEntry {
        key: entry_key(namespace, host),
        hosts: vec![host.into()],
        export_to: ExportTo::Only(BTreeSet::from([namespace.into()])),
        own: Some(OwnEntry { ports: ports.iter().copied().collect(), owners: BTreeSet::new() }),
        ..ServiceEntry::default()
    })
}

fn judged(graph: &Graph, caller: u8, host: &str) -> Judgement {
    graph.judge_passed_through(&passed(caller, host, 443), at(2))
}

/// The hosts of a namespace that are to have an entry, with their ports and fences.
fn wanted(graph: &Graph, namespace: &str) -> Vec<(String, Vec<u16>, Vec<String>)> {
    let all = graph.external_hosts(namespace).into_iter().filter(|host| host.allowed);
    all.map(|host| {
        let fences = host.fences.iter().map(ToString::to_string).collect();
        (host.host.to_string(), host.ports.into_iter().collect(), fences)
    })
    .collect()
}

#[test]
fn a_host_is_learned_when_its_entry_has_come_and_not_before() {
    let mut graph = under(policy());
    assert_eq!(judged(&graph, 1, API), Judgement::New);
    assert_eq!(touched(&mut graph, seen_passing(1, API, 443)), ["shop/client"]);
    assert!(touched(&mut graph, seen_passing(1, API, 443)).is_empty(), "a second call is no news");
    assert_eq!(wanted(&graph, "shop"), [(API.to_owned(), vec![443], vec!["shop/client".to_owned()])]);
    assert!(known_hosts(&graph, "shop/client").is_empty());

    assert_eq!(touched(&mut graph, own_entry("shop", API, &[443])), ["shop/client"]);
    assert_eq!(known(&graph, "shop/client", API), Some(knowledge(&["shop"], 1, 1)));
    assert_eq!(judged(&graph, 1, API), Judgement::Known);
    assert!(known_hosts(&graph, "shop/web").is_empty(), "its neighbour has not called");
}

#[test]
fn a_second_fence_of_the_namespace_shares_the_entry_and_another_namespace_gets_its_own() {
    let mut graph = under(policy());
    take(&mut graph, [seen_passing(1, API, 443), own_entry("shop", API, &[443]), seen_passing(2, API, 443)]);
    assert_eq!(known_hosts(&graph, "shop/web"), [API]);
    let fences = vec!["shop/client".to_owned(), "shop/web".to_owned()];
    assert_eq!(wanted(&graph, "shop"), [(API.to_owned(), vec![443], fences)]);

    assert_eq!(judged(&graph, 3, API), Judgement::New, "the entry is not for its namespace");
    take(&mut graph, [seen_passing(3, API, 443), own_entry("bank", API, &[443])]);
    assert_eq!(known(&graph, "bank/client", API), Some(knowledge(&["bank"], 1, 1)));
    assert_eq!(known(&graph, "shop/client", API), Some(knowledge(&["shop"], 1, 1)));
    assert!(namespaces(&graph, API).is_empty(), "to others, the entries are not there");
    let nothing: BTreeSet<EgressHost> = BTreeSet::new();
    assert_eq!(graph.registry().hidden_in("shop"), nothing, "and no fence lists them unasked");
}

#[test]
fn a_further_port_is_added_to_the_entry() {
    let mut graph = under(policy());
    take(&mut graph, [seen_passing(1, API, 443), own_entry("shop", API, &[443]), seen_passing(1, API, 8443)]);
    assert_eq!(wanted(&graph, "shop"), [(API.to_owned(), vec![443, 8443], vec!["shop/client".to_owned()])]);
}

#[test]
fn names_that_may_mean_something_in_the_cluster_and_what_is_no_name_get_no_entry() {
    let mut graph = under(policy());
    for host in [
        "reviews",
        "reviews.shop",
        "reviews.shop.svc",
        "pod-0.reviews",
        "pod-0.reviews.shop",
        "pod-0.reviews.shop.svc",
        "reviews.shop.svc.cluster.local",
        "cluster.local",
        "10.0.0.1",
        "*.example.org",
        "a_b.example.org",
        &format!("{}.example.org", "a.".repeat(116)),
    ] {
        assert_eq!(judged(&graph, 1, host), Judgement::UnknownHost, "{host}");
        graph.apply(seen_passing(1, host, 443));
    }
    assert!(graph.external_hosts("shop").is_empty());
    assert_eq!(judged(&graph, 1, "notcluster.local"), Judgement::New);
}

#[test]
fn what_somebody_defines_where_the_namespace_sees_it_gets_no_entry() {
    for hosts in [&[API], &["*.example.org"]] {
        let mut graph = under(policy());
        graph.apply(entry("other/user", hosts));
        assert_eq!(judged(&graph, 1, API), Judgement::UnknownHost, "{hosts:?}");
    }
    let mut graph = under(policy());
    let export_to = ExportTo::Only(BTreeSet::from(["bank".into()]));
    let hosts = vec![API.into()];
    graph.apply(Change::ServiceEntry(ServiceEntry {
        key: key("bank/user"),
        hosts,
        export_to,
        ..ServiceEntry::default()
    }));
    assert_eq!(judged(&graph, 1, API), Judgement::New, "it sees none of that");
    assert_eq!(judged(&graph, 3, API), Judgement::UnknownHost);
}

#[test]
fn an_entry_gives_way_to_one_that_somebody_writes() {
    let mut graph = under(policy());
    take(&mut graph, [seen_passing(1, API, 443), own_entry("shop", API, &[443])]);
    let theirs = entry("other/user", &["*.example.org"]);
    assert_eq!(graph.external_namespaces(&theirs), BTreeSet::from(["shop".into()]));
    graph.apply(theirs);
    assert!(wanted(&graph, "shop").is_empty());
}

#[test]
fn nothing_is_opened_that_is_closed() {
    let closed = |name: &str, selector: Option<&str>| {
        let Sidecar { key, created, revision, origin } = foreign(name, selector, &["*/*"]);
        let Origin::Other(spec, consent) = origin else { panic!("it is nobody else's") };
        let outbound_traffic_policy =
            Some(OutboundTrafficPolicy { mode: Mode::RegistryOnly, egress_proxy: None });
        let spec = SidecarSpec { outbound_traffic_policy, ..(*spec).clone() };
        Change::Sidecar(Sidecar { key, created, revision, origin: Origin::Other(Arc::new(spec), consent) })
    };
    for change in [
        Change::MeshConfig(MeshConfig { registry_only: true, ..MeshConfig::default() }),
        closed("shop/default", None),
        closed("shop/some", Some("app=other")),
        closed("istio-system/default", None),
    ] {
        let mut graph = under(policy());
        take(&mut graph, [seen_passing(1, API, 443), own_entry("shop", API, &[443])]);
        assert_eq!(graph.external_namespaces(&change), BTreeSet::from(["shop".into()]), "{change:?}");
        graph.apply(change.clone());
        assert!(wanted(&graph, "shop").is_empty(), "{change:?}");
        assert_eq!(judged(&graph, 1, "www.example.org"), Judgement::UnknownHost, "{change:?}");
    }
    let mut graph = under(policy());
    graph.apply(closed("bank/default", None));
    assert_eq!(judged(&graph, 1, API), Judgement::New, "another namespace is none of its");
}

#[test]
fn a_namespace_gets_as_many_entries_as_it_may_have_and_only_those_that_are_allowed() {
    let mut graph = under(ExternalPolicy { hosts: vec!["*.example.org".to_owned()], ..policy() });
    assert_eq!(judged(&graph, 1, "www.example.com"), Judgement::UnknownHost);
    take(&mut graph, [seen_passing(1, "a.example.org", 443), own_entry("shop", "a.example.org", &[443])]);
    graph.apply(seen_passing(1, "b.example.org", 443));
    assert_eq!(judged(&graph, 1, "c.example.org"), Judgement::UnknownHost);
    assert_eq!(judged(&graph, 2, "b.example.org"), Judgement::New, "it is on the way");
    assert_eq!(judged(&graph, 3, "c.example.org"), Judgement::New, "another namespace has room");
    for port in 1..100 {
        graph.apply(seen_passing(1, "b.example.org", port));
    }
    assert_eq!(wanted(&graph, "shop")[1].1.len(), 16);
}

#[test]
fn a_full_fence_and_one_that_may_not_learn_of_its_own_namespace_get_nothing() {
    let elsewhere = Arc::new(BTreeSet::from(["bank".into()]));
    for (learning, noted) in [
        (Learning { max_hosts: 0, ..Learning::default() }, false),
        (Learning { namespaces: elsewhere, ..Learning::default() }, true),
    ] {
        let mut graph = under(policy()).with_learning(learning);
        graph.apply(selecting("shop/client", "app=client"));
        assert_eq!(judged(&graph, 1, API), if noted { Judgement::New } else { Judgement::Refused });
        let touched = graph.apply(seen_passing(1, API, 443));
        assert_eq!(touched.contains(&key("shop/client")), noted, "the first one is noted");
        assert_eq!(graph.fence(&key("shop/client")).unwrap().refused.is_some(), noted);
        assert_eq!(judged(&graph, 1, API), Judgement::Refused);
        assert!(graph.external_hosts("shop").is_empty());
    }
}

#[test]
fn without_the_option_nothing_is_wanted_and_what_is_there_is_still_learned() {
    let mut graph = under(ExternalPolicy::default());
    assert_eq!(judged(&graph, 1, API), Judgement::UnknownHost);
    graph.apply(seen_passing(1, API, 443));
    assert!(graph.external_hosts("shop").is_empty());
    graph.apply(own_entry("shop", API, &[443]));
    assert_eq!(judged(&graph, 1, API), Judgement::New);
}

#[test]
fn a_host_that_no_fence_uses_any_more_has_no_fences() {
    let mut graph = under(policy());
    take(&mut graph, [seen_passing(1, API, 443), seen_passing(3, API, 443), own_entry("shop", API, &[443])]);
    graph.apply(Change::Forget(key("shop/client"), vec![(API.into(), at(1))]));
    assert_eq!(wanted(&graph, "shop"), [(API.to_owned(), vec![443], vec![])]);
    graph.apply(Change::FenceGone(key("bank/client")));
    assert!(!graph.has_external_hosts("bank"), "nobody waits for it any more");
}

fn something() -> impl Strategy<Value = Change> {
    let host = || prop::sample::select(vec!["a.example.org", "b.example.org", "c.example.org"]);
    let namespace = || prop::sample::select(vec!["shop", "bank"]);
    prop_oneof![
        4 => (1u8..=3, host(), 440u16..445).prop_map(|(caller, host, port)| seen_passing(caller, host, port)),
        2 => (namespace(), host(), 440u16..445).prop_map(|(ns, host, port)| own_entry(ns, host, &[port])),
        1 => (namespace(), host()).prop_map(|(ns, host)| Change::ServiceEntryGone(entry_key(ns, host))),
        1 => Just(Change::FenceGone(key("shop/client"))),
        1 => Just(selecting("shop/client", "app=client")),
        1 => Just(entry("bank/user", &["b.example.org"])),
        1 => Just(Change::ServiceEntryGone(key("bank/user"))),
    ]
}

proptest! {
    #[test]
    fn what_is_learned_is_in_a_namespace_that_had_an_entry_and_what_waits_is_bounded(
        changes in prop::collection::vec(something(), 0..40)
    ) {
        let mut graph = under(policy());
        let mut entries = BTreeSet::new();
        for change in changes {
            if let Change::ServiceEntry(ServiceEntry { key, own: Some(_), .. }) = &change {
                entries.insert(key.clone());
            }
            graph.apply(change);
            for namespace in ["shop", "bank"] {
                let waiting = graph.external_hosts(namespace).into_iter().filter(|host| host.entry.is_none());
                prop_assert!(waiting.count() <= 2);
                for fence in graph.fences_in(namespace) {
                    for host in graph.fence(fence).unwrap().known.keys() {
                        prop_assert!(entries.contains(&entry_key(namespace, host)));
                    }
                }
            }
        }
    }
}
