use std::sync::Arc;

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    config_of, configs, decide, decide_with, descriptor, labels, limiter, mesh, one, pod, ready, rule, status,
};
use crate::graph::{Change, Limiter, ObjectKey, Service, ServiceEntry};
use crate::istio::{ConfigPatch, EnvoyFilter};
use crate::limiter::{Plan, facts};

fn base(descriptors: &[Value]) -> Value {
    json!({ "sets": { "_base": { "descriptor": descriptors } } })
}

/// The `EnvoyFilter`s of a plan, as if they had been applied.
fn applied(plan: &Plan) -> Vec<Arc<EnvoyFilter>> {
    plan.apply.iter().map(|(filter, _)| Arc::new(filter.clone())).collect()
}

#[test]
fn a_listener_has_one_filter_whose_configuration_goes_by_itself() {
    let plan = decide(&limiter(&base(&[
        descriptor(&json!({})),
        descriptor(&json!({ "action": { "quota": "5" } })),
    ])));
    let [(filter, false)] = &*plan.apply else { panic!("{plan:?}") };
    let patches = &filter.spec.config_patches;
    let kinds: Vec<_> = patches.iter().map(|patch| (&*patch.apply_to, &patch.patch["operation"])).collect();
    assert_eq!(
        kinds,
        [
            ("HTTP_FILTER", &json!("REMOVE")),
            ("HTTP_FILTER", &json!("INSERT_BEFORE")),
            ("EXTENSION_CONFIG", &json!("ADD"))
        ]
    );
    let inserted = &patches[1];
    assert_eq!(inserted.matches["context"], "SIDECAR_INBOUND");
    assert_eq!(inserted.matches["listener"]["portNumber"], 8080);
    assert_eq!(inserted.patch["value"]["name"], "palisade/shop/web/_base/sidecar_inbound/8080");
    assert!(inserted.patch["value"]["config_discovery"]["config_source"]["ads"].is_object());
    assert_eq!(configs(filter)[0].0, "palisade/shop/web/_base/sidecar_inbound/8080");
    assert_eq!(config_of(&plan)["descriptors"].as_array().map(Vec::len), Some(2));
    assert_eq!(filter.spec.priority, Some(10));
    assert_eq!(filter.spec.workload_selector.as_ref().unwrap().labels["app"], "web");
    assert_eq!(filter.metadata.name.as_deref(), Some("web.shop.ratelimit"));
    assert_eq!(filter.metadata.owner_references.as_ref().unwrap()[0].uid, "u-1");
}

#[test]
fn a_filter_has_its_limiters_revision_and_none_if_that_is_a_tag() {
    let mut limiter = one(&json!({}));
    limiter.metadata.labels = Some([("istio.io/rev".to_owned(), "prod".to_owned())].into());
    let mut graph = mesh();
    let tag = Change::Service(Service {
        key: ObjectKey::new("istio-system", "istiod-revision-tag-prod"),
        labels: labels(&[("istio.io/tag", "prod"), ("istio.io/rev", "1-31")]),
        ..Service::default()
    });
    graph.apply(Change::Limiter(facts(&limiter)));
    let plan = decide_with(&limiter, &[], &graph);
    let filters = applied(&plan);
    assert_eq!(filters[0].labels().get("istio.io/rev").map(String::as_str), Some("prod"));
    assert_eq!(graph.limiters_concerned(&tag).len(), 1);
    graph.apply(tag.clone());
    let plan = decide_with(&limiter, &filters, &graph);
    assert_eq!(applied(&plan)[0].labels().get("istio.io/rev"), None, "no istiod reads what has a tag");
    assert_eq!(decide_with(&limiter, &applied(&plan), &graph).apply, []);
    let Change::Service(tag) = tag else { unreachable!() };
    assert_eq!(graph.limiters_concerned(&Change::ServiceGone(tag.key)).len(), 1);
}

