//! Which host was called, of a call that ended elsewhere.

use super::*;
use crate::graph::{Asked, Audience};

const REVIEWS_V2: &str = "reviews-v2.shop.svc.cluster.local";
const EGRESS: &str = "egress.mesh.svc.cluster.local";
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));

fn with_address(name: &str, address: IpAddr) -> Change {
    Change::Service(Service { key: key(name), addresses: vec![address], ..Service::default() })
}

fn graph(changes: impl IntoIterator<Item = Change>) -> Graph {
    let mut graph = Graph::new("cluster.local");
    for change in changes {
        graph.apply(change);
    }
    graph
}

fn address(address: IpAddr) -> Asked {
    Asked { address: Some(address), name: None }
}

fn name(name: &str) -> Asked {
    Asked { address: Some(ip(200)), name: Some(name.to_owned()) }
}

#[test]
fn the_host_with_the_called_address_is_meant() {
    let graph = graph([
        with_address("shop/reviews", VIP),
        with_address("shop/reviews-v2", ip(2)),
        virtual_service("shop/reviews", &["reviews"], &["reviews", "reviews-v2"], &[]),
    ]);
    assert_eq!(graph.called(REVIEWS_V2, || address(VIP)), REVIEWS);
    assert_eq!(graph.called(REVIEWS_V2, || address(ip(2))), REVIEWS_V2, "it was called itself");
    assert_eq!(graph.called(REVIEWS, || address(VIP)), REVIEWS);
    assert_eq!(graph.called(RATINGS, || unreachable!("nobody sends calls there")), RATINGS);
}

#[test]
fn a_name_chooses_only_among_hosts_without_an_address_that_are_sent_there() {
    let graph = graph([
        with_address("shop/reviews", VIP),
        entry("shop/external", &[EXAMPLE, "other.example.com"]),
        virtual_service("shop/egress", &[EXAMPLE], &[EGRESS], &[]),
        virtual_service("shop/reviews", &["reviews"], &[EGRESS], &[]),
    ]);
    assert_eq!(graph.called(EGRESS, || name("WWW.example.com")), EXAMPLE);
    assert_eq!(graph.called(EGRESS, || name("other.example.com")), EGRESS, "nothing sends it there");
    assert_eq!(graph.called(EGRESS, || name(REVIEWS)), EGRESS, "a name is no address");
}

#[test]
fn a_delegate_routes_for_those_who_delegate_to_it() {
    let mut graph = graph([
        with_address("shop/reviews", VIP),
        virtual_service("shop/root", &["reviews"], &[], &["team/delegate"]),
        virtual_service("team/delegate", &[], &[REVIEWS_V2], &[]),
    ]);
    assert_eq!(graph.called(REVIEWS_V2, || address(VIP)), REVIEWS);
    graph.apply(Change::VirtualServiceGone(key("shop/root")));
    assert_eq!(graph.called(REVIEWS_V2, || address(VIP)), REVIEWS_V2);
}

#[test]
fn a_changed_virtual_service_forgets_where_it_sent_calls() {
    let mut graph = graph([
        with_address("shop/reviews", VIP),
        virtual_service("shop/reviews", &["reviews"], &["reviews-v2"], &[]),
        virtual_service("shop/reviews", &["reviews"], &["ratings"], &[]),
    ]);
    assert_eq!(graph.called(REVIEWS_V2, || address(VIP)), REVIEWS_V2);
    assert_eq!(graph.called(RATINGS, || address(VIP)), REVIEWS);
    graph.apply(Change::VirtualServiceGone(key("shop/reviews")));
    assert_eq!(graph.called(RATINGS, || address(VIP)), RATINGS);
    assert_eq!(graph.virtual_service_keys().count(), 0);
}

