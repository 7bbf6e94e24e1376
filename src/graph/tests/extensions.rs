//! What proxies call by themselves, because an `EnvoyFilter` has them do so.

use super::*;
use crate::graph::Extension;

const LIMITS: &str = "limits.mesh.svc.cluster.local";

fn filter(name: &str, selector: &str, hosts: &[&str]) -> Change {
    let hosts = hosts.iter().map(|host| (*host).into()).collect();
    Change::Extension(Extension { key: key(name), selector: labels(selector), hosts })
}

fn extended(graph: &Graph, fence: &str) -> Vec<String> {
    let declared = graph.declared(&key(fence)).into_iter();
    let by_filter = declared.filter(|(_, source)| *source == DependencySource::EnvoyFilter);
    by_filter.map(|(host, _)| host.to_string()).collect()
}

#[test]
fn a_filter_lists_what_it_names_for_the_pods_that_it_is_for() {
    let (client, both) = (vec!["shop/client"], vec!["shop/client", "shop/web"]);
    let cases = [
        ("all of a namespace", filter("shop/f", "", &[LIMITS]), both.clone()),
        ("some of a namespace", filter("shop/f", "app=client", &[LIMITS]), both.clone()),
        ("those that a fence asks for", filter("shop/f", "tier=web", &[LIMITS]), both.clone()),
        ("other pods", filter("shop/f", "app=plain", &[LIMITS]), vec![]),
        ("another namespace", filter("other/f", "", &[LIMITS]), vec![]),
        ("the whole mesh", filter("istio-system/f", "", &[LIMITS]), both),
        ("some of the whole mesh", filter("istio-system/f", "kind=alone", &[LIMITS]), client),
        ("nothing", filter("shop/f", "", &[]), vec![]),
    ];
    for (what, change, fences) in cases {
        let mut graph = shop();
        take(&mut graph, [pod("shop/alone", &[4], "app=client,kind=alone")]);
        // Who shares pods with them is touched too.
        let touched_all =
            |touched: Vec<String>| fences.iter().all(|fence| touched.contains(&(*fence).to_owned()));
        assert!(touched_all(touched(&mut graph, change.clone())), "{what}");
        for fence in ["shop/client", "shop/web"] {
            let expected: &[&str] = if fences.contains(&fence) { &[LIMITS] } else { &[] };
            assert_eq!(extended(&graph, fence), expected, "{what} {fence}");
        }
        assert_eq!(touched(&mut graph, change.clone()), [""; 0], "{what}, again");
        let Change::Extension(Extension { key, .. }) = change else { unreachable!() };
        assert!(touched_all(touched(&mut graph, Change::ExtensionGone(key))), "{what}, gone");
        assert_eq!(extended(&graph, "shop/client"), [""; 0], "{what}, gone");
    }
}

#[test]
fn a_host_that_a_filter_names_is_listed_when_it_comes() {
    let mut graph = shop();
    take(&mut graph, [filter("shop/f", "tier=web", &[LIMITS])]);
    assert_eq!(touched(&mut graph, service("mesh/limits", "app=limits")), ["shop/client", "shop/web"]);
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("mesh/limits"))), ["shop/client", "shop/web"]);
}
