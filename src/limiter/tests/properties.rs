use proptest::prelude::*;
use serde_json::json;

use super::{decide_with, descriptor, labels, limiter, mesh};
use crate::graph::{Change, DestinationRule, Labels, Limiter, ObjectKey, Pod, Service};

fn some_labels() -> impl Strategy<Value = Labels> {
    let all = [&[("app", "web")][..], &[("app", "web"), ("version", "1")], &[("app", "other")], &[]];
    prop::sample::select(all.to_vec()).prop_map(labels)
}

fn some_key() -> impl Strategy<Value = ObjectKey> {
    prop::sample::select(vec![("shop", "web"), ("shop", "a"), ("other", "web")])
        .prop_map(|(namespace, name)| ObjectKey::new(namespace, name))
}

fn some_rule() -> impl Strategy<Value = Change> {
    let host = prop::sample::select(vec!["web", "web.shop.svc.cluster.local", "a"]);
    (some_key(), host, some_labels()).prop_map(|(key, host, labels)| {
        let subsets = vec![("v1".into(), labels)];
        Change::DestinationRule(DestinationRule { key, host: host.into(), subsets })
    })
}

fn some_change() -> impl Strategy<Value = Change> {
    prop_oneof![
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
        changes in prop::collection::vec(some_change(), 1..30),
    ) {
        let average = descriptor(&json!({ "action": { "strategy": "average" }, "condition": "{{._base.pod}} > 1" }));
        let sets = ["_base", "v1"].map(|subset| (subset.to_owned(), json!({ "descriptor": [average] })));
        let sets: serde_json::Map<_, _> = sets.into_iter().collect();
        let limiter = limiter(&json!({ "sets": sets, "workloadSelector": own.to_map() }));
        let key = ObjectKey::new("shop", "web");
        let mut graph = mesh();
        graph.apply(Change::Limiter(Limiter { key: key.clone(), selector: own }));
        for change in changes {
            let named = graph.limiters_concerned(&change).contains(&key);
            let before = format!("{:?}", decide_with(&limiter, &[], &graph));
            graph.apply(change.clone());
            let after = format!("{:?}", decide_with(&limiter, &[], &graph));
            prop_assert!(named || before == after, "{change:?}: {before} {after}");
        }
    }
}
