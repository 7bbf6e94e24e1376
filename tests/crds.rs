//! The custom resource definitions: what is checked in is what the types say, and the types say what is meant.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "Clippy's own exception misses what test functions call"
)]

use std::fs;
use std::path::Path;

use kube::CustomResourceExt;
use palisade::api::{DependencySource, ServiceFence, ServiceFenceStatus, SmartLimiter};
use palisade::cli::crds;
use regex::Regex;
use serde_json::{Value, json};

/// The schema of a ServiceFence.
fn schema() -> Value {
    schema_of::<ServiceFence>()
}

fn schema_of<K: CustomResourceExt>() -> Value {
    let definition = serde_json::to_value(K::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Every schema within a schema, with the way to it.
fn within(schema: &Value, path: &str) -> Vec<(String, Value)> {
    let children = match schema {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let deeper = children.into_iter().flat_map(|(name, value)| within(value, &format!("{path}/{name}")));
    std::iter::once((path.to_owned(), schema.clone())).chain(deeper).collect()
}

/// The regular expression that the rules of a field match with (RE2 in CEL; the crate reads the same here).
fn pattern(pointer: &str) -> Regex {
    nth_pattern(pointer, 0)
}

fn nth_pattern(pointer: &str, number: usize) -> Regex {
    let schema = schema();
    let rules = &schema.pointer(pointer).unwrap()["x-kubernetes-validations"];
    let rule = rules[number]["rule"].as_str().unwrap();
    let (_, rest) = rule.split_once("matches('").expect("a rule that matches");
    Regex::new(rest.split_once("')").expect("a pattern").0).unwrap()
}

#[test]
fn the_definitions_that_are_checked_in_are_those_of_the_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, rendered) in crds::render().unwrap() {
        for folder in ["crds", "charts/palisade/crds"] {
            let text = fs::read_to_string(root.join(folder).join(format!("{name}.yaml"))).unwrap_or_default();
            assert!(
                text == rendered,
                "{name} in {folder} is not what `palisade crds` prints: run `make generate`"
            );
        }
    }
}

#[test]
fn the_names_are_slimes() {
    let definition = serde_json::to_value(ServiceFence::crd()).unwrap();
    assert_eq!(definition["metadata"]["name"], "servicefences.microservice.slime.io");
    assert_eq!(definition["spec"]["versions"][0]["name"], "v1alpha1");
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    let fence: ServiceFence = serde_json::from_value(json!({
        "apiVersion": "microservice.slime.io/v1alpha1",
        "kind": "ServiceFence",
        "metadata": { "name": "client", "namespace": "shop" },
        "spec": {
            "enable": true,
            "host": {
                "reviews.shop.svc.cluster.local": { "stable": {} },
                "shop/*": {},
                "www.example.com": { "deadline": { "expire": { "seconds": "1767225600", "nanos": 5 } } },
                "api.example.com": {
                    "auto": { "duration": { "seconds": 3600 } },
                    "RecentlyCalled": { "seconds": "1767225600" },
                },
            },
            "namespaceSelector": ["db"],
            "labelSelector": [{ "selector": { "project": "front", "group": "web" } }],
            "workloadSelector": { "fromService": true },
        },
    }))
    .unwrap();
    assert_eq!((fence.spec.enable, fence.spec.host.len()), (true, 4));
    assert_eq!((fence.spec.namespace_selector.len(), fence.spec.label_selector[0].selector.len()), (1, 2));
    assert!(
        fence.spec.host["www.example.com"].deadline.is_some()
            && fence.spec.host["api.example.com"].auto.is_some()
    );
    assert!(fence.spec.workload_selector.unwrap().from_service);
}

#[test]
fn every_rule_has_a_message_and_every_map_that_a_rule_goes_through_has_a_limit() {
    let rules: Vec<_> = within(&schema(), "")
        .into_iter()
        .filter(|(_, s)| s.get("x-kubernetes-validations").is_some())
        .collect();
    assert_eq!(rules.len(), 2, "{rules:?}");
    for (path, schema) in rules {
        let all = schema["x-kubernetes-validations"].as_array().unwrap().clone();
        assert!(
            all.iter().all(|rule| rule["message"].as_str().is_some_and(|text| text.len() > 20)),
            "{path}"
        );
        assert!(
            schema["maxProperties"].is_u64(),
            "{path}: the API server bounds the cost of rules by limits"
        );
    }
}

#[test]
fn every_field_of_the_schema_is_described() {
    let both = [schema(), schema_of::<SmartLimiter>()];
    for (path, schema) in both.iter().flat_map(|schema| within(schema, "")) {
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else { continue };
        for (name, field) in fields {
            assert!(field["description"].is_string() || path.is_empty(), "{path}/{name}");
        }
    }
}

#[test]
fn a_host_of_a_spec_is_a_full_name_or_a_whole_namespace() {
    let pattern = pattern("/properties/spec/properties/host");
    let long = format!("{}.example.com", "a".repeat(63));
    let accepted = [
        "reviews.shop.svc.cluster.local",
        "www.example.com",
        "a.b",
        "1.2x",
        "*.example.com",
        "shop/*",
        "s/*",
        &long,
    ];
    for host in accepted {
        assert!(pattern.is_match(host), "{host}");
    }
    let too_long = format!("{}.example.com", "a".repeat(64));
    let refused = [
        "",
        "reviews",
        "Reviews.shop",
        "reviews.shop:9080",
        "*",
        "*/*",
        "*example.com",
        "*.*.example.com",
        "*.example",
        "*.",
        "shop/*.example.com",
        "shop/reviews.shop.svc.cluster.local",
        "shop/",
        "/*",
        "shop/*x",
        "a..b",
        ".a.b",
        "a.b.",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a.b\n",
        " a.b",
        &too_long,
    ];
    for host in refused {
        assert!(!pattern.is_match(host), "{host}");
    }
}

#[test]
fn a_label_of_a_selector_is_a_label_value() {
    let pattern = pattern("/properties/spec/properties/workloadSelector/properties/labels");
    for value in ["", "a", "A", "v1.2-rc_3", "1"] {
        assert!(pattern.is_match(value), "{value}");
    }
    for value in ["-a", "a-", "a b", "a/b", "*", "é"] {
        assert!(!pattern.is_match(value), "{value}");
    }
}

#[test]
fn a_status_that_others_left_can_be_read() {
    let host = "reviews.shop.svc.cluster.local";
    let domain =
        |status: Value| json!({ "hosts": [host], "status": status, "RecentlyCalled": { "seconds": "1" } });
    for (what, status) in [
        ("a word of ours", json!({ "domains": { host: domain(json!("ACTIVE")) } })),
        ("a word of Slime's", json!({ "domains": { host: domain(json!("EXPIREWAIT")) } })),
        ("a number", json!({ "domains": { host: domain(json!(1)) } })),
        ("no list", json!({ "domains": { host: { "hosts": null } } })),
        ("no domain", json!({ "domains": { host: 7 } })),
        ("no domains", json!({ "domains": null })),
        ("a source of a later version", json!({ "domains": { host: { "sources": ["Telepathy", "Spec"] } } })),
        ("deprecated fields", json!({ "visitor": { "a": true }, "unheardOf": [1] })),
        ("counts", json!({ "metricStatus": { format!("{{destination_service=\"{host}\"}}"): "1" } })),
        ("no counts", json!({ "metricStatus": { "a": 1, "b": null } })),
    ] {
        let read = serde_json::from_value::<ServiceFenceStatus>(status);
        assert!(read.is_ok(), "{what}: such a fence would be left out: {read:?}");
    }
    let later = json!({ "domains": { host: { "sources": ["Telepathy", "Spec"] } } });
    let status: ServiceFenceStatus = serde_json::from_value(later).unwrap();
    assert_eq!(status.domains[host].sources, [DependencySource::Spec], "what can be read of it is read");
}

/// Fields of which the status of Slime is full, so that they are neither pruned nor refused.
#[test]
fn a_status_that_slime_left_is_no_reason_to_refuse_a_write() {
    let status = schema().pointer("/properties/status/properties").unwrap().clone();
    assert_eq!(status["metricStatus"]["additionalProperties"], json!({ "type": "string" }));
    assert_eq!(
        status["domains"]["x-kubernetes-map-type"], "atomic",
        "what Slime wrote there goes with our first"
    );
    let domain = &status["domains"]["additionalProperties"]["properties"];
    assert_eq!((&domain["status"]["type"], domain["status"].get("enum")), (&json!("string"), None));
}

#[test]
fn a_label_key_is_one_of_kubernetes() {
    let labels = "/properties/spec/properties/workloadSelector/properties/labels";
    let pattern = nth_pattern(labels, 1);
    let long = "a".repeat(63);
    for accepted in ["app", "a", "app.kubernetes.io/name", "App_1.x", &long] {
        assert!(pattern.is_match(accepted), "{accepted}");
    }
    for refused in
        ["", "*", "a*", "a b", "-a", "a-", "/a", "a/", "a/b/c", "Example.com/a", &format!("{long}a")]
    {
        assert!(!pattern.is_match(refused), "{refused}");
    }
}

/// A manifest of Slime's, in the spelling of its documents and in that of Protocol Buffers.
#[test]
fn a_limiter_of_slimes_can_be_spelled_in_two_ways() {
    let limiter = |words: [&str; 12]| {
        let [interval, headers, exact, prefix, suffix, regex, present, separate, empty, invert, key, value] =
            words;
        let action = json!({ "quota": "10", interval: { "seconds": 1 }, "strategy": "single", headers: [{ "key": "a", "value": "b" }] });
        let matches = [exact, prefix, suffix, regex]
            .map(|operator| json!({ "name": "a", operator: "b", invert: true }));
        let flags = [present, separate, empty]
            .map(|operator| json!({ "name": "a", operator: true, "matchSource": "HeadMatch" }));
        let both = [&matches[..], &flags[..]].concat();
        let descriptor = json!({ "condition": "true", "action": action, "match": both, key: "k", value: "v",
            "target": { "direction": "outbound", "port": 80, "route": ["a:80/b"], "host": ["c"] } });
        let spec = json!({ "sets": { "_base": { "descriptor": [descriptor] } }, "workloadSelector": { "app": "a" }, "gateway": true, "host": "h" });
        let object = json!({ "apiVersion": "microservice.slime.io/v1alpha2", "kind": "SmartLimiter",
            "metadata": { "name": "a", "namespace": "b" }, "spec": spec });
        let unknown = unknown_fields(&spec, &schema_of::<SmartLimiter>()["properties"]["spec"], "");
        assert_eq!(unknown, Vec::<String>::new(), "the API server would prune them");
        serde_json::from_value::<SmartLimiter>(object).unwrap()
    };
    let snake = limiter([
        "fill_interval",
        "headers_to_add",
        "exact_match",
        "prefix_match",
        "suffix_match",
        "regex_match",
        "present_match",
        "present_match_separate",
        "is_exact_match_empty",
        "invert_match",
        "custom_key",
        "custom_value",
    ]);
    let camel = limiter([
        "fillInterval",
        "headersToAdd",
        "exactMatch",
        "prefixMatch",
        "suffixMatch",
        "regexMatch",
        "presentMatch",
        "presentMatchSeparate",
        "isExactMatchEmpty",
        "invertMatch",
        "customKey",
        "customValue",
    ]);
    assert_eq!(snake.spec, camel.spec);
    let descriptor = &snake.spec.sets["_base"].descriptor[0];
    let action = descriptor.action.as_ref().unwrap();
    assert_eq!(action.fill_interval.map(|interval| interval.seconds), Some(1));
    assert_eq!(
        (action.headers_to_add.len(), descriptor.matches.len(), &*descriptor.custom_value),
        (1, 7, "v")
    );
    assert!(descriptor.matches[0].invert_match && descriptor.matches[6].is_exact_match_empty);
}

/// The fields of a value that its schema does not name.
fn unknown_fields(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let within = |name: &str, value: &Value| {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let path = format!("{path}/{name}");
        known.map_or_else(|| vec![path.clone()], |schema| unknown_fields(value, schema, &path))
    };
    match value {
        Value::Object(fields) => fields.iter().flat_map(|(name, value)| within(name, value)).collect(),
        Value::Array(items) => {
            items.iter().flat_map(|item| unknown_fields(item, &schema["items"], path)).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn each_second_spelling_has_a_rule_against_both() {
    let rules = within(&schema_of::<SmartLimiter>(), "");
    let rules = rules
        .iter()
        .filter_map(|(path, schema)| Some((path, schema.get("x-kubernetes-validations")?.as_array()?)));
    let all: Vec<_> = rules
        .flat_map(|(path, rules)| {
            rules.iter().map(move |rule| (path, rule["rule"].as_str().unwrap_or_default()))
        })
        .collect();
    let against = |both: &str| {
        all.iter().filter(|(path, rule)| *rule == both && path.starts_with("/properties/spec")).count()
    };
    assert_eq!(against("!(has(self.fill_interval) && has(self.fillInterval))"), 1, "{all:?}");
    assert_eq!(
        against("!(has(self.present_match_separate) && has(self.presentMatchSeparate))"),
        1,
        "{all:?}"
    );
}

#[test]
fn the_samples_say_nothing_that_the_definitions_do_not_know() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let files = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let samples: Vec<Value> = files.flat_map(|text| serde_saphyr::from_multiple(&text).unwrap()).collect();
    assert!(samples.len() >= 4, "{samples:?}");
    for sample in samples {
        let (schema, read) = match sample["kind"].as_str() {
            Some("ServiceFence") => {
                (schema(), serde_json::from_value::<ServiceFence>(sample.clone()).map(drop))
            }
            Some("SmartLimiter") => (
                schema_of::<SmartLimiter>(),
                serde_json::from_value::<SmartLimiter>(sample.clone()).map(drop),
            ),
            other => panic!("no sample of ours: {other:?}"),
        };
        let unknown = unknown_fields(&sample["spec"], &schema["properties"]["spec"], "spec");
        assert!(unknown.is_empty() && read.is_ok(), "{unknown:?} {read:?} in {sample}");
    }
}

#[test]
fn a_limiters_status_that_slime_left_can_be_read() {
    let left = json!({ "metricStatus": { "_base.pod": "2", "x": 1 }, "ratelimitStatus": { "_base": { "descriptor": [
        { "action": { "fill_interval": { "seconds": "60" }, "quota": "2", "strategy": "single" }, "condition": "true", "target": { "port": 9080 } },
    ] }, "v1": 7 } });
    let status: palisade::api::SmartLimiterStatus = serde_json::from_value(left).unwrap();
    assert_eq!(
        status.ratelimit_status["_base"].descriptor[0].target.as_ref().and_then(|target| target.port),
        Some(9080)
    );
    assert_eq!(status.metric_status["_base.pod"], "2");
}
