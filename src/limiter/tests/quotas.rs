use proptest::prelude::*;

use super::{config_of, decide, one, ready};
use crate::limiter::bucket::Bucket;
use crate::limiter::ratio::Ratio;
use serde_json::json;

/// The bucket of the only descriptor.
fn bucket(action: &serde_json::Value) -> (u64, String) {
    let limiter = one(&json!({ "action": action }));
    let bucket = &config_of(&decide(&limiter))["descriptors"][0]["token_bucket"];
    assert_eq!(bucket["max_tokens"], bucket["tokens_per_fill"]);
    (bucket["max_tokens"].as_u64().unwrap(), bucket["fill_interval"].as_str().unwrap().to_owned())
}

/// The mesh has three ready pods.
#[test]
fn a_quota_is_what_each_pod_has_or_what_all_have_together() {
    for (action, tokens, interval) in [
        (json!({ "quota": "10" }), 10, "1.000s"),
        (json!({ "quota": "10", "strategy": "single" }), 10, "1.000s"),
        (json!({ "quota": "10", "strategy": "average" }), 3, "1.000s"),
        (json!({ "quota": "9", "strategy": "average" }), 3, "1.000s"),
        (json!({ "quota": "2", "strategy": "average" }), 1, "1.500s"),
        (
            json!({ "quota": "1", "strategy": "average", "fill_interval": { "seconds": "1", "nanos": 1 } }),
            1,
            "3.003s",
        ),
        (json!({ "quota": "100/{{._base.pod}}", "strategy": "average" }), 33, "1.000s"),
        (json!({ "quota": "100/{{._base.pod}}" }), 33, "1.000s"),
        (json!({ "quota": "0.5" }), 1, "2.000s"),
        (json!({ "quota": "10", "fill_interval": { "seconds": 0, "nanos": 50_000_000 } }), 10, "0.050s"),
    ] {
        assert_eq!(bucket(&action), (tokens, interval.to_owned()), "{action}");
    }
}

#[test]
fn a_quota_or_a_time_that_cannot_be_is_told() {
    for (action, expected) in [
        (json!({ "quota": "0" }), "the quota is not above zero"),
        (json!({ "quota": "-1" }), "the quota is not above zero"),
        (json!({ "quota": "" }), "action.quota: it is empty"),
        (json!({ "quota": "5000000000" }), "too large"),
        (json!({ "fill_interval": null }), "action.fill_interval is missing"),
        (json!({ "fill_interval": { "seconds": 0 } }), "between 50 ms and a day"),
        (json!({ "fill_interval": { "seconds": -1 } }), "between 50 ms and a day"),
        (json!({ "fill_interval": { "seconds": 86401 } }), "between 50 ms and a day"),
        (json!({ "strategy": "fair" }), "there is no action.strategy fair"),
        (json!({ "headers_to_add": [{ "key": "a b", "value": "c" }] }), "is no header"),
    ] {
        let (reason, message) = ready(&one(&json!({ "action": action })));
        assert_eq!(reason, "InvalidDescriptor", "{action}: {message}");
        assert!(message.contains(expected) && message.contains("sets._base.descriptor[0]"), "{message}");
    }
}

#[test]
fn what_is_not_supported_is_told_and_not_ignored() {
    let body = json!({ "match": [{ "name": "a", "exact_match": "b", "matchSource": "JsonBodyMatch" }] });
    let limiter = one(&body);
    let (reason, message) = ready(&limiter);
    assert_eq!(reason, "NotSupported", "{message}");
    assert!(message.contains("JsonBodyMatch"), "{message}");
    assert!(decide(&limiter).apply.is_empty());
}

proptest! {
    /// In any time that is long enough, all pods together let no more pass than the quota says, beyond what their
    /// buckets hold at first.
    #[test]
    fn the_sum_over_all_pods_is_never_above_the_quota(quota in 1..100_000_u32, pods in 1..5_000_u32, interval in 50..86_400_000_u32) {
        let share = Ratio::of(quota).over(Ratio::of(pods)).unwrap();
        let bucket = Bucket::of(share, i128::from(interval)).unwrap();
        let refilled = u128::from(bucket.tokens) * u128::from(pods) * u128::from(interval);
        let allowed = u128::from(quota) * u128::from(bucket.interval);
        prop_assert!(bucket.tokens >= 1 && refilled <= allowed, "{bucket:?}");
        // And not much less either.
        prop_assert!(refilled * 2 + u128::from(pods) * u128::from(interval) >= allowed, "{bucket:?}");
    }
}