/// What istiod does with the patches of `EnvoyFilter`s, for the HTTP filters of one chain: all removals and insertions, in the
/// order of priority.
fn chain(filters: &[&EnvoyFilter], context: &str, port: u64) -> Vec<String> {
    let mut filters = filters.to_vec();
    filters.sort_by_key(|filter| filter.spec.priority);
    let mut chain = Vec::new();
    for patch in filters.iter().flat_map(|filter| &filter.spec.config_patches) {
        let of_port = patch.matches["listener"]["portNumber"].as_u64().is_none_or(|of| of == port);
        if patch.apply_to != "HTTP_FILTER" || patch.matches["context"] != context || !of_port {
            continue;
        }
        let named = |value: &Value| value["name"].as_str().unwrap().to_owned();
        match patch.patch["operation"].as_str().unwrap() {
            "REMOVE" => {
                let gone = named(&patch.matches["listener"]["filterChain"]["filter"]["subFilter"]);
                chain.retain(|name| *name != gone);
            }
            "INSERT_BEFORE" => chain.push(named(&patch.patch["value"])),
            other => panic!("{other}"),
        }
    }
    chain
}

#[test]
fn a_chain_has_one_filter_of_a_limiter_with_all_that_holds_for_it() {
    let of = |target: Value| descriptor(&json!({ "target": target }));
    let everywhere = of(json!({ "port": 0 }));
    let here = of(json!({ "port": 8080 }));
    let sent = of(json!({ "direction": "outbound", "port": 0 }));
    let sets = json!({
        "_base": { "descriptor": [everywhere, here, sent] },
        "v1": { "descriptor": [of(json!({ "port": 0 })), of(json!({ "port": 9090 }))] },
    });
    let plan = decide(&limiter(&json!({ "sets": sets })));
    let both: Vec<_> = plan.apply.iter().map(|(filter, _)| filter).collect();
    let sent_configs: std::collections::BTreeMap<_, _> =
        both.iter().flat_map(|filter| configs(filter)).collect();
    let limits = |filters: &[&EnvoyFilter], context: &str, port: u64| {
        let chain = chain(filters, context, port);
        let [name] = &*chain else { panic!("{chain:?}") };
        sent_configs[name]["descriptors"].as_array().unwrap().len()
    };
    for (what, filters, expected) in
        [("a pod of no subset", &both[..1], [1, 2, 1]), ("a pod of the subset", &both, [2, 3, 3])]
    {
        let found = [80, 8080, 9090].map(|port| limits(filters, "SIDECAR_INBOUND", port));
        assert_eq!(found, expected, "{what}");
        assert_eq!(limits(filters, "SIDECAR_OUTBOUND", 80), 1, "{what}");
    }
    assert_eq!(status(&limiter(&json!({ "sets": sets })), &plan).limits, 5);
}

#[test]
fn rejections_have_the_limiters_body_on_each_port_once() {
    let of = |port: u16, more: &Value| descriptor(&json!({ "target": { "port": port }, "action": more }));
    let (limit, connections) = (json!({}), json!({ "strategy": "connections" }));
    let bodies = |descriptors: &[Value], body: Value| {
        let mut spec = base(descriptors);
        spec["rejectionBody"] = body;
        let plan = decide(&limiter(&spec));
        let patches = plan.apply.into_iter().flat_map(|(filter, _)| filter.spec.config_patches);
        let patches = patches.filter(|patch| patch.apply_to == "NETWORK_FILTER");
        let patches = patches.filter(|patch| patch.patch["operation"] == "MERGE");
        let port = |patch: &ConfigPatch| patch.matches["listener"]["portNumber"].as_u64();
        patches
            .map(|patch| {
                let mapper = &patch.patch["value"]["typed_config"]["local_reply_config"]["mappers"][0];
                let kind = mapper["body_format_override"]["content_type"].as_str().unwrap().to_owned();
                (port(&patch), mapper["body"]["inline_string"].as_str().unwrap().to_owned(), kind)
            })
            .collect::<Vec<_>>()
    };
    let told = |port, text: &str, kind: &str| (port, text.to_owned(), kind.to_owned());
    let (text, json) =
        (json!({ "text": "100%" }), json!({ "text": "{}", "contentType": "application/json" }));
    assert_eq!(
        bodies(&[of(80, &limit), of(80, &limit)], text.clone()),
        [told(Some(80), "100%", "text/plain")]
    );
    let both = [told(Some(80), "{}", "application/json"), told(Some(81), "{}", "application/json")];
    assert_eq!(bodies(&[of(80, &limit), of(81, &limit)], json), both);
    assert_eq!(bodies(&[of(0, &limit), of(81, &limit)], text.clone()), [told(None, "100%", "text/plain")]);
    assert_eq!(bodies(&[of(80, &connections)], text), []);
    assert_eq!(bodies(&[of(80, &limit)], Value::Null), []);
}

