//! What callers call by `DestinationRule`s that the global proxy does not go by.

use super::*;
use crate::graph::DestinationRule;

const EGRESS: &str = "egress.mesh.svc.cluster.local";

fn rule(name: &str, host: &str, subset: Option<&str>, own_transport: bool) -> DestinationRule {
    let subsets = subset.map(|name| (name.into(), labels("version=1"))).into_iter().collect();
    DestinationRule {
        key: key(name),
        host: host.into(),
        subsets,
        own_transport,
        ..DestinationRule::default()
    }
}

/// A shop, a client elsewhere, and a `VirtualService` that sends calls of ratings to reviews.
fn shop_and_client() -> Graph {
    graph([
        service("shop/reviews", "app=reviews"),
        service("shop/ratings", "app=ratings"),
        entry("web/example", &[EXAMPLE]),
        virtual_service("shop/ratings", &["ratings"], &["reviews"], &[]),
        selecting("web/client", "app=client"),
        selecting("shop/client", "app=client"),
        selecting("root/client", "app=client"),
    ])
}

fn ruled(graph: &Graph, fence: &str) -> Vec<String> {
    let declared = graph.declared(&key(fence)).into_iter();
    let of_rules = declared.filter(|(_, source)| *source == DependencySource::DestinationRule);
    of_rules.map(|(host, _)| host.to_string()).collect()
}

