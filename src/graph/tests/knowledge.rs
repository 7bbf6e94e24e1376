//! What is known, and what a call adds to it.

use super::*;

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
        assert_eq!(graph.judge(&ip(caller).into(), host, now), expected, "{what}");
    }
}

#[test]
fn judgements_have_a_precedence() {
    let in_order = [
        Judgement::New,
        Judgement::Stale,
        Judgement::Known,
        Judgement::Refused,
        Judgement::UnknownCaller,
        Judgement::Unfenced,
        Judgement::UnknownHost,
    ];
    assert!(in_order.is_sorted());
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
        learning: None,
        terms: Terms::default(),
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
    assert_eq!(graph.judge(&ip(1).into(), "gone.shop.svc.cluster.local", at(11)), Judgement::Known);
}

#[test]
fn a_fence_that_is_made_anew_knows_only_its_status() {
    let mut graph = shop();
    graph.apply(call(1, REVIEWS, 0));
    graph.apply(Change::FenceGone(key("shop/client")));
    graph.apply(selecting("shop/client", "app=client"));
    assert!(known_hosts(&graph, "shop/client").is_empty());
    assert_eq!(graph.judge(&ip(1).into(), REVIEWS, at(0)), Judgement::New);
}

#[test]
fn a_copy_of_the_graph_does_not_change_with_it() {
    let mut graph = shop();
    let copy = graph.clone();
    graph.apply(call(1, REVIEWS, 0));
    graph.apply(Change::PodGone(key("shop/plain")));
    assert_eq!(copy.judge(&ip(1).into(), REVIEWS, at(0)), Judgement::New);
    assert_eq!(fences_of(&copy, 3), in_fences(&[]));
}

fn some_knowledge() -> impl Strategy<Value = Change> {
    let host = || prop::sample::select(vec![REVIEWS, RATINGS, EXAMPLE]);
    let key = || prop::sample::select(vec!["shop/client", "shop/web"]).prop_map(key);
    let definer = || prop::sample::select(vec!["shop/example", "bank/example", "bank/other"]);
    let learning = prop::sample::select(vec![None, Some("shop"), Some("bank")]).prop_map(|namespace| {
        let namespaces = namespace.map(|namespace| vec![namespace.to_owned()]);
        Some(crate::api::Learning { namespaces, ..crate::api::Learning::default() })
    });
    prop_oneof![
        4 => (1u8..=3, host(), 0i64..240).prop_map(|(caller, host, minute)| call(caller, host, minute)),
        2 => (key(), host(), learning).prop_map(|(key, host, learning)| {
            let known = vec![(host.into(), knowledge(&["shop"], 0, 0))];
            let selection = PodSelection::Labels(labels("app=client"));
            Change::Fence(Fence { key, selection, known, learning, ..Fence::default() })
        }),
        1 => key().prop_map(Change::FenceGone),
        2 => (key(), host(), 0i64..240)
            .prop_map(|(key, host, minute)| Change::Forget(key, vec![(host.into(), at(minute))])),
        3 => (definer(), prop::sample::subsequence(vec![REVIEWS, EXAMPLE], 0..=2))
            .prop_map(|(name, hosts)| entry(name, &hosts)),
        2 => definer().prop_map(|name| Change::ServiceEntryGone(super::key(name))),
        1 => Just(Change::ServiceGone(super::key("shop/reviews"))),
        1 => Just(service("shop/reviews", "app=reviews")),
    ]
}

/// The known hosts of a fence that a namespace defines of which they may be learned, and were not.
fn moved<'a>(graph: &'a Graph, facts: &'a FenceFacts) -> Vec<&'a Arc<str>> {
    let not_noted = |(host, known): &(&Arc<str>, &Known)| {
        let definers = graph.registry().namespaces(host);
        definers
            .iter()
            .any(|namespace| facts.learning.allows(namespace) && !known.namespaces.contains(namespace))
    };
    facts.known.iter().filter(not_noted).map(|(host, _)| host).collect()
}

proptest! {
    #[test]
    fn a_host_leads_to_the_fences_that_know_it_and_they_know_whether_it_has_moved(
        changes in prop::collection::vec(some_knowledge(), 0..24),
    ) {
        let mut graph = shop();
        for change in changes {
            graph.apply(change);
            for host in [REVIEWS, RATINGS, EXAMPLE] {
                let knowing = |key: &&ObjectKey| graph.fence(key).is_some_and(|facts| facts.known.contains_key(host));
                let expected: BTreeSet<_> = graph.fence_keys().filter(knowing).collect();
                prop_assert_eq!(graph.fences.knowing(host).collect::<BTreeSet<_>>(), expected);
            }
            for facts in graph.fence_keys().filter_map(|key| graph.fence(key)) {
                prop_assert_eq!(facts.moved.iter().collect::<Vec<_>>(), moved(&graph, facts));
            }
        }
    }
}