#[test]
fn routes_and_hosts_are_told_by_envoys_own_names_for_them() {
    let text = |target: Value, gateway: bool| {
        let mut spec = base(&[descriptor(&json!({ "target": target }))]);
        spec["gateway"] = json!(gateway);
        let config = config_of(&decide(&limiter(&spec)));
        config["rate_limits"][0]["actions"][1]["extension"]["typed_config"]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        text(json!({ "direction": "outbound", "port": 80, "host": ["a.shop.svc"] }), false),
        "(xds.virtual_host_name == 'a.shop.svc:80') ? 'yes' : 'no'"
    );
    assert_eq!(
        text(json!({ "port": 0, "host": ["*.example.com"], "route": ["b:443/canary", "/r"] }), true),
        "(request.host.matches('^(?i).*[.]example[.]com(:[0-9]+)?$')) || \
         (request.host.matches('^(?i)b(:[0-9]+)?$') && xds.virtual_host_name.endsWith(':443') && xds.route_name == 'canary') || \
         (xds.route_name == 'r') ? 'yes' : 'no'"
    );
    assert_eq!(
        text(
            json!({ "direction": "outbound", "port": 0, "host": ["a.shop.svc"], "route": ["b.shop.svc:80/canary"] }),
            false
        ),
        "(xds.virtual_host_name.startsWith('a.shop.svc:')) || \
         (xds.virtual_host_name == 'b.shop.svc:80' && xds.route_name == 'canary') ? 'yes' : 'no'"
    );
    for (target, expected) in [
        (json!({ "direction": "outbound", "host": ["a' || true || '"] }), "no host and no route"),
        (json!({ "direction": "outbound", "route": ["/"] }), "no host and no route"),
        (json!({ "host": ["a"] }), ":authority"),
        (json!({ "direction": "sideways" }), "there is no target.direction sideways"),
    ] {
        let (reason, message) = ready(&one(&json!({ "target": target })));
        assert!(reason == "InvalidDescriptor" && message.contains(expected), "{message}");
    }
}

#[test]
fn a_subset_has_a_filter_of_its_own_with_the_labels_of_both() {
    let spec = json!({ "sets": { "v1": { "descriptor": [descriptor(&json!({ "action": { "strategy": "average" } }))] } } });
    let plan = decide(&limiter(&spec));
    let filter = &plan.apply[0].0;
    assert_eq!(filter.metadata.name.as_deref(), Some("web.shop.v1.ratelimit"));
    let labels = serde_json::to_value(&filter.spec.workload_selector).unwrap();
    assert_eq!(labels, json!({ "labels": { "app": "web", "version": "1" } }));
    assert_eq!(config_of(&plan)["descriptors"][0]["token_bucket"]["max_tokens"], 5, "ten over two pods");
    for host in ["web.shop.svc.cluster.local", "other"] {
        let mut graph = mesh();
        graph.apply(rule(host));
        let found = host != "other";
        assert_eq!(decide_with(&limiter(&spec), &[], &graph).apply.is_empty(), !found, "{host}");
    }
    let unknown = limiter(&json!({ "sets": { "v9": { "descriptor": [descriptor(&json!({}))] } } }));
    assert_eq!(ready(&unknown).0, "SubsetNotFound");
}

#[test]
fn what_stands_as_it_should_is_not_written_again_and_drift_is_repaired_by_force() {
    let web = one(&json!({}));
    let stands = applied(&decide(&web));
    let again = decide_with(&web, &stands, &mesh());
    assert!(again.apply.is_empty() && again.delete.is_empty());
    let mut changed = EnvoyFilter::clone(&stands[0]);
    changed.spec.priority = Some(0);
    let repaired = decide_with(&web, &[Arc::new(changed)], &mesh());
    assert!(matches!(&*repaired.apply, [(_, true)]), "{repaired:?}");
}

#[test]
fn what_no_limit_needs_any_more_is_deleted() {
    let stands = applied(&decide(&one(&json!({}))));
    let idle = one(&json!({ "condition": "{{._base.pod}} > 3" }));
    let plan = decide_with(&idle, &stands, &mesh());
    assert_eq!((plan.apply.len(), plan.delete.len()), (0, 1));
    assert_eq!(ready(&idle).0, "Idle");
    let none = limiter(&json!({ "sets": {} }));
    assert_eq!(decide_with(&none, &stands, &mesh()).delete.len(), 1);
    let elsewhere = limiter(
        &json!({ "host": "api.example.com", "sets": { "_base": { "descriptor": [descriptor(&json!({}))] } } }),
    );
    assert_eq!(
        (decide_with(&elsewhere, &stands, &mesh()).delete.len(), &*ready(&elsewhere).0),
        (1, "ServiceNotFound")
    );
}

