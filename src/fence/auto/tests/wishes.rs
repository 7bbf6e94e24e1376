//! What is fenced by itself.

use super::*;

#[test]
fn a_service_is_fenced_by_its_label_then_its_namespaces_then_the_default() {
    let cases = [
        (YES, NO, false, true),
        (YES, "", false, true),
        (NO, YES, true, false),
        (NO, "", true, false),
        ("", YES, false, true),
        ("", NO, true, false),
        ("", "", true, true),
        ("", "", false, false),
        ("slime.io/serviceFenced=yes", "", false, false),
        ("slime.io/serviceFenced=yes", YES, false, true),
    ];
    for (own, namespaces, default, expected) in cases {
        let settings = AutoFence { default, ..on() };
        let (service, pod) = (service("shop/foo", own, "app=foo"), pod("shop/foo-1", "app=foo"));
        let mut world = World::new(settings, [namespace("shop", namespaces), service, pod]);
        let expected = if expected { "apply" } else { "" };
        assert_eq!(world.step("shop/foo"), expected, "{own:?} {namespaces:?} {default}");
    }
}

#[test]
fn labels_that_change_take_fences_away_and_bring_them_back() {
    let mut world = World::fenced();
    world.tell([namespace("shop", NO)]);
    assert_eq!(world.step("shop/foo"), "release delete");
    world.tell([service("shop/foo", YES, "app=foo")]);
    assert_eq!(world.step("shop/foo"), "apply");
    world.tell([service("shop/foo", "", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "release delete");
    world.tell([namespace("shop", "")]);
    assert_eq!(world.step("shop/foo"), "apply");
    assert_eq!(world.step("shop/foo"), "", "nothing is left to do");
}

#[test]
fn a_namespace_is_in_scope_by_lists_and_selectors() {
    let cases = [
        ("no list", json!({}), "", true),
        ("allowed", json!({ "namespaces": { "allow": ["shop"] } }), "", true),
        ("only others are allowed", json!({ "namespaces": { "allow": ["shop-2", "sho"] } }), "", false),
        ("denied", json!({ "namespaces": { "deny": ["shop"] } }), "", false),
        ("both", json!({ "namespaces": { "allow": ["shop"], "deny": ["shop"] } }), "", false),
        ("selected", json!({ "managementSelectors": [{ "matchLabels": { "team": "a" } }] }), "team=a", true),
        (
            "not selected",
            json!({ "managementSelectors": [{ "matchLabels": { "team": "a" } }] }),
            "team=b",
            false,
        ),
        (
            "selected by one of two",
            json!({ "managementSelectors": [
                { "matchLabels": { "team": "a" } },
                { "matchExpressions": [{ "key": "team", "operator": "In", "values": ["b", "c"] }] },
            ] }),
            "team=b",
            true,
        ),
    ];
    for (what, mut json, labels, expected) in cases {
        json["enabled"] = json!(true);
        json["default"] = json!(true);
        let [_, service, pod] = shop();
        let mut world = World::new(settings(json), [namespace("shop", labels), service, pod]);
        assert_eq!(world.step("shop/foo"), if expected { "apply" } else { "" }, "{what}");
    }
}

#[test]
fn settings_that_would_be_misread_are_refused() {
    let refused = [
        json!({ "managementSelectors": [{}] }),
        json!({ "managementSelectors": [{ "matchLabel": { "a": "b" } }] }),
        json!({ "managementSelectors": [{ "matchExpressions": [{ "key": "a", "operator": "Is" }] }] }),
        json!({ "workloadLabel": ":app" }),
        json!({ "workloadLabel": "app:My_App" }),
        json!({ "defaultFence": true }),
        json!({ "namespaces": { "white": [] } }),
    ];
    for json in refused {
        assert!(serde_json::from_value::<AutoFence>(json.clone()).is_err(), "{json}");
    }
    let read = settings(json!({ "workloadLabel": "", "revision": "" }));
    assert_eq!(read, AutoFence::default(), "the chart says none with an empty text");
    let label = settings(json!({ "workloadLabel": "run:job" })).workload_label.unwrap();
    assert_eq!((&*label.key, &*label.alias), ("run", "job"));
}

#[test]
fn what_no_sidecar_can_configure_is_not_fenced_by_itself() {
    let cases = [
        ("no pod", None),
        ("no sidecar", Some(Proxy::None)),
        ("a gateway", Some(Proxy::Gateway)),
        ("a waypoint", Some(Proxy::Waypoint)),
        ("the host's network", Some(Proxy::HostNetwork)),
    ];
    for (what, proxy) in cases {
        let [namespace, service, _] = shop();
        let mut world = World::new(on(), [namespace, service]);
        world.tell(proxy.map(|proxy| bare("shop/foo-1", "app=foo", proxy)));
        assert_eq!(world.step("shop/foo"), "", "{what}");
        world.tell([pod("shop/foo-2", "app=foo")]);
        assert_eq!(world.step("shop/foo"), "apply", "{what}: then a pod with a sidecar comes");
        world.tell([Change::PodGone(key("shop/foo-2"))]);
        assert_eq!(world.step("shop/foo"), "", "{what}: and its fence survives it");
    }
    let without_selector = service("shop/foo", YES, "");
    let mut world = World::new(on(), [namespace("shop", ""), without_selector, pod("shop/foo-1", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "", "a Service without a selector");
    let system = [namespace("kube-system", YES), service("kube-system/dns", YES, "app=dns")];
    let mut world = World::new(on(), system.into_iter().chain([pod("kube-system/dns-1", "app=dns")]));
    assert_eq!(world.step("kube-system/dns"), "", "a system namespace");
}
