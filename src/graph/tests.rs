//! What the graph makes of changes: whom they touch, who a caller is, what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{
    Change, Fence, Graph, Judgement, Known, LAST_SEEN_PRECISION, Labels, ObjectKey, Observation, Pod,
    PodSelection, Service, ServiceEntry,
};
use crate::api::DependencySource;

const REVIEWS: &str = "reviews.shop.svc.cluster.local";
const RATINGS: &str = "ratings.shop.svc.cluster.local";
const EXAMPLE: &str = "www.example.com";

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    ObjectKey::new(namespace, name)
}

/// `a=1,b=2`
fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Labels::from(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>())
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, last])
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

fn service(name: &str, selector: &str) -> Change {
    Change::Service(Service { key: key(name), selector: labels(selector), headless: false })
}

fn headless(name: &str) -> Change {
    Change::Service(Service { key: key(name), selector: labels("app=any"), headless: true })
}

fn entry(name: &str, hosts: &[&str]) -> Change {
    Change::ServiceEntry(ServiceEntry { key: key(name), hosts: hosts.iter().map(|h| (*h).into()).collect() })
}

fn pod(name: &str, ips: &[u8], with: &str) -> Change {
    Change::Pod(Pod { key: key(name), ips: ips.iter().copied().map(ip).collect(), labels: labels(with) })
}

fn fence(name: &str, selection: PodSelection, wants: &[&str]) -> Change {
    let wants = wants.iter().map(|want| (*want).into()).collect();
    Change::Fence(Fence { key: key(name), selection, wants, known: Vec::new() })
}

fn selecting(name: &str, selector: &str) -> Change {
    fence(name, PodSelection::Labels(labels(selector)), &[])
}

fn of_service(name: &str) -> Change {
    fence(name, PodSelection::Service, &[])
}

fn seen(caller: u8, host: &str, minute: i64) -> Observation {
    Observation {
        caller: ip(caller),
        host: host.into(),
        source: DependencySource::AccessLog,
        seen: at(minute),
    }
}

fn call(caller: u8, host: &str, minute: i64) -> Change {
    Change::Call(seen(caller, host, minute))
}

fn knowledge(namespaces: &[&str], first: i64, last: i64) -> Known {
    Known {
        namespaces: namespaces.iter().map(|n| (*n).into()).collect(),
        sources: BTreeSet::from([DependencySource::AccessLog]),
        first_seen: at(first),
        last_seen: at(last),
    }
}

fn graph(changes: impl IntoIterator<Item = Change>) -> Graph {
    let mut graph = Graph::new("cluster.local");
    take(&mut graph, changes);
    graph
}

fn take(graph: &mut Graph, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        graph.apply(change);
    }
}

fn touched(graph: &mut Graph, change: Change) -> Vec<String> {
    graph.apply(change).iter().map(ToString::to_string).collect()
}

/// The fences of the pod at an address; `None` if nobody has it.
fn fences_of(graph: &Graph, caller: u8) -> Option<Vec<String>> {
    graph.workloads().fences_of(ip(caller)).map(|fences| fences.iter().map(ToString::to_string).collect())
}

