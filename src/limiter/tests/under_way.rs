//! Limits of what is under way.

use serde_json::{Value, json};

use super::{config_of, decide, descriptor, limiter, one, ready, status};
use crate::istio::ConfigPatch;

fn of(strategy: &str, more: &Value) -> Value {
    let mut of = json!({ "condition": "true", "action": { "quota": "20", "strategy": strategy }, "target": { "port": 8080 } });
    super::merge(&mut of, more);
    of
}

fn spec(sets: &Value) -> crate::api::SmartLimiter {
    limiter(&json!({ "sets": sets }))
}

#[test]
fn requests_under_way_are_limited_by_a_filter_whose_configuration_goes_by_itself() {
    let all = spec(
        &json!({ "_base": { "descriptor": [of("adaptive", &json!({})), of("adaptive", &json!({ "target": { "port": 0 } }))] } }),
    );
    let plan = decide(&all);
    let configs = super::configs(&plan.apply[0].0);
    assert_eq!(configs.len(), 2);
    for (name, config) in configs {
        assert!(name.ends_with("/adaptive"), "{name}");
        let params = &config["gradient_controller_config"];
        assert_eq!(params["concurrency_limit_params"]["max_concurrency_limit"], 20);
        assert_eq!(params["min_rtt_calc_params"]["interval"], "60.000s");
        assert_eq!(config["enabled"]["default_value"], true);
    }
    let own = one(
        &json!({ "action": { "strategy": "adaptive", "quota": "2", "fill_interval": { "seconds": 5 } } }),
    );
    let config = config_of(&decide(&own));
    assert_eq!(config["gradient_controller_config"]["min_rtt_calc_params"]["interval"], "5.000s");
    assert_eq!(config["gradient_controller_config"]["concurrency_limit_params"]["min_concurrency_limit"], 2);
    let fewer = of("adaptive", &json!({ "action": { "quota": "7" } }));
    let both = spec(
        &json!({ "_base": { "descriptor": [of("adaptive", &json!({}))] }, "v1": { "descriptor": [fewer] } }),
    );
    let config = &super::configs(&decide(&both).apply[1].0)[0].1;
    assert_eq!(config["gradient_controller_config"]["concurrency_limit_params"]["max_concurrency_limit"], 7);
}

#[test]
fn connections_are_limited_by_a_filter_of_the_port_and_a_subset_replaces_it() {
    let set =
        |quota: &str| json!({ "descriptor": [of("connections", &json!({ "action": { "quota": quota } }))] });
    let limiter = spec(&json!({ "_base": set("20"), "v1": set("3") }));
    let plan = decide(&limiter);
    let patches = |number: usize| -> Vec<ConfigPatch> { plan.apply[number].0.spec.config_patches.clone() };
    let [inserted] = &*patches(0) else { panic!("{plan:?}") };
    assert_eq!(
        (&*inserted.apply_to, &inserted.patch["operation"]),
        ("NETWORK_FILTER", &json!("INSERT_FIRST"))
    );
    assert_eq!(inserted.matches["listener"], json!({ "portNumber": 8080 }));
    assert_eq!(inserted.patch["value"]["typed_config"]["max_connections"], 20);
    let [removed, inserted] = &*patches(1) else { panic!("{plan:?}") };
    assert_eq!(removed.patch, json!({ "operation": "REMOVE" }));
    assert_eq!(
        removed.matches["listener"]["filterChain"]["filter"]["name"],
        "palisade/shop/web/_base/connections/8080"
    );
    assert_eq!(inserted.patch["value"]["typed_config"]["max_connections"], 3);
    assert_eq!(status(&limiter, &plan).limits, 2);
}

#[test]
fn what_envoy_has_no_choice_for_is_refused() {
    for (strategy, more) in [
        ("adaptive", json!({ "match": [{ "name": "a", "exact_match": "b" }] })),
        ("adaptive", json!({ "shadow": true })),
        ("connections", json!({ "rateLimitHeaders": true })),
        ("connections", json!({ "action": { "headers_to_add": [{ "key": "a", "value": "b" }] } })),
        ("connections", json!({ "target": { "port": 0 } })),
        ("connections", json!({ "target": { "direction": "outbound" } })),
    ] {
        let limiter = spec(&json!({ "_base": { "descriptor": [of(strategy, &more)] } }));
        assert_eq!(ready(&limiter).0, "InvalidDescriptor", "{strategy} {more}");
    }
    for strategy in ["adaptive", "connections"] {
        let twice = json!([of(strategy, &json!({})), of(strategy, &json!({ "action": { "quota": "1" } }))]);
        let limiter = spec(&json!({ "_base": { "descriptor": twice } }));
        let (reason, message) = ready(&limiter);
        assert!(reason == "InvalidDescriptor" && message.contains("descriptor[1]"), "{message}");
        assert_eq!(status(&limiter, &decide(&limiter)).limits, 1, "the first is in force");
    }
    assert_eq!(
        ready(&spec(
            &json!({ "_base": { "descriptor": [descriptor(&json!({})), of("adaptive", &json!({}))] } })
        ))
        .0,
        "Limiting"
    );
}

#[test]
fn the_status_of_rejections_is_the_users_with_every_filter() {
    let statuses = [
        ("single", "status"),
        ("global", "rate_limited_status"),
        ("adaptive", "concurrency_limit_exceeded_status"),
    ];
    for (strategy, field) in statuses {
        let mut limiter = one(&json!({ "action": { "strategy": strategy } }));
        assert_eq!(config_of(&decide(&limiter))[field], Value::Null, "{strategy}: Envoy's own");
        limiter.spec.rejection_status = Some(503);
        assert_eq!(config_of(&decide(&limiter))[field], json!({ "code": 503 }), "{strategy}");
    }
}
