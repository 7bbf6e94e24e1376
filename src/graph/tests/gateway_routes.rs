//! Routes of the Gateway API that are attached to Services.

use super::*;
use crate::graph::{Asked, Backend, GatewayRoute, RouteKind, VirtualService};

const REVIEWS_V2: &str = "reviews-v2.shop.svc.cluster.local";
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));

fn route(name: &str, parents: &[&str], backends: &[&str]) -> GatewayRoute {
    GatewayRoute {
        kind: RouteKind::Http,
        key: key(name),
        parents: parents.iter().map(|parent| key(parent)).collect(),
        backends: backends.iter().map(|backend| Backend::Service(key(backend))).collect(),
    }
}

/// `shop/reviews` with an address, and a fence in each of two namespaces that knows nothing.
fn graph() -> Graph {
    let reviews = Service { key: key("shop/reviews"), addresses: vec![VIP], ..Service::default() };
    let mut graph = Graph::new("cluster.local");
    graph.apply(Change::Service(reviews));
    for fence in ["shop/client", "web/client"] {
        graph.apply(selecting(fence, "app=client"));
    }
    graph
}

fn called(graph: &Graph, upstream: &str) -> String {
    graph.called(upstream, || Asked { address: Some(VIP), name: None }).to_owned()
}

fn imported(graph: &Graph, namespace: &str) -> Vec<String> {
    graph.routed_from(REVIEWS, namespace).map(|host| host.to_string()).collect()
}

fn declared(graph: &Graph, fence: &str) -> Vec<String> {
    graph.declared(&key(fence)).iter().map(|(host, source)| format!("{host} {source:?}")).collect()
}

#[test]
fn the_service_that_was_called_is_meant_wherever_its_route_sends_the_call() {
    let mut graph = graph();
    graph.apply(Change::GatewayRoute(route("shop/r", &["shop/reviews"], &["shop/reviews-v2"])));
    assert_eq!(called(&graph, REVIEWS_V2), REVIEWS);
    let external = Backend::Host(EXAMPLE.into());
    let moved = GatewayRoute { backends: vec![external], ..route("shop/r", &["shop/reviews"], &[]) };
    graph.apply(Change::GatewayRoute(moved));
    assert_eq!((called(&graph, REVIEWS_V2), called(&graph, EXAMPLE)), (REVIEWS_V2.into(), REVIEWS.into()));
    graph.apply(Change::GatewayRouteGone(RouteKind::Http, key("shop/r")));
    assert_eq!(called(&graph, EXAMPLE), EXAMPLE);
}

#[test]
fn a_consumers_route_is_listed_in_its_own_namespace_alone_before_any_call() {
    let mut graph = graph();
    let consumer = route("web/r", &["shop/reviews"], &["shop/reviews-v2"]);
    assert_eq!(touched(&mut graph, Change::GatewayRoute(consumer.clone())), ["web/client"]);
    assert_eq!(imported(&graph, "web"), [format!("web/{REVIEWS}")]);
    assert_eq!(imported(&graph, "shop"), Vec::<String>::new());
    assert_eq!(declared(&graph, "web/client"), [format!("{REVIEWS} VirtualService")]);
    assert_eq!(declared(&graph, "shop/client"), Vec::<String>::new());
    assert!(touched(&mut graph, Change::GatewayRoute(consumer)).is_empty(), "it is no news");
    let gone = Change::GatewayRouteGone(RouteKind::Http, key("web/r"));
    assert_eq!(touched(&mut graph, gone), ["web/client"]);
    assert_eq!((imported(&graph, "web"), declared(&graph, "web/client")), (vec![], vec![]));
}

#[test]
fn a_producers_route_needs_nothing_but_the_host() {
    let mut graph = graph();
    let producer = Change::GatewayRoute(route("shop/r", &["shop/reviews"], &["shop/reviews-v2"]));
    assert!(touched(&mut graph, producer).is_empty());
    assert_eq!(imported(&graph, "web"), [format!("shop/{REVIEWS}")], "it is listed so anyway");
    assert_eq!(declared(&graph, "web/client"), Vec::<String>::new());
}

#[test]
fn a_route_may_be_a_producers_and_a_consumers_at_once_and_change_from_one_to_the_other() {
    let mut graph = graph();
    let both = route("web/r", &["shop/reviews", "web/own"], &["web/own-v2"]);
    graph.apply(Change::GatewayRoute(both));
    assert_eq!(declared(&graph, "web/client"), [format!("{REVIEWS} VirtualService")]);
    assert_eq!(called(&graph, "own-v2.web.svc.cluster.local"), REVIEWS);
    let own = route("web/r", &["web/own"], &["web/own-v2"]);
    assert_eq!(touched(&mut graph, Change::GatewayRoute(own)), ["web/client"]);
    assert_eq!(declared(&graph, "web/client"), Vec::<String>::new());
    assert_eq!(called(&graph, "own-v2.web.svc.cluster.local"), "own-v2.web.svc.cluster.local");
}

#[test]
fn routes_of_several_kinds_and_virtual_services_may_have_one_name() {
    let mut graph = graph();
    let http = route("shop/r", &["shop/reviews"], &["shop/a"]);
    let grpc = GatewayRoute { kind: RouteKind::Grpc, ..route("shop/r", &["shop/reviews"], &["shop/b"]) };
    graph.apply(Change::GatewayRoute(http));
    graph.apply(Change::GatewayRoute(grpc));
    let service = VirtualService {
        key: key("shop/r"),
        hosts: vec!["reviews".into()],
        destinations: vec!["c".into()],
        ..VirtualService::default()
    };
    graph.apply(Change::VirtualService(service));
    let ends = |graph: &Graph| {
        ["a", "b", "c"].map(|name| called(graph, &format!("{name}.shop.svc.cluster.local")) == REVIEWS)
    };
    assert_eq!(ends(&graph), [true; 3]);
    let keys = |graph: &Graph, kind| graph.gateway_route_keys(kind).into_iter().collect::<Vec<_>>();
    assert_eq!(keys(&graph, RouteKind::Http), [key("shop/r")]);
    assert_eq!(keys(&graph, RouteKind::Tcp), []);
    assert_eq!(graph.virtual_service_keys().collect::<Vec<_>>(), [&key("shop/r")]);
    graph.apply(Change::GatewayRouteGone(RouteKind::Grpc, key("shop/r")));
    assert_eq!(ends(&graph), [true, false, true]);
    graph.apply(Change::VirtualServiceGone(key("shop/r")));
    assert_eq!(ends(&graph), [true, false, false]);
}