#[allow(clippy::unnecessary_wraps, reason = "It is compared with what may be none")]
fn in_fences(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn known_hosts(graph: &Graph, fence: &str) -> Vec<String> {
    let facts = graph.fence(&key(fence));
    facts.into_iter().flat_map(|facts| facts.known.keys()).map(ToString::to_string).collect()
}

fn known(graph: &Graph, fence: &str, host: &str) -> Option<Known> {
    graph.fence(&key(fence)).and_then(|facts| facts.known.get(host)).cloned()
}

fn namespaces(graph: &Graph, host: &str) -> Vec<String> {
    graph.registry().namespaces(host).iter().map(ToString::to_string).collect()
}

/// A shop with two services, an external host, and three pods: 1 in one fence, 2 in two, 3 in none.
fn shop() -> Graph {
    graph([
        service("shop/reviews", "app=reviews"),
        service("shop/ratings", "app=ratings"),
        entry("shop/example", &[EXAMPLE]),
        selecting("shop/client", "app=client"),
        selecting("shop/web", "tier=web"),
        pod("shop/client-1", &[1], "app=client"),
        pod("shop/client-2", &[2], "app=client,tier=web"),
        pod("shop/plain", &[3], "app=plain"),
    ])
}

#[test]
fn a_call_is_judged_by_its_caller_its_host_and_the_time_of_the_last_one() {
    let mut graph = shop();
    graph.apply(call(1, REVIEWS, 0));
    graph.apply(call(1, EXAMPLE, 0));
    graph.apply(Change::ServiceEntryGone(key("shop/example")));
    let late = LAST_SEEN_PRECISION - SignedDuration::from_secs(1);
    let cases = [
        ("nobody has the address", 9, REVIEWS, at(0), Judgement::UnknownCaller),
        (
            "nobody has the address, and the host is unknown",
            9,
            "no.such.host",
            at(0),
            Judgement::UnknownCaller,
        ),
        ("the pod is in no fence", 3, REVIEWS, at(0), Judgement::Unfenced),
        ("the pod is in no fence, and the host is unknown", 3, "no.such.host", at(0), Judgement::Unfenced),
        ("a host that was never called", 1, RATINGS, at(0), Judgement::New),
        ("a host that nobody defines", 1, "no.such.host", at(0), Judgement::UnknownHost),
        ("a short name is no host", 1, "reviews", at(0), Judgement::UnknownHost),
        ("a known host", 1, REVIEWS, at(0), Judgement::Known),
        ("a known host, noted a little less than an hour ago", 1, REVIEWS, at(0) + late, Judgement::Known),
        ("a known host, noted an hour ago", 1, REVIEWS, at(60), Judgement::Stale),
        ("a clock that was set back", 1, REVIEWS, at(-600), Judgement::Known),
        ("a known host that nobody defines any more", 1, EXAMPLE, at(0), Judgement::Known),
        ("the same, an hour later", 1, EXAMPLE, at(60), Judgement::Stale),
        ("of two fences, one does not know it", 2, REVIEWS, at(0), Judgement::New),
        ("news for one fence come before staleness for the other", 2, REVIEWS, at(60), Judgement::New),
        ("of two fences, one knows it and to the other it is no host", 2, EXAMPLE, at(0), Judgement::Known),
    ];
    for (what, caller, host, now, expected) in cases {
        assert_eq!(graph.judge(ip(caller), host, now), expected, "{what}");
    }
}

#[test]
fn judgements_have_a_precedence() {
    let in_order = [
        Judgement::New,
        Judgement::Stale,
        Judgement::Known,
        Judgement::UnknownCaller,
        Judgement::Unfenced,
        Judgement::UnknownHost,
    ];
    assert!(in_order.is_sorted());
}

#[test]
fn a_service_touches_the_fences_that_ask_for_its_host_or_namespace() {
    let mut graph = graph([
        fence("shop/by-host", PodSelection::Labels(labels("app=a")), &[REVIEWS]),
        fence("other/by-namespace", PodSelection::Labels(labels("app=a")), &["shop/*"]),
        fence("shop/neither", PodSelection::Labels(labels("app=a")), &[RATINGS, "other/*"]),
    ]);
    let both = ["other/by-namespace", "shop/by-host"];
    assert_eq!(touched(&mut graph, service("shop/reviews", "app=reviews")), both, "it comes");
    assert!(touched(&mut graph, service("shop/reviews", "app=reviews")).is_empty(), "it is listed again");
    assert!(touched(&mut graph, service("shop/reviews", "app=v2")).is_empty(), "its selector changes");
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("shop/reviews"))), both, "it goes");
    assert!(touched(&mut graph, Change::ServiceGone(key("shop/reviews"))).is_empty(), "it is gone already");
}

