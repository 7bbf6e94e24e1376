//! The bounds of what a fence learns, and how far sources have looked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::{
    Caller, Change, Coverage, Covered, Fence, Graph, Judgement, Labels, Learning, ObjectKey, Observation,
    Pod, PodSelection, Service, ServiceEntry, Terms,
};
use crate::api::{self, DependencySource, Retention};

const EXAMPLE: &str = "www.example.com";

fn caller() -> Caller {
    Caller::from([10, 244, 0, 1])
}

fn key() -> ObjectKey {
    ObjectKey::new("shop", "client")
}

fn labels() -> Labels {
    Labels::from(BTreeMap::from([("app".to_owned(), "client".to_owned())]))
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

fn fence(learning: Option<api::Learning>) -> Change {
    let (wants, known) = (Vec::new(), Vec::new());
    Change::Fence(Fence {
        key: key(),
        selection: PodSelection::Labels(labels()),
        wants,
        known,
        learning,
        terms: Terms::default(),
    })
}

fn host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

fn call(host: &str, minute: i64) -> Change {
    let source = DependencySource::AccessLog;
    Change::Call(Observation { caller: caller(), host: host.into(), source, seen: at(minute) })
}

fn entry(namespace: &str) -> Change {
    Change::ServiceEntry(ServiceEntry {
        key: ObjectKey::new(namespace, "example"),
        hosts: vec![EXAMPLE.into()],
        ..ServiceEntry::default()
    })
}

/// The fence `shop/client` with a pod, and three services in each of two namespaces.
fn graph(all: Learning, own: Option<api::Learning>) -> Graph {
    let mut graph = Graph::new("cluster.local").with_learning(all);
    for (namespace, name) in
        ["shop", "bank"].into_iter().flat_map(|ns| ["a", "b", "c"].map(|name| (ns, name)))
    {
        let key = ObjectKey::new(namespace, name);
        graph.apply(Change::Service(Service { key, ..Service::default() }));
    }
    graph.apply(Change::Pod(Pod {
        key: ObjectKey::new("shop", "client-1"),
        ips: vec![[10, 244, 0, 1].into()],
        labels: labels(),
        ..Pod::default()
    }));
    graph.apply(fence(own));
    graph
}

fn known(graph: &Graph) -> Vec<String> {
    graph.fence(&key()).unwrap().known.keys().map(ToString::to_string).collect()
}

fn within(namespaces: &[&str]) -> api::Learning {
    let namespaces = namespaces.iter().map(|namespace| (*namespace).to_owned()).collect();
    api::Learning { namespaces: Some(namespaces), ..api::Learning::default() }
}

#[test]
fn a_full_fence_learns_no_more_and_drops_nothing() {
    let mut graph = graph(Learning { max_hosts: 2, ..Learning::default() }, None);
    let (a, b, c) = (host("a", "shop"), host("b", "shop"), host("c", "shop"));
    graph.apply(call(&a, 0));
    graph.apply(call(&b, 0));
    assert_eq!(graph.judge(&caller(), &c, at(1)), Judgement::Refused);
    assert!(graph.apply(call(&c, 1)).is_empty());
    assert_eq!(known(&graph), [a.clone(), b.clone()]);
    assert_eq!(graph.judge(&caller(), &a, at(1)), Judgement::Known);
    assert_eq!(graph.judge(&caller(), "no.such.host", at(1)), Judgement::UnknownHost);

    graph.apply(fence(Some(api::Learning { max_hosts: Some(1), ..api::Learning::default() })));
    assert_eq!(known(&graph), [a, b], "a lower limit takes nothing away");
    graph.apply(fence(Some(api::Learning { max_hosts: Some(3), ..api::Learning::default() })));
    assert_eq!(graph.judge(&caller(), &c, at(1)), Judgement::New);
}

#[test]
fn hosts_of_namespaces_that_are_not_allowed_are_refused_and_the_first_is_noted_once() {
    let mut graph = graph(Learning::default(), Some(within(&["shop"])));
    let (other, another) = (host("a", "bank"), host("b", "bank"));
    assert_eq!(graph.judge(&caller(), &other, at(0)), Judgement::New, "the first one is handed on");
    assert_eq!(graph.apply(call(&other, 0)), BTreeSet::from([key()]), "and is news for the fence");
    for host in [&other, &another] {
        assert_eq!(graph.judge(&caller(), host, at(0)), Judgement::Refused);
        assert!(graph.apply(call(host, 0)).is_empty());
    }
    assert_eq!(graph.fence(&key()).unwrap().refused.as_deref(), Some(&*other));
    assert!(known(&graph).is_empty());
    assert_eq!(graph.judge(&caller(), &host("a", "shop"), at(0)), Judgement::New);

    graph.apply(fence(Some(within(&["shop"]))));
    assert!(graph.fence(&key()).unwrap().refused.is_some(), "a status that comes back changes nothing");
    graph.apply(fence(Some(within(&["shop", "bank"]))));
    assert_eq!(graph.fence(&key()).unwrap().refused, None);
    assert_eq!(graph.judge(&caller(), &other, at(0)), Judgement::New);
}

#[test]
fn of_the_namespaces_that_define_a_host_only_those_allowed_are_learned() {
    let mut graph = graph(Learning::default(), Some(within(&["shop"])));
    graph.apply(entry("bank"));
    graph.apply(entry("shop"));
    graph.apply(call(EXAMPLE, 0));
    let learned = graph.fence(&key()).unwrap().known[EXAMPLE].namespaces.clone();
    assert_eq!(learned, [Arc::from("shop")].into());
    assert_eq!(graph.judge(&caller(), EXAMPLE, at(0)), Judgement::Known, "the other one is no news");
}

#[test]
fn what_a_spec_leaves_out_holds_as_for_all() {
    let hour = Retention::new(SignedDuration::from_hours(1));
    let bank = Arc::new(BTreeSet::from([Arc::from("bank")]));
    let all = Learning { retention: hour, max_hosts: 7, namespaces: bank };
    let with = |own| graph(all.clone(), own).fence(&key()).unwrap().learning.clone();
    assert_eq!(with(None), all);
    assert_eq!(with(Some(api::Learning::default())), all);
    let own = api::Learning { retention: Some(Retention::FOR_EVER), ..within(&[]) };
    let expected = Learning { retention: Retention::FOR_EVER, max_hosts: 7, namespaces: Arc::default() };
    assert_eq!(with(Some(own)), expected, "an empty list allows all");
}

#[test]
fn a_host_that_moved_to_another_namespace_is_news_at_once() {
    let mut graph = graph(Learning::default(), None);
    graph.apply(entry("shop"));
    graph.apply(call(EXAMPLE, 0));
    assert_eq!(graph.judge(&caller(), EXAMPLE, at(0)), Judgement::Known);
    graph.apply(Change::ServiceEntryGone(ObjectKey::new("shop", "example")));
    graph.apply(entry("bank"));
    assert_eq!(graph.judge(&caller(), EXAMPLE, at(0)), Judgement::New);
    assert_eq!(graph.apply(call(EXAMPLE, 0)), BTreeSet::from([key()]));
    assert!(graph.fence(&key()).unwrap().known[EXAMPLE].namespaces.contains(&"bank".into()));
    assert_eq!(graph.judge(&caller(), EXAMPLE, at(0)), Judgement::Known);
}

#[test]
fn a_host_that_was_let_go_is_forgotten_unless_it_was_called_again() {
    let mut graph = graph(Learning::default(), None);
    let (a, b) = (host("a", "shop"), host("b", "shop"));
    graph.apply(call(&a, 0));
    graph.apply(call(&b, 20_000));
    let gone = vec![(a.as_str().into(), at(0)), (b.as_str().into(), at(0)), ("no.such.host".into(), at(0))];
    assert_eq!(graph.apply(Change::Forget(key(), gone)), BTreeSet::from([key()]), "it may have been full");
    assert_eq!(known(&graph), [b]);
    assert_eq!(graph.judge(&caller(), &a, at(1)), Judgement::New);
    graph.apply(Change::Forget(ObjectKey::new("shop", "nobody"), vec![(a.as_str().into(), at(0))]));
}

fn covered(since: i64, until: i64) -> Change {
    let time = Coverage { since: at(since), until: at(until) };
    Change::Covered(Covered { source: DependencySource::Prometheus, time })
}

#[test]
fn times_that_meet_are_one_and_after_a_gap_it_begins_anew() {
    let mut graph = graph(Learning::default(), None);
    let cases = [
        ("the first", (10, 20), (10, 20), true),
        ("it overlaps", (15, 30), (10, 30), false),
        ("it touches", (30, 40), (10, 40), false),
        ("it comes late, and reaches back", (5, 12), (5, 40), false),
        ("within", (20, 30), (5, 40), false),
        ("a gap", (41, 50), (41, 50), true),
        ("what lay before the gap", (5, 40), (41, 50), false),
        ("it ends before it begins", (60, 55), (41, 50), false),
        ("the gap is looked at after all", (30, 45), (30, 50), false),
    ];
    for (what, (since, until), expected, anew) in cases {
        let touched = graph.apply(covered(since, until));
        let coverage = graph.coverage()[&DependencySource::Prometheus];
        assert_eq!((coverage.since, coverage.until), (at(expected.0), at(expected.1)), "{what}");
        assert_eq!(!touched.is_empty(), anew, "{what}");
    }
}

proptest! {
    #[test]
    fn what_counts_as_covered_was_looked_at_whole(times in prop::collection::vec((0i64..60, 0i64..10), 1..12)) {
        let mut graph = graph(Learning::default(), None);
        let mut looked = BTreeSet::new();
        for (since, length) in times {
            looked.extend(since..since + length);
            graph.apply(covered(since, since + length));
        }
        let coverage = graph.coverage()[&DependencySource::Prometheus];
        let minutes = |time: Timestamp| time.as_second() / 60;
        for minute in minutes(coverage.since)..minutes(coverage.until) {
            prop_assert!(looked.contains(&minute), "{minute} of {coverage:?}");
        }
    }
}