#[test]
fn a_descriptor_with_an_error_leaves_the_others_in_force() {
    let wrong = descriptor(&json!({ "condition": "1 +" }));
    let web = limiter(&base(&[wrong.clone(), descriptor(&json!({}))]));
    let plan = decide(&web);
    assert_eq!(config_of(&plan)["descriptors"].as_array().map(Vec::len), Some(1));
    let status = status(&web, &plan);
    let said = |of: &str| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == of).unwrap();
        (condition.status.as_str(), condition.reason.as_str())
    };
    assert_eq!((said("Ready"), said("Enforced")), (("False", "InvalidDescriptor"), ("True", "Limiting")));
    assert_eq!(status.limits, 1);
    let alone = limiter(&base(&[wrong]));
    assert_eq!(super::status(&alone, &decide(&alone)).conditions[1].status, "False");
}

#[test]
fn what_is_too_much_for_one_object_is_refused() {
    let headers: Vec<_> =
        (0..16).map(|n| json!({ "key": format!("x-{n}"), "value": "v".repeat(4096) })).collect();
    let large = descriptor(&json!({ "action": { "headers_to_add": headers } }));
    let web = limiter(&base(&vec![large; 20]));
    let plan = decide(&web);
    assert!(plan.apply.is_empty(), "Kubernetes would refuse it again and again");
    assert_eq!((status(&web, &plan).limits, &*ready(&web).0), (0, "InvalidDescriptor"));
}

#[test]
fn a_subset_with_other_labels_than_all_pods_has_none() {
    let own = json!({ "workloadSelector": { "version": "2" }, "sets": { "v1": { "descriptor": [descriptor(&json!({}))] } } });
    assert_eq!(ready(&limiter(&own)).0, "SubsetNotFound");
}

#[test]
fn names_of_users_are_entries_and_differ() {
    let named = |value: &str| descriptor(&json!({ "custom_key": "team", "customValue": value }));
    let config = config_of(&decide(&limiter(&base(&[named("a")]))));
    assert_eq!(config["descriptors"][0]["entries"][1], json!({ "key": "team", "value": "a" }));
    let twice = limiter(&base(&[named("a"), named("b"), named("a")]));
    let (reason, message) = ready(&twice);
    assert_eq!(reason, "DuplicateName", "{message}");
    assert!(message.contains("descriptor[2]") && status(&twice, &decide(&twice)).limits == 2, "{message}");
}

#[test]
fn what_is_ours_is_in_the_configuration() {
    let of = |more: &Value| config_of(&decide(&one(more)));
    assert_eq!(of(&json!({ "shadow": true }))["descriptors"][0]["shadow_mode"], true);
    assert_eq!(
        of(&json!({ "rateLimitHeaders": true }))["rate_limits"][0]["x_ratelimit_option"],
        "DRAFT_VERSION_03"
    );
    let headers = json!({ "action": { "headers_to_add": [{ "key": "x-limited", "value": "100%" }] } });
    assert_eq!(
        of(&headers)["response_headers_to_add"][0]["header"],
        json!({ "key": "x-limited", "value": "100%%" })
    );
    assert!(of(&json!({}))["descriptors"][0].get("shadow_mode").is_none());
}

#[test]
fn the_status_tells_the_numbers_and_where_they_are_from() {
    let web = one(&json!({ "action": { "quota": "100/{{._base.pod}}" }, "condition": "{{.v2.pod}} < 5" }));
    let status = status(&web, &decide(&web));
    let action = status.ratelimit_status["_base"].descriptor[0].action.clone().unwrap();
    assert_eq!((&*action.quota, action.fill_interval.unwrap().seconds), ("33", 1));
    assert_eq!(
        serde_json::to_value(&status.metric_status).unwrap(),
        json!({ "_base.pod": "3", "v2.pod": "1" })
    );
    assert_eq!(status.observed_generation, Some(3));
    let plain = one(&json!({}));
    assert!(super::status(&plain, &decide(&plain)).metric_status.is_empty(), "no pod that comes changes it");
}