#[test]
fn a_headless_service_touches_every_fence_of_its_namespace() {
    let mut graph =
        graph([selecting("shop/a", "app=a"), selecting("shop/b", "app=b"), selecting("db/c", "app=c")]);
    let all = ["shop/a", "shop/b"];
    assert_eq!(touched(&mut graph, headless("shop/redis")), all, "it comes");
    assert!(touched(&mut graph, headless("shop/redis")).is_empty(), "it is listed again");
    assert_eq!(touched(&mut graph, service("shop/redis", "app=any")), all, "it gets a cluster IP");
    assert!(graph.registry().headless_in("shop").next().is_none());
    assert_eq!(touched(&mut graph, headless("shop/redis")), all, "it loses it again");
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("shop/redis"))), all, "it goes");
    assert!(graph.registry().headless_in("shop").next().is_none());
}

#[test]
fn a_service_entry_touches_the_fences_that_ask_for_its_hosts() {
    let mut graph = graph([
        fence("shop/a", PodSelection::Labels(labels("app=a")), &[EXAMPLE]),
        fence("shop/b", PodSelection::Labels(labels("app=b")), &["api.example.com"]),
        fence("shop/c", PodSelection::Labels(labels("app=c")), &["egress/*"]),
    ]);
    assert_eq!(touched(&mut graph, entry("egress/e", &[EXAMPLE])), ["shop/a"], "it comes");
    assert!(touched(&mut graph, entry("egress/e", &[EXAMPLE])).is_empty(), "it is listed again");
    assert_eq!(
        touched(&mut graph, entry("egress/e", &[EXAMPLE, "api.example.com"])),
        ["shop/b"],
        "it gets a host"
    );
    assert_eq!(touched(&mut graph, entry("egress/e", &["api.example.com"])), ["shop/a"], "it loses a host");
    assert_eq!(touched(&mut graph, Change::ServiceEntryGone(key("egress/e"))), ["shop/b"], "it goes");
    assert!(touched(&mut graph, Change::ServiceEntryGone(key("egress/e"))).is_empty(), "it is gone already");
}

#[test]
fn pods_touch_no_fence_and_a_fence_touches_itself() {
    let mut graph = shop();
    assert!(touched(&mut graph, pod("shop/client-9", &[9], "app=client")).is_empty());
    assert!(touched(&mut graph, Change::PodGone(key("shop/client-9"))).is_empty());
    assert_eq!(touched(&mut graph, selecting("shop/client", "app=other")), ["shop/client"]);
    assert!(touched(&mut graph, Change::FenceGone(key("shop/client"))).is_empty());
    assert!(touched(&mut graph, Change::FenceGone(key("shop/client"))).is_empty());
}

#[test]
fn a_fence_that_no_longer_asks_for_a_host_is_not_touched_by_it() {
    let mut graph = graph([fence("shop/a", PodSelection::Labels(labels("app=a")), &[EXAMPLE, "other/*"])]);
    graph.apply(selecting("shop/a", "app=a"));
    assert!(touched(&mut graph, entry("egress/e", &[EXAMPLE])).is_empty());
    assert!(touched(&mut graph, service("other/x", "app=x")).is_empty());
}

#[test]
fn a_call_touches_the_fences_to_which_it_is_news() {
    let mut graph = shop();
    assert_eq!(touched(&mut graph, call(1, REVIEWS, 0)), ["shop/client"]);
    assert!(touched(&mut graph, call(1, REVIEWS, 1)).is_empty(), "a repeated call");
    assert_eq!(touched(&mut graph, call(2, REVIEWS, 2)), ["shop/web"], "one of its two fences knows");
    assert_eq!(touched(&mut graph, call(2, REVIEWS, 62)), ["shop/client", "shop/web"], "an hour later");
    for nothing in
        [call(3, REVIEWS, 0), call(9, REVIEWS, 0), call(1, "no.such.host", 0), call(1, "reviews", 0)]
    {
        assert!(touched(&mut graph, nothing).is_empty());
    }
    assert_eq!(known_hosts(&graph, "shop/client"), [REVIEWS]);
}