/// What, the rule, and the hosts that it lists for the clients of web and of shop.
type Case = (&'static str, DestinationRule, Vec<&'static str>, Vec<&'static str>);

fn cases() -> Vec<Case> {
    let subsets = || rule("web/reviews", REVIEWS, Some("v1"), false);
    let hidden = |words: &str| {
        let export_to = ExportTo::parse([words], "shop");
        DestinationRule { export_to, ..rule("shop/reviews", "reviews", Some("v1"), false) }
    };
    let exported = |name: &str, words: &str| {
        let export_to = ExportTo::parse([words], key(name).namespace.as_ref());
        DestinationRule { export_to, ..rule(name, REVIEWS, None, true) }
    };
    let selecting =
        |name: &str, selector: &str| DestinationRule { selector: labels(selector), ..exported(name, ".") };
    let both = vec![RATINGS, REVIEWS];
    vec![
        ("subsets", subsets(), both.clone(), vec![]),
        ("another TLS", rule("web/reviews", REVIEWS, None, true), both.clone(), vec![]),
        ("neither", rule("web/reviews", REVIEWS, None, false), vec![], vec![]),
        ("subsets to which no route leads", rule("web/r", RATINGS, Some("v1"), false), vec![], vec![]),
        ("the host's namespace", rule("shop/reviews", "reviews", Some("v1"), true), vec![], vec![]),
        ("the host's, for itself alone", hidden("."), vec![], both.clone()),
        ("the host's, for the caller", hidden("web"), both.clone(), vec![]),
        ("a third namespace", rule("other/reviews", REVIEWS, Some("v1"), true), vec![], vec![]),
        ("the root namespace", rule("istio-system/r", REVIEWS, Some("v1"), true), vec![], vec![]),
        ("an entry of the same namespace", rule("web/e", EXAMPLE, None, true), vec![], vec![]),
        ("an entry of another", rule("shop/e", EXAMPLE, None, true), vec![], vec![EXAMPLE]),
        ("a host that nobody defines", rule("web/e", "no.such.host", None, true), vec![], vec![]),
        ("a third namespace, for the caller", exported("other/reviews", "web"), vec![], vec![]),
        ("the root namespace, for the caller", exported("istio-system/r", "web"), both.clone(), vec![]),
        ("the caller's, which does not see it", exported("web/reviews", "other"), vec![], vec![]),
        ("the caller's pods", selecting("web/reviews", "app=client"), both.clone(), vec![]),
        ("others of the caller's namespace", selecting("web/reviews", "app=other"), vec![], vec![]),
        (
            "the host's namespace, for some of its pods",
            selecting("shop/reviews", "app=client"),
            vec![],
            both.clone(),
        ),
        ("too many hosts to name", rule("web/all", "*.shop.svc.cluster.local", None, true), vec![], vec![]),
    ]
}

#[test]
fn a_rule_that_only_the_callers_namespace_goes_by_lists_its_host_and_what_is_sent_there() {
    for (what, rule, of_web, of_shop) in cases() {
        let mut graph = shop_and_client();
        let mut touched: BTreeSet<_> =
            touched(&mut graph, Change::DestinationRule(rule.clone())).into_iter().collect();
        assert_eq!(
            (ruled(&graph, "web/client"), ruled(&graph, "shop/client")),
            (strings(&of_web), strings(&of_shop)),
            "{what}"
        );
        let listing = [("web/client", &of_web), ("shop/client", &of_shop)];
        for (fence, hosts) in listing {
            assert!(hosts.is_empty() || touched.remove(fence), "{what} {fence}");
        }
        assert_eq!(
            super::touched(&mut graph, Change::DestinationRule(rule.clone())),
            [""; 0],
            "{what}, again"
        );
        graph.apply(Change::DestinationRuleGone(rule.key));
        assert_eq!(
            (ruled(&graph, "web/client"), ruled(&graph, "shop/client")),
            (vec![], vec![]),
            "{what}, gone"
        );
    }
}

fn strings(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

#[test]
fn a_route_to_a_subset_that_comes_or_goes_names_who_has_the_subset() {
    let mut graph = shop_and_client();
    take(&mut graph, [service("mesh/egress", "app=egress")]);
    take(&mut graph, [Change::DestinationRule(rule("web/egress", EGRESS, Some("v1"), false))]);
    assert_eq!(ruled(&graph, "web/client"), [""; 0]);
    let route = || virtual_service("web/reviews", &[REVIEWS], &[], &["web/egress"]);
    let delegate = || virtual_service("web/egress", &[], &[EGRESS], &[]);
    assert_eq!(touched(&mut graph, route()), [""; 0]);
    assert_eq!(touched(&mut graph, delegate()), ["web/client"]);
    assert_eq!(ruled(&graph, "web/client"), [EGRESS, REVIEWS]);
    assert_eq!(touched(&mut graph, Change::VirtualServiceGone(key("web/egress"))), ["web/client"]);
    assert_eq!(ruled(&graph, "web/client"), [""; 0]);
}

#[test]
fn other_labels_of_a_subset_make_no_difference() {
    let mut graph = shop_and_client();
    let first = rule("web/reviews", REVIEWS, Some("v1"), false);
    take(&mut graph, [Change::DestinationRule(first.clone())]);
    let subsets = vec![("v2".into(), labels("version=2"))];
    assert_eq!(
        touched(&mut graph, Change::DestinationRule(DestinationRule { subsets, ..first.clone() })),
        [""; 0]
    );
    let none = DestinationRule { subsets: Vec::new(), ..first };
    assert_eq!(touched(&mut graph, Change::DestinationRule(none)), ["web/client"]);
}

#[test]
fn who_sees_a_rule_that_does_not_say_the_mesh_configuration_says() {
    let mut graph = shop_and_client();
    take(&mut graph, [Change::DestinationRule(rule("shop/reviews", "reviews", None, true))]);
    assert_eq!(ruled(&graph, "shop/client"), [""; 0]);
    let config = MeshConfig { destination_rules_export: DefaultExport::Own, ..MeshConfig::default() };
    graph.apply(Change::MeshConfig(config));
    assert_eq!(
        (ruled(&graph, "shop/client"), ruled(&graph, "web/client")),
        (strings(&[RATINGS, REVIEWS]), vec![])
    );
    graph.apply(Change::MeshConfig(MeshConfig::default()));
    assert_eq!(ruled(&graph, "shop/client"), [""; 0]);
}
