use serde_json::{Value, json};

use super::{config_of, decide, one, ready};

/// How a request comes by the only descriptor, without the entry that tells limits apart.
fn actions(more: &Value) -> Value {
    let config = config_of(&decide(&one(more)));
    let mut actions = config["rate_limits"][0]["actions"].as_array().unwrap().clone();
    assert_eq!(
        actions.remove(0),
        json!({ "generic_key": { "descriptor_key": "palisade", "descriptor_value": "shop/web/_base/0" } })
    );
    assert_eq!(config["descriptors"][0]["entries"].as_array().unwrap().len(), actions.len() + 1);
    json!(actions)
}

fn header(of: &Value) -> Value {
    json!([{ "header_value_match": { "descriptor_key": "match-0", "descriptor_value": "yes", "headers": [of] } }])
}

#[test]
fn headers_are_matched_by_every_operator() {
    for (of, expected) in [
        (json!({ "exact_match": "b" }), json!({ "string_match": { "exact": "b" } })),
        (json!({ "exactMatch": "" }), json!({ "string_match": { "exact": "" } })),
        (json!({ "prefix_match": "b" }), json!({ "string_match": { "prefix": "b" } })),
        (json!({ "suffix_match": "b" }), json!({ "string_match": { "suffix": "b" } })),
        (json!({ "regex_match": "b.*" }), json!({ "string_match": { "safe_regex": { "regex": "b.*" } } })),
        (json!({ "is_exact_match_empty": true }), json!({ "string_match": { "exact": "" } })),
        (json!({ "present_match": true }), json!({ "present_match": true })),
        (json!({ "present_match": false }), json!({ "present_match": false })),
        (
            json!({ "exact_match": "b", "invert_match": true, "matchSource": "HeadMatch" }),
            json!({ "string_match": { "exact": "b" }, "invert_match": true }),
        ),
    ] {
        let (mut of, mut expected) = (of, expected);
        of["name"] = json!(":method");
        expected["name"] = json!(":method");
        assert_eq!(actions(&json!({ "match": [of] })), header(&expected), "{of}");
    }
}

#[test]
fn query_parameters_are_matched_by_either_of_slimes_fields() {
    let expected = |more: &Value| {
        let mut action = json!({ "descriptor_key": "match-0", "descriptor_value": "yes",
            "query_parameters": [{ "name": "user", "string_match": { "prefix": "v" } }] });
        super::merge(&mut action, more);
        json!([{ "query_parameter_value_match": action }])
    };
    for (more, wanted) in [
        (json!({ "matchSource": "QueryMatch" }), json!({})),
        (json!({ "useQueryMatch": true }), json!({})),
        (json!({ "matchSource": "QueryMatch", "invertMatch": true }), json!({ "expect_match": false })),
    ] {
        let mut of = json!({ "name": "user", "prefix_match": "v" });
        super::merge(&mut of, &more);
        assert_eq!(actions(&json!({ "match": [of] })), expected(&wanted), "{more}");
    }
}

#[test]
fn each_address_of_callers_has_a_bucket_of_its_own() {
    let of = |list: &str, invert: bool| {
        let of = json!({ "exact_match": list, "matchSource": "SourceIpMatch", "invert_match": invert });
        config_of(&decide(&one(&json!({ "match": [of] }))))
    };
    let ranges = |config: &Value, number: usize| {
        config["rate_limits"][number]["actions"][1]["remote_address_match"]["address_matcher"].clone()
    };
    let three = of("10.0.0.1, 10.1.0.0/16,fd00::1", false);
    let names: Vec<_> =
        (0..3).map(|number| three["descriptors"][number]["entries"][0]["value"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop/web/_base/0/0", "shop/web/_base/0/1", "shop/web/_base/0/2"]);
    let single =
        |prefix: &str, length: u8| json!({ "ranges": [{ "address_prefix": prefix, "prefix_len": length }] });
    let all: Vec<_> = (0..3).map(|number| ranges(&three, number)).collect();
    assert_eq!(all, [single("10.0.0.1", 32), single("10.1.0.0", 16), single("fd00::1", 128)]);
    let others = of("10.0.0.1,10.0.0.2", true);
    assert_eq!(others["descriptors"].as_array().unwrap().len(), 1);
    assert_eq!(ranges(&others, 0)["invert_match"], true);
}

#[test]
fn a_request_must_match_all() {
    let matches = json!([{ "name": "a", "exact_match": "1" }, { "name": "b", "present_match": true, "matchSource": "QueryMatch" }]);
    let actions = actions(&json!({ "match": matches }));
    assert!(
        actions[0]["header_value_match"].is_object() && actions[1]["query_parameter_value_match"].is_object()
    );
    assert_eq!(actions[1]["query_parameter_value_match"]["descriptor_key"], "match-1");
}

/// Envoy would reject the whole listener.
#[test]
fn what_envoy_would_not_take_is_refused() {
    for (of, expected) in [
        (json!({ "name": "a" }), "it has no operator"),
        (json!({ "name": "a", "exact_match": "b", "prefix_match": "c" }), "more than one operator"),
        (json!({ "name": "a", "exact_match": "b", "present_match": true }), "more than one operator"),
        (json!({ "name": "", "exact_match": "b" }), "is no name of a header"),
        (json!({ "name": "a b", "exact_match": "b" }), "is no name of a header"),
        (json!({ "name": "a", "prefix_match": "" }), "is empty"),
        (json!({ "name": "a", "regex_match": "(" }), "no regular expression"),
        (json!({ "name": "a", "regex_match": r"[a&&b]" }), "no regular expression"),
        (json!({ "name": "a", "regex_match": "(?=b)" }), "no regular expression"),
        (json!({ "name": "", "exact_match": "b", "matchSource": "QueryMatch" }), "name is missing"),
        (
            json!({ "name": "a", "exact_match": "b", "matchSource": "CookieMatch" }),
            "no matchSource CookieMatch",
        ),
        (json!({ "exact_match": "10.0.0.300", "matchSource": "SourceIpMatch" }), "is no address"),
        (json!({ "exact_match": "10.0.0.0/33", "matchSource": "SourceIpMatch" }), "is no address"),
        (json!({ "prefix_match": "10.", "matchSource": "SourceIpMatch" }), "needs exact_match"),
    ] {
        let (reason, message) = ready(&one(&json!({ "match": [of] })));
        assert_eq!(reason, "InvalidDescriptor", "{of}: {message}");
        assert!(message.contains(expected) && message.contains("match[0]"), "{of}: {message}");
    }
}