#[test]
fn a_fence_follows_the_selector_of_the_service_of_its_name() {
    let mut graph = graph([
        pod("shop/client-1", &[1], "app=client"),
        pod("shop/client-2", &[2], "app=client,version=v2"),
        of_service("shop/client"),
        service("other/client", "app=client"),
    ]);
    let facts = |graph: &Graph| graph.fence(&key("shop/client")).and_then(|facts| facts.labels.clone());
    assert_eq!(facts(&graph), None, "no Service, or one in another namespace");
    assert_eq!(fences_of(&graph, 1), in_fences(&[]));

    assert_eq!(touched(&mut graph, service("shop/client", "app=client")), ["shop/client"], "it comes later");
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
    assert_eq!(touched(&mut graph, service("shop/client", "version=v2")), ["shop/client"], "it changes");
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&[]), in_fences(&["shop/client"])));
    assert_eq!(touched(&mut graph, service("shop/client", "")), ["shop/client"], "it loses its selector");
    assert_eq!((facts(&graph), fences_of(&graph, 2)), (Some(Labels::default()), in_fences(&[])));
    assert_eq!(
        touched(&mut graph, service("shop/client", "app=client")),
        ["shop/client"],
        "it gets one again"
    );
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("shop/client"))), ["shop/client"], "it goes");
    assert_eq!((facts(&graph), fences_of(&graph, 1)), (None, in_fences(&[])));
}

#[test]
fn a_fence_with_labels_of_its_own_follows_no_service() {
    let mut graph = graph([selecting("shop/client", "app=client"), pod("shop/p", &[1], "app=client")]);
    assert!(touched(&mut graph, service("shop/client", "app=other")).is_empty());
    assert!(touched(&mut graph, Change::ServiceGone(key("shop/client"))).is_empty());
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
}

#[test]
fn a_fence_can_change_how_it_selects() {
    let mut graph = graph([
        service("shop/client", "app=client"),
        pod("shop/p", &[1], "app=client"),
        pod("shop/q", &[2], "app=other"),
        selecting("shop/client", "app=client"),
    ]);
    graph.apply(of_service("shop/client"));
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
    graph.apply(service("shop/client", "app=other"));
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&[]), in_fences(&["shop/client"])));
    graph.apply(selecting("shop/client", "app=client"));
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&["shop/client"]), in_fences(&[])));
    graph.apply(Change::FenceGone(key("shop/client")));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]));
}

#[test]
fn a_fence_that_comes_after_its_pods_has_them() {
    let graph = graph([pod("shop/p", &[1], "app=client,version=v1"), selecting("shop/f", "app=client")]);
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/f"]));
}

#[test]
fn a_pod_whose_labels_change_changes_its_fences() {
    let mut graph = shop();
    graph.apply(pod("shop/client-1", &[1], "tier=web"));
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/web"]));
}

#[test]
fn a_fence_is_for_pods_of_its_own_namespace() {
    let graph = graph([
        selecting("shop/client", "app=client"),
        selecting("other/client", "app=client"),
        pod("shop/p", &[1], "app=client"),
        pod("other/p", &[2], "app=client"),
        pod("third/p", &[3], "app=client"),
    ]);
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
    assert_eq!(fences_of(&graph, 2), in_fences(&["other/client"]));
    assert_eq!(fences_of(&graph, 3), in_fences(&[]));
}

#[test]
fn an_empty_selector_selects_nobody() {
    let graph =
        graph([selecting("shop/f", ""), pod("shop/p", &[1], "app=client"), pod("shop/bare", &[2], "")]);
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&[]), in_fences(&[])));
}

#[test]
fn a_pod_has_each_of_its_addresses_until_it_ends() {
    let mut graph = shop();
    graph.apply(pod("shop/dual", &[10, 11], "app=client"));
    assert_eq!((fences_of(&graph, 10), fences_of(&graph, 11)), (fences_of(&graph, 1), fences_of(&graph, 1)));
    graph.apply(pod("shop/dual", &[11, 12], "app=client"));
    assert_eq!((fences_of(&graph, 10), fences_of(&graph, 12)), (None, fences_of(&graph, 1)), "it moved");
    graph.apply(Change::PodGone(key("shop/dual")));
    assert_eq!((fences_of(&graph, 11), fences_of(&graph, 12)), (None, None));
    assert_eq!(graph.judge(ip(11), REVIEWS, at(0)), Judgement::UnknownCaller);
}