#[test]
fn a_host_is_imported_from_where_its_calls_are_routed_and_its_fences_hear_of_it() {
    let mut graph = graph([with_address("shop/reviews", VIP)]);
    let fence = Fence {
        key: key("web/client"),
        selection: PodSelection::Labels(labels("app=client")),
        wants: vec![crate::graph::Want::always(crate::graph::Wanted::parse(REVIEWS), DependencySource::Spec)],
        known: Vec::new(),
        learning: None,
        terms: crate::graph::Terms::default(),
    };
    graph.apply(Change::Fence(fence));
    let from =
        |graph: &Graph| graph.routed_from(REVIEWS, "web").map(|host| host.to_string()).collect::<Vec<_>>();
    let touched = graph.apply(virtual_service("web/reviews", &[REVIEWS], &[REVIEWS_V2], &[]));
    assert_eq!(touched, BTreeSet::from([key("web/client")]));
    assert_eq!(from(&graph), [format!("web/{REVIEWS}")]);
    assert!(graph.apply(virtual_service("shop/reviews", &["reviews"], &["reviews"], &[])).is_empty());
    let touched = graph.apply(Change::VirtualServiceGone(key("web/reviews")));
    assert_eq!(touched, BTreeSet::from([key("web/client")]));
    assert_eq!(from(&graph), [format!("shop/{REVIEWS}")]);
    let gateway = VirtualService {
        key: key("web/gateway"),
        hosts: vec![REVIEWS.into()],
        audience: Audience::Gateways,
        ..VirtualService::default()
    };
    assert!(!from(&graph).contains(&format!("web/{REVIEWS}")));
    graph.apply(Change::VirtualService(gateway));
    assert_eq!(from(&graph), [format!("shop/{REVIEWS}")], "workloads never use it");
}

#[test]
fn whoever_lists_a_host_hears_of_who_routes_its_calls_from_elsewhere() {
    let named = CallerPattern::principal("td/ns/web/sa/client").unwrap();
    let by_policy =
        Policy { key: key("shop/p"), selector: labels("app=reviews"), targets: None, callers: vec![named] };
    let reviews = || Service {
        key: key("shop/reviews"),
        selector: labels("app=reviews"),
        labels: labels("tier=web"),
        ..Service::default()
    };
    let by_mesh = MeshConfig { hosts: BTreeSet::from([REVIEWS.into()]), ..MeshConfig::default() };
    let asking = |hosts| Fence {
        key: key("web/client"),
        selection: PodSelection::Labels(labels("app=client")),
        wants: vec![Want::always(hosts, DependencySource::Spec)],
        ..Fence::default()
    };
    let hidden = || Service { export_to: ExportTo::Only(["web".into()].into()), ..reviews() };
    let cases = [
        ("its name", Change::Fence(asking(Wanted::parse(REVIEWS)))),
        ("its namespace", Change::Fence(asking(Wanted::parse("shop/*")))),
        ("that it is seen there alone", Change::Service(hidden())),
        ("its labels", Change::Fence(asking(Wanted::Labels(labels("tier=web"))))),
        ("a policy", Change::Policy(by_policy)),
        ("the mesh configuration", Change::MeshConfig(by_mesh)),
        ("a Sidecar that it is composed with", Change::Sidecar(foreign("web/default", None, &["shop/*"]))),
    ];
    for (what, lists) in cases {
        let client = Pod {
            key: key("web/client-1"),
            labels: labels("app=client"),
            account: "client".into(),
            ..Pod::default()
        };
        let before = [Change::Service(reviews()), selecting("web/client", "app=client"), Change::Pod(client)];
        let mut graph = graph(before.into_iter().chain([lists]));
        let route = || virtual_service("web/reviews", &[REVIEWS], &[REVIEWS_V2], &[]);
        assert_eq!(graph.apply(route()), BTreeSet::from([key("web/client")]), "{what}");
        let gone = graph.apply(Change::VirtualServiceGone(key("web/reviews")));
        assert_eq!(gone, BTreeSet::from([key("web/client")]), "{what}");
    }
}

#[test]
fn a_wildcard_routes_the_names_that_it_stands_for() {
    let graph = graph([
        entry("shop/external", &["*.example.com"]),
        virtual_service("shop/egress", &["*.example.com"], &[EGRESS], &[]),
    ]);
    assert_eq!(graph.called(EGRESS, || name(EXAMPLE)), "*.example.com");
    assert_eq!(graph.called(EGRESS, || name("example.com")), EGRESS);
}

