//! Which host was called, of a call that ended elsewhere.

use super::*;
use crate::graph::{Asked, VirtualService};

const REVIEWS_V2: &str = "reviews-v2.shop.svc.cluster.local";
const EGRESS: &str = "egress.mesh.svc.cluster.local";
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));

fn virtual_service(name: &str, hosts: &[&str], destinations: &[&str], delegates: &[&str]) -> Change {
    let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
    Change::VirtualService(VirtualService {
        key: key(name),
        hosts: names(hosts),
        destinations: names(destinations),
        delegates: delegates.iter().map(|name| key(name)).collect(),
        callers: Vec::new(),
    })
}

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