#[test]
fn an_address_is_the_pods_that_got_it_last() {
    let mut graph = shop();
    graph.apply(pod("other/next", &[1], "app=other"));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]));
    graph.apply(Change::PodGone(key("shop/client-1")));
    assert_eq!(
        fences_of(&graph, 1),
        in_fences(&[]),
        "the end of the pod that had it before takes nothing away"
    );
    graph.apply(Change::PodGone(key("other/next")));
    assert_eq!(fences_of(&graph, 1), None);
}

#[test]
fn an_address_stays_with_the_pod_that_got_it_last_when_fences_change() {
    let mut graph = shop();
    graph.apply(pod("other/next", &[1], "app=other"));
    graph.apply(selecting("shop/late", "app=client"));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]), "a fence of the earlier pod's namespace comes");
    graph.apply(pod("shop/client-1", &[1], "app=client,version=v2"));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]), "the earlier pod, not ended yet, is told of once more");
}

#[test]
fn a_host_is_defined_until_its_last_definer_goes() {
    let mut graph = graph([entry("a/e", &[EXAMPLE]), entry("b/e", &[EXAMPLE]), entry("b/f", &[EXAMPLE])]);
    assert_eq!(namespaces(&graph, EXAMPLE), ["a", "b"]);
    graph.apply(Change::ServiceEntryGone(key("a/e")));
    graph.apply(Change::ServiceEntryGone(key("b/e")));
    assert_eq!(namespaces(&graph, EXAMPLE), ["b"]);
    graph.apply(entry("b/f", &["api.example.com"]));
    assert!(namespaces(&graph, EXAMPLE).is_empty() && !graph.registry().contains(EXAMPLE));
}

#[test]
fn a_service_and_a_service_entry_of_one_name_both_define_their_host() {
    let mut graph = graph([service("shop/reviews", "app=reviews"), entry("shop/reviews", &[REVIEWS])]);
    graph.apply(Change::ServiceEntryGone(key("shop/reviews")));
    assert_eq!(namespaces(&graph, REVIEWS), ["shop"], "the Service is still there");
    graph.apply(entry("shop/reviews", &[REVIEWS]));
    graph.apply(Change::ServiceGone(key("shop/reviews")));
    assert_eq!(namespaces(&graph, REVIEWS), ["shop"], "the ServiceEntry is still there");
}

#[test]
fn a_host_that_two_namespaces_define_is_learned_with_both() {
    let mut graph = shop();
    graph.apply(entry("other/example", &[EXAMPLE]));
    graph.apply(call(1, EXAMPLE, 0));
    assert_eq!(known(&graph, "shop/client", EXAMPLE), Some(knowledge(&["other", "shop"], 0, 0)));
}

#[test]
fn what_was_learned_outlives_the_service() {
    let mut graph = shop();
    graph.apply(call(1, REVIEWS, 0));
    graph.apply(Change::ServiceGone(key("shop/reviews")));
    graph.apply(call(1, REVIEWS, 90));
    assert_eq!(known(&graph, "shop/client", REVIEWS), Some(knowledge(&["shop"], 0, 90)));
}

#[test]
fn the_namespaces_of_services_are_told_apart() {
    let mut graph = shop();
    graph.apply(service("other/reviews", "app=reviews"));
    graph.apply(headless("other/redis"));
    let hosts: Vec<_> = graph.registry().hosts_in("other").map(|host| host.to_string()).collect();
    assert_eq!(hosts, ["other/redis.other.svc.cluster.local", "other/reviews.other.svc.cluster.local"]);
    let headless: Vec<_> = graph.registry().headless_in("other").map(|host| host.to_string()).collect();
    assert_eq!(headless, ["other/redis.other.svc.cluster.local"]);
    graph.apply(call(1, "reviews.other.svc.cluster.local", 0));
    assert_eq!(known_hosts(&graph, "shop/client"), ["reviews.other.svc.cluster.local"]);
}