#[test]
fn a_limiter_needs_pods_to_be_for() {
    let mut graph = mesh();
    graph.apply(Change::ServiceGone(ObjectKey::new("shop", "web")));
    let web = one(&json!({}));
    let gone = decide_with(&web, &[], &graph);
    assert_eq!(status(&web, &gone).conditions[0].reason, "ServiceNotFound");
    let mut own = one(&json!({}));
    own.spec.workload_selector = [("app".to_owned(), "web".to_owned())].into();
    assert_eq!(decide_with(&own, &[], &graph).apply.len(), 1);
}

#[test]
fn the_host_of_a_service_or_a_service_entry_says_which_pods() {
    let entry = |namespace: &str, host: &str, selector: &[(&str, &str)]| {
        Change::ServiceEntry(ServiceEntry {
            key: ObjectKey::new(namespace, host),
            hosts: vec![host.into()],
            selector: labels(selector),
            ..ServiceEntry::default()
        })
    };
    let mut graph = mesh();
    graph.apply(entry("shop", "pay.example.com", &[("app", "pay")]));
    graph.apply(entry("shop", "bare.example.com", &[]));
    graph.apply(entry("other", "far.example.com", &[("app", "far")]));
    let (app, not_found, bare) = (Ok("web"), Err("ServiceNotFound"), Err("ServiceWithoutSelector"));
    for (host, expected) in [
        ("pay.example.com", Ok("pay")),
        ("web", app),
        ("web.shop.svc.cluster.local", app),
        ("", app),
        ("bare.example.com", bare),
        ("far.example.com", not_found),
        ("no.example.com", not_found),
    ] {
        let mut web = one(&json!({}));
        web.spec.host = Some(host.to_owned());
        let plan = decide_with(&web, &[], &graph);
        let selected =
            plan.apply.first().map(|(filter, _)| filter.spec.workload_selector.clone().unwrap().labels);
        let reason = status(&web, &plan).conditions[0].reason.clone();
        let found = selected.as_ref().map(|labels| &*labels["app"]).ok_or(&*reason);
        assert_eq!(found, expected, "{host:?}");
    }
}

#[test]
fn a_limiter_lacks_an_action_or_a_target() {
    let without = |field: &str| {
        let mut descriptor = descriptor(&json!({}));
        descriptor[field] = Value::Null;
        limiter(&base(&[descriptor]))
    };
    assert!(ready(&without("action")).1.contains("action is missing"));
    assert!(ready(&without("target")).1.contains("target is missing"));
    let mut whole = without("target");
    whole.spec.target = Some(serde_json::from_value(json!({ "port": 9080 })).unwrap());
    assert_eq!(ready(&whole).0, "Limiting");
}

/// The limiters that a change concerns.
#[test]
fn a_change_names_the_limiters_for_which_it_matters() {
    let mut graph = mesh();
    let key = ObjectKey::new("shop", "web");
    graph.apply(Change::Limiter(Limiter { key: key.clone(), ..Limiter::default() }));
    graph.apply(Change::EnvoyFilter(ObjectKey::new("shop", "web.shop.ratelimit"), key.clone()));
    let named = |change: Change| graph.limiters_concerned(&change).contains(&key);
    for (what, change, expected) in [
        ("a pod becomes ready", pod("d", "2", true), true),
        ("a ready pod ceases to be", pod("a", "1", false), true),
        ("a pod stays as it is", pod("a", "1", true), false),
        ("a pod that was not ready goes", Change::PodGone(ObjectKey::new("shop", "d")), false),
        ("a ready pod goes", Change::PodGone(ObjectKey::new("shop", "a")), true),
        ("a rule of the Service", rule("web"), true),
        ("a rule that ceases to be of the Service", rule("other"), true),
        ("the Service goes", Change::ServiceGone(key.clone()), true),
        ("another Service goes", Change::ServiceGone(ObjectKey::new("shop", "other")), false),
        ("its EnvoyFilter goes", Change::EnvoyFilterGone(ObjectKey::new("shop", "web.shop.ratelimit")), true),
        ("another EnvoyFilter goes", Change::EnvoyFilterGone(ObjectKey::new("shop", "x")), false),
    ] {
        assert_eq!(named(change), expected, "{what}");
    }
}