#[test]
fn a_host_without_an_address_is_meant_by_its_short_names_too() {
    let graph = graph([
        Change::Service(Service { key: key("db/mysql"), headless: true, ..Service::default() }),
        virtual_service("db/mysql", &["mysql"], &[REVIEWS_V2], &[]),
    ]);
    for (asked, called) in [
        ("mysql.db", "mysql.db.svc.cluster.local"),
        ("mysql.db.svc", "mysql.db.svc.cluster.local"),
        ("mysql.db.svc.cluster.local", "mysql.db.svc.cluster.local"),
        ("mysql", REVIEWS_V2),
        ("mysql.d", REVIEWS_V2),
    ] {
        assert_eq!(graph.called(REVIEWS_V2, || name(asked)), called, "{asked}");
    }
}

#[test]
fn routes_of_wildcards_are_imported_and_their_fences_hear_of_it() {
    for (listed, routed) in [(EXAMPLE, "*.example.com"), ("*.example.com", EXAMPLE)] {
        let mut graph = graph([entry("ext/external", &[listed])]);
        graph.apply(Change::Fence(Fence {
            key: key("web/client"),
            selection: PodSelection::Labels(labels("app=client")),
            wants: vec![Want::always(Wanted::parse(listed), DependencySource::Spec)],
            ..Fence::default()
        }));
        let touched = graph.apply(virtual_service("infra/policy", &[routed], &[EGRESS], &[]));
        assert_eq!(touched, BTreeSet::from([key("web/client")]), "{routed}");
        let from: Vec<_> = graph.routed_from(listed, "web").map(|host| host.to_string()).collect();
        assert_eq!(from, [format!("infra/{listed}")]);
        let touched = graph.apply(Change::VirtualServiceGone(key("infra/policy")));
        assert_eq!(touched, BTreeSet::from([key("web/client")]), "{routed}");
        assert_eq!(graph.routed_from(listed, "web").count(), 0);
    }
}

/// A metric names where a call ended, and nothing else.
#[test]
fn a_host_that_is_routed_elsewhere_stays_in_use_by_what_its_calls_end_at() {
    let mut graph = graph([
        with_address("shop/reviews", VIP),
        with_address("shop/reviews-v2", ip(2)),
        with_address("shop/ratings", ip(3)),
        selecting("shop/client", "app=client"),
        Change::Pod(Pod {
            key: key("shop/client-1"),
            labels: labels("app=client"),
            ips: vec![ip(9)],
            ..Pod::default()
        }),
        virtual_service("shop/reviews", &["reviews"], &["reviews-v2"], &[]),
    ]);
    let caller = Caller::from(ip(9));
    let day = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
    let told = |graph: &Graph, now| -> Vec<String> {
        graph.perhaps_called(&caller, REVIEWS_V2, now).map(ToString::to_string).collect()
    };
    assert_eq!(told(&graph, day(0)), [REVIEWS], "no other can have been called");
    graph.apply(Change::Call(Observation {
        caller: caller.clone(),
        host: REVIEWS.into(),
        source: DependencySource::AccessLog,
        seen: day(0),
    }));
    assert_eq!(told(&graph, day(1)), [""; 0]);
    assert_eq!(told(&graph, day(30)), [REVIEWS]);
    graph.apply(virtual_service("shop/ratings", &["ratings"], &["reviews-v2"], &[]));
    assert_eq!(told(&graph, day(30)), [REVIEWS], "which one of the others was called nobody knows");
    let gateways = VirtualService {
        key: key("shop/ratings"),
        hosts: vec![RATINGS.into()],
        destinations: vec![REVIEWS_V2.into()],
        audience: Audience::Gateways,
        ..VirtualService::default()
    };
    graph.apply(Change::VirtualService(gateways));
    assert_eq!(told(&graph, day(30)), [REVIEWS]);
}