fn remembering(host: &str, known: Known) -> Change {
    Change::Fence(Fence {
        key: key("shop/client"),
        selection: PodSelection::Labels(labels("app=client")),
        wants: Vec::new(),
        known: vec![(host.into(), known)],
    })
}

#[test]
fn a_status_adds_to_what_is_known_and_takes_nothing_away() {
    let mut graph = shop();
    graph.apply(call(1, REVIEWS, 30));
    graph.apply(remembering(RATINGS, knowledge(&["shop"], 0, 10)));
    assert_eq!(known_hosts(&graph, "shop/client"), [RATINGS, REVIEWS]);
    graph.apply(remembering(REVIEWS, knowledge(&["elsewhere"], 0, 10)));
    assert_eq!(known(&graph, "shop/client", REVIEWS), Some(knowledge(&["elsewhere", "shop"], 0, 30)));
}

#[test]
fn a_host_that_a_status_remembers_needs_no_definer() {
    let mut graph = shop();
    graph.apply(remembering("gone.shop.svc.cluster.local", knowledge(&["shop"], 0, 10)));
    assert_eq!(graph.judge(ip(1), "gone.shop.svc.cluster.local", at(11)), Judgement::Known);
}

#[test]
fn a_fence_that_is_made_anew_knows_only_its_status() {
    let mut graph = shop();
    graph.apply(call(1, REVIEWS, 0));
    graph.apply(Change::FenceGone(key("shop/client")));
    graph.apply(selecting("shop/client", "app=client"));
    assert!(known_hosts(&graph, "shop/client").is_empty());
    assert_eq!(graph.judge(ip(1), REVIEWS, at(0)), Judgement::New);
}

#[test]
fn a_copy_of_the_graph_does_not_change_with_it() {
    let mut graph = shop();
    let copy = graph.clone();
    graph.apply(call(1, REVIEWS, 0));
    graph.apply(Change::PodGone(key("shop/plain")));
    assert_eq!(copy.judge(ip(1), REVIEWS, at(0)), Judgement::New);
    assert_eq!(fences_of(&copy, 3), in_fences(&[]));
}

// Properties.

const HOSTS: [&str; 4] = [REVIEWS, RATINGS, EXAMPLE, "no.such.host"];

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
    let of_fence = |call: &&Observation| callers.iter().any(|caller| ip(*caller) == call.caller);
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
                matches!(published.judge(call.caller, &call.host, call.seen), Judgement::New | Judgement::Stale)
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
            let judged = graph.judge(call.caller, &call.host, call.seen);
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
            Change::Call(_) => {}
        }
    }

    fn changes(&self) -> Vec<Change> {
        let services = self.services.values().cloned().map(Change::Service);
        let entries = self.entries.values().cloned().map(Change::ServiceEntry);
        let pods = self.pods.values().cloned().map(Change::Pod);
        let fences = self.fences.values().cloned().map(Change::Fence);
        services.chain(entries).chain(pods).chain(fences).collect()
    }
}

fn some_key() -> impl Strategy<Value = ObjectKey> {
    prop::sample::select(vec!["shop/client", "shop/reviews", "shop/ratings", "other/client"]).prop_map(key)
}

fn some_labels() -> impl Strategy<Value = Labels> {
    prop::sample::select(vec!["", "app=client", "app=client,tier=web", "tier=web"]).prop_map(labels)
}

fn some_wants() -> impl Strategy<Value = Vec<Arc<str>>> {
    let wants: Vec<Arc<str>> = [REVIEWS, EXAMPLE, "shop/*", "other/*"].map(Into::into).into();
    prop::sample::subsequence(wants, 0..=4)
}

