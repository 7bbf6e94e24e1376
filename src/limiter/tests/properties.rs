use proptest::prelude::*;
use serde_json::json;

use super::{decide_with, descriptor, labels, limiter, mesh};
use crate::graph::{Change, DestinationRule, Labels, ObjectKey, Pod, Service, ServiceEntry};
use crate::limiter::facts;

/// A host that only a `ServiceEntry` may define.
const PAY: &str = "pay.example.com";

fn some_labels() -> impl Strategy<Value = Labels> {
    let all = [&[("app", "web")][..], &[("app", "web"), ("version", "1")], &[("app", "other")], &[]];
    prop::sample::select(all.to_vec()).prop_map(labels)
}

fn some_key() -> impl Strategy<Value = ObjectKey> {
    prop::sample::select(vec![("shop", "web"), ("shop", "a"), ("other", "web")])
        .prop_map(|(namespace, name)| ObjectKey::new(namespace, name))
}

fn some_rule() -> impl Strategy<Value = Change> {
    let host = prop::sample::select(vec!["web", "web.shop.svc.cluster.local", "a", PAY]);
    (some_key(), host, some_labels()).prop_map(|(key, host, labels)| {
        let subsets = vec![("v1".into(), labels)];
        Change::DestinationRule(DestinationRule {
            key,
            host: host.into(),
            subsets,
            ..DestinationRule::default()
        })
    })
}

fn some_entry() -> impl Strategy<Value = Change> {
    let hosts =
        prop::sample::select(vec![vec![], vec![PAY], vec![PAY, "a.example.com"], vec!["a.example.com"]]);
    (some_key(), hosts, some_labels()).prop_map(|(key, hosts, selector)| {
        let hosts = hosts.into_iter().map(Into::into).collect();
        Change::ServiceEntry(ServiceEntry { key, hosts, selector, ..ServiceEntry::default() })
    })
}

fn some_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        some_entry(),
        some_key().prop_map(Change::ServiceEntryGone),
        (some_key(), some_labels(), any::<bool>()).prop_map(|(key, labels, ready)| Change::Pod(Pod {
            key,
            labels,
            ready,
            ..Pod::default()
        })),
        some_key().prop_map(Change::PodGone),
        (some_key(), some_labels()).prop_map(|(key, selector)| Change::Service(Service {
            key,
            selector,
            ..Service::default()
        })),
        some_key().prop_map(Change::ServiceGone),
        some_rule(),
        some_key().prop_map(Change::DestinationRuleGone),
    ]
}

proptest! {
    /// Else the limiter would not be looked at, and stay as it was.
    #[test]
    fn a_change_that_does_not_name_a_limiter_makes_no_difference_to_it(
        own in some_labels(),
        host in prop::sample::select(vec![None, Some("web"), Some("a"), Some(PAY)]),
        changes in prop::collection::vec(some_change(), 1..30),
    ) {
        let average = descriptor(&json!({ "action": { "strategy": "average" }, "condition": "{{._base.pod}} > 1" }));
        let sets = ["_base", "v1"].map(|subset| (subset.to_owned(), json!({ "descriptor": [average] })));
        let sets: serde_json::Map<_, _> = sets.into_iter().collect();
        let limiter = limiter(&json!({ "sets": sets, "workloadSelector": own.to_map(), "host": host }));
        let key = ObjectKey::new("shop", "web");
        let mut graph = mesh();
        graph.apply(Change::Limiter(facts(&limiter)));
        for change in changes {
            let named = graph.limiters_concerned(&change).contains(&key);
            let before = format!("{:?}", decide_with(&limiter, &[], &graph));
            graph.apply(change.clone());
            let after = format!("{:?}", decide_with(&limiter, &[], &graph));
            prop_assert!(named || before == after, "{change:?}: {before} {after}");
        }
    }
}
