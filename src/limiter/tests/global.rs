//! Limits that the rate limit service keeps.

use serde_json::{Value, json};

use super::{config_of, configs, decide, decide_by, descriptor, limiter, mesh, one, ready, status};

/// The limit that the only descriptor carries.
fn limit(more: &Value) -> Value {
    let config = config_of(&decide(&one(more)));
    let actions = config["rate_limits"][0]["actions"].as_array().unwrap().clone();
    let last = &actions.last().unwrap()["generic_key"];
    assert_eq!(last["descriptor_key"], "palisade.limit");
    last["descriptor_value"].clone()
}

#[test]
fn a_descriptor_carries_its_limit_in_any_time_and_undivided() {
    let global = json!({ "strategy": "global" });
    assert_eq!(limit(&json!({ "action": global })), "10/1000");
    let odd = json!({ "strategy": "global", "quota": "7", "fill_interval": { "seconds": 0, "nanos": 1_500_000_000_i64 } });
    assert_eq!(limit(&json!({ "action": odd })), "7/1500");
    let part = json!({ "strategy": "global", "quota": "100/{{._base.pod}}" });
    assert_eq!(limit(&json!({ "action": part, "shadow": true })), "33/1000/shadow");
}

#[test]
fn the_filter_asks_the_service_and_does_what_the_user_chose_without_it() {
    for denies in [false, true] {
        let mut limiter = one(&json!({ "action": { "strategy": "global" }, "rateLimitHeaders": true }));
        limiter.spec.failure_mode_deny = denies;
        let config = config_of(&decide(&limiter));
        assert_eq!(config["failure_mode_deny"], denies);
        assert_eq!(config["domain"], "palisade");
        assert_eq!(config["timeout"], "0.100s");
        let service = &config["rate_limit_service"]["grpc_service"]["envoy_grpc"];
        assert_eq!(service["cluster_name"], "outbound|18092||limits.example.com");
        assert_eq!(
            service["authority"], "limits.example.com",
            "the service's own Envoy refuses a cluster's name"
        );
        assert_eq!(config["rate_limits"][0]["x_ratelimit_option"], "DRAFT_VERSION_03");
    }
}

#[test]
fn a_chain_has_a_filter_of_each_kind_and_a_subset_replaces_both() {
    let own = descriptor(&json!({}));
    let shared = descriptor(&json!({ "action": { "strategy": "global" } }));
    let limiter = limiter(&json!({ "sets": {
        "_base": { "descriptor": [own, shared] }, "v1": { "descriptor": [own] },
    } }));
    let plan = decide(&limiter);
    let names: Vec<Vec<_>> = plan
        .apply
        .iter()
        .map(|(filter, _)| configs(filter).into_iter().map(|(name, _)| name).collect())
        .collect();
    let expected = |subset: &str| {
        let name = format!("palisade/shop/web/{subset}/sidecar_inbound/8080");
        vec![name.clone(), format!("{name}/global")]
    };
    assert_eq!(names, [expected("_base"), expected("v1")]);
    let (subset, _) = &plan.apply[1];
    let removed: Vec<_> =
        subset.spec.config_patches.iter().filter(|patch| patch.patch["operation"] == "REMOVE").collect();
    let removed: Vec<_> = removed
        .iter()
        .map(|patch| &patch.matches["listener"]["filterChain"]["filter"]["subFilter"]["name"])
        .collect();
    for name in expected("_base") {
        assert!(removed.contains(&&json!(name)), "{removed:?}");
    }
    let shared = &configs(subset)[1].1["rate_limits"][0]["actions"][0]["generic_key"]["descriptor_value"];
    assert_eq!(shared, "shop/web/_base/1", "all pods have the one bucket, whatever their subset");
}

#[test]
fn without_a_service_the_limit_is_told_and_the_others_hold() {
    let limiter = limiter(&json!({ "sets": { "_base": { "descriptor": [
        descriptor(&json!({})), descriptor(&json!({ "action": { "strategy": "global" } })),
    ] } } }));
    let plan = decide_by(&limiter, &[], &mesh(), None);
    let status = status(&limiter, &plan);
    assert_eq!((status.limits, &*status.conditions[0].reason), (1, "NoRateLimitService"));
    assert!(status.conditions[0].message.contains("sets._base.descriptor[1]"), "{status:?}");
    assert_eq!(plan.apply.len(), 1);
}

#[test]
fn each_value_has_a_bucket_of_its_own() {
    for (of, action, key) in [
        (
            json!({ "name": "x-user" }),
            json!({ "request_headers": { "header_name": "x-user", "descriptor_key": "match-0" } }),
            "match-0",
        ),
        (
            json!({ "name": "user", "matchSource": "QueryMatch" }),
            json!({ "query_parameters": { "query_parameter_name": "user", "descriptor_key": "match-0" } }),
            "match-0",
        ),
        (json!({ "matchSource": "SourceIpMatch" }), json!({ "remote_address": {} }), "remote_address"),
    ] {
        let mut of = of;
        of["present_match_separate"] = json!(true);
        let config = config_of(&decide(&one(&json!({ "match": [of] }))));
        assert_eq!(config["rate_limits"][0]["actions"][1], action);
        assert_eq!(config["descriptors"][0]["entries"][1], json!({ "key": key }), "{of}");
        assert_eq!(config["max_dynamic_descriptors"], 1024);
        let config = config_of(&decide(&one(&json!({ "match": [of], "action": { "strategy": "global" } }))));
        assert_eq!(config["rate_limits"][0]["actions"][1], action);
    }
}

#[test]
fn a_match_of_each_value_goes_with_nothing_else() {
    for more in
        [json!({ "exact_match": "a" }), json!({ "invert_match": true }), json!({ "present_match": true })]
    {
        let mut of = json!({ "name": "a", "present_match_separate": true });
        super::merge(&mut of, &more);
        let (reason, message) = ready(&one(&json!({ "match": [of] })));
        assert!(reason == "InvalidDescriptor" && message.contains("present_match_separate"), "{message}");
    }
    let twice = json!({ "matchSource": "SourceIpMatch", "present_match_separate": true });
    assert_eq!(ready(&one(&json!({ "match": [twice, twice] }))).0, "InvalidDescriptor");
}

#[test]
fn more_headers_than_envoy_takes_are_refused() {
    let headers = |count: usize| {
        let headers: Vec<_> = (0..count).map(|n| json!({ "key": format!("x-{n}"), "value": "a" })).collect();
        ready(&one(&json!({ "action": { "headers_to_add": headers } }))).0
    };
    assert_eq!((headers(10), headers(11)), ("Limiting".to_owned(), "InvalidDescriptor".to_owned()));
}