/// The addresses of one pod are never those of another here: see the tests of addresses.
fn some_pod() -> impl Strategy<Value = Pod> {
    (0u8..4, prop::sample::subsequence(vec![0u8, 1, 2], 1..=2), some_labels()).prop_map(
        |(number, ips, labels)| {
            let namespace = if number == 3 { "other" } else { "shop" };
            let ips = ips.into_iter().map(|i| ip(number * 3 + i)).collect();
            Pod { key: ObjectKey::new(namespace, format!("pod-{number}")), ips, labels }
        },
    )
}

fn some_change() -> impl Strategy<Value = Change> {
    let selection = prop_oneof![Just(PodSelection::Service), some_labels().prop_map(PodSelection::Labels)];
    let hosts: Vec<Arc<str>> = [REVIEWS, EXAMPLE].map(Into::into).into();
    prop_oneof![
        4 => (some_key(), some_labels(), any::<bool>())
            .prop_map(|(key, selector, headless)| Change::Service(Service { key, selector, headless })),
        1 => some_key().prop_map(Change::ServiceGone),
        2 => (some_key(), prop::sample::subsequence(hosts, 0..=2))
            .prop_map(|(key, hosts)| Change::ServiceEntry(ServiceEntry { key, hosts })),
        1 => some_key().prop_map(Change::ServiceEntryGone),
        4 => some_pod().prop_map(Change::Pod),
        1 => some_pod().prop_map(|pod| Change::PodGone(pod.key)),
        4 => (some_key(), selection, some_wants())
            .prop_map(|(key, selection, wants)| Change::Fence(Fence { key, selection, wants, known: Vec::new() })),
        1 => some_key().prop_map(Change::FenceGone),
    ]
}

/// Everything about a fence that decisions rest on.
fn view(graph: &Graph, key: &ObjectKey) -> String {
    let Some(facts) = graph.fence(key) else { return String::new() };
    let resolved: Vec<_> = facts
        .wants
        .iter()
        .map(|want| match want.strip_suffix("/*") {
            Some(namespace) => graph.registry().hosts_in(namespace).map(|host| host.to_string()).collect(),
            None => namespaces(graph, want),
        })
        .collect();
    let headless: Vec<_> =
        graph.registry().headless_in(&key.namespace).map(|host| host.to_string()).collect();
    format!("{:?} {:?} {resolved:?} {headless:?} {:?}", facts.labels, facts.wants, facts.known)
}

fn everything(graph: &Graph) -> Vec<String> {
    let keys: BTreeSet<_> = graph.fence_keys().cloned().collect();
    let fences = keys.iter().map(|key| format!("{key} {}", view(graph, key)));
    let callers = (0..12).map(|number| format!("{number} {:?}", fences_of(graph, number)));
    let hosts = HOSTS.iter().map(|host| format!("{host} {:?}", namespaces(graph, host)));
    let services: BTreeSet<_> = graph.registry().service_keys().map(ToString::to_string).collect();
    let entries: BTreeSet<_> = graph.registry().entry_keys().map(ToString::to_string).collect();
    let pods: BTreeSet<_> = graph.workloads().pod_keys().map(ToString::to_string).collect();
    let objects = [services, entries, pods].into_iter().flatten();
    fences.chain(callers).chain(hosts).chain(objects).collect()
}

proptest! {
    #[test]
    fn whatever_happened_the_graph_is_as_if_made_from_what_is_left(
        changes in prop::collection::vec(some_change(), 0..24),
    ) {
        let (mut graph, mut left) = (Graph::new("cluster.local"), Objects::default());
        for change in changes {
            left.note(&change);
            graph.apply(change);
        }
        let mut fresh = Graph::new("cluster.local");
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
        prop_assert_eq!(everything(&graph(listed)), everything(&graph(shuffled)));
    }

    #[test]
    fn a_change_that_makes_a_difference_to_a_fence_touches_it(
        changes in prop::collection::vec(some_change(), 0..24),
    ) {
        let mut graph = Graph::new("cluster.local");
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
