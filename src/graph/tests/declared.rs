//! What policies declare, and whom that touches.

use super::*;
use crate::graph::{Audience, Source};

const VAULT: &str = "vault.bank.svc.cluster.local";

fn mesh(changes: impl IntoIterator<Item = Change>) -> Graph {
    let proxy = Identity { namespace: "palisade".into(), account: "global-proxy".into() };
    let mut graph = of_root(Some(proxy));
    take(&mut graph, changes);
    graph
}

fn policy(name: &str, selector: &str, principals: &[&str]) -> Change {
    let callers = principals.iter().map(|text| CallerPattern::principal(text).unwrap()).collect();
    Change::Policy(Policy { key: key(name), selector: labels(selector), targets: None, callers })
}

fn running(name: &str, account: &str, with: &str) -> Change {
    let account = account.into();
    Change::Pod(Pod { key: key(name), labels: labels(with), account, ..Pod::default() })
}

fn declared(graph: &Graph, fence: &str) -> Vec<String> {
    let declared = graph.declared(&key(fence)).into_iter();
    declared
        .inspect(|(_, source)| assert_eq!(*source, DependencySource::Policy))
        .map(|(h, _)| h.to_string())
        .collect()
}

/// A bank with two services, and a shop whose client runs as `client` and whose web runs as `web`.
fn bank() -> Graph {
    mesh([
        service("bank/vault", "app=vault"),
        service("bank/desk", "app=desk"),
        service("shop/cart", "app=cart"),
        selecting("shop/client", "app=client"),
        selecting("shop/web", "app=web"),
        running("shop/client-1", "client", "app=client"),
        running("shop/web-1", "web", "app=web"),
    ])
}

#[test]
fn a_policy_lists_what_it_is_about_for_whom_it_names() {
    let desk = "desk.bank.svc.cluster.local";
    let cart = "cart.shop.svc.cluster.local";
    let client = "td/ns/shop/sa/client";
    let cases = [
        ("a workload and a caller", policy("bank/p", "app=vault", &[client]), vec![VAULT], vec![]),
        ("a whole namespace", policy("bank/p", "", &[client]), vec![desk, VAULT], vec![]),
        (
            "all callers of a namespace",
            policy("bank/p", "app=vault", &["td/ns/shop/*"]),
            vec![VAULT],
            vec![VAULT],
        ),
        ("everybody", policy("bank/p", "app=vault", &["*"]), vec![], vec![]),
        ("nobody", policy("bank/p", "app=vault", &[]), vec![], vec![]),
        ("the global proxy too", policy("bank/p", "app=vault", &["td/ns/*"]), vec![], vec![]),
        ("the whole mesh", policy("root/p", "", &[client]), vec![cart, desk, VAULT], vec![]),
        ("workloads of the whole mesh", policy("root/p", "app=vault", &[client]), vec![VAULT], vec![]),
        ("no workload", policy("bank/p", "app=safe", &[client]), vec![], vec![]),
        ("another namespace", policy("shop/p", "app=vault", &[client]), vec![], vec![]),
    ];
    for (what, change, of_client, of_web) in cases {
        let mut graph = bank();
        graph.apply(change);
        assert_eq!(
            (declared(&graph, "shop/client"), declared(&graph, "shop/web")),
            (
                of_client.iter().map(ToString::to_string).collect(),
                of_web.iter().map(ToString::to_string).collect()
            ),
            "{what}"
        );
        let guarded =
            [VAULT, desk, cart].into_iter().filter(|host| graph.is_guarded(host)).collect::<Vec<_>>();
        let named: BTreeSet<_> = of_client.iter().chain(&of_web).copied().collect();
        assert_eq!(guarded.into_iter().collect::<BTreeSet<_>>(), named, "{what}");
    }
}

#[test]
fn a_policy_on_a_service_is_about_that_service() {
    let mut graph = bank();
    let callers = vec![CallerPattern::account("bank", "shop/client")];
    let targets = Some(vec!["vault".into()]);
    graph.apply(Change::Policy(Policy {
        key: key("bank/p"),
        selector: labels(""),
        targets,
        callers: callers.clone(),
    }));
    assert_eq!(declared(&graph, "shop/client"), [VAULT]);
    let gateway = Policy { key: key("bank/p"), selector: labels(""), targets: Some(Vec::new()), callers };
    graph.apply(Change::Policy(gateway));
    assert!(declared(&graph, "shop/client").is_empty(), "attached to a gateway");
}

#[test]
fn pods_tell_whether_a_policy_with_other_labels_is_about_a_service() {
    let mut graph = bank();
    graph.apply(policy("bank/p", "tier=db", &["td/ns/shop/sa/client"]));
    assert!(declared(&graph, "shop/client").is_empty(), "no pod has both");
    assert!(touched(&mut graph, running("bank/desk-1", "desk", "app=desk")).is_empty());
    assert_eq!(touched(&mut graph, running("bank/vault-1", "vault", "app=vault,tier=db")), ["shop/client"]);
    assert_eq!(declared(&graph, "shop/client"), [VAULT]);
    assert_eq!(touched(&mut graph, Change::PodGone(key("bank/vault-1"))), ["shop/client"]);
    assert!(declared(&graph, "shop/client").is_empty());
}

#[test]
fn what_is_declared_leaves_with_what_declares_it() {
    let mut graph = bank();
    assert_eq!(
        touched(&mut graph, policy("bank/p", "app=vault", &["td/ns/shop/sa/client"])),
        ["shop/client"]
    );
    assert!(
        touched(&mut graph, policy("bank/p", "app=vault", &["td/ns/shop/sa/client"])).is_empty(),
        "again"
    );
    assert_eq!(
        touched(&mut graph, policy("bank/p", "app=vault", &["td/ns/shop/sa/web"])),
        ["shop/client", "shop/web"],
        "another caller"
    );
    assert_eq!((declared(&graph, "shop/client").len(), declared(&graph, "shop/web").len()), (0, 1));
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("bank/vault"))), ["shop/web"]);
    assert!(declared(&graph, "shop/web").is_empty());
    assert_eq!(touched(&mut graph, service("bank/vault", "app=vault")), ["shop/web"]);
    assert_eq!(touched(&mut graph, Change::PolicyGone(key("bank/p"))), ["shop/web"]);
    assert!(declared(&graph, "shop/web").is_empty() && graph.policy_keys().next().is_none());
}

#[test]
fn a_fence_is_what_its_pods_are() {
    let mut graph = bank();
    graph.apply(policy("bank/p", "app=vault", &["td/ns/shop/sa/robot"]));
    assert!(declared(&graph, "shop/client").is_empty());
    assert_eq!(touched(&mut graph, running("shop/client-2", "robot", "app=client")), ["shop/client"]);
    assert_eq!(declared(&graph, "shop/client"), [VAULT]);
    assert_eq!(touched(&mut graph, running("shop/client-2", "client", "app=client")), ["shop/client"]);
    assert!(declared(&graph, "shop/client").is_empty(), "its account is another");
}

/// A `VirtualService` of the vault that has a route for particular callers.
fn route(name: &str, namespace: Option<&str>, with: &str) -> Change {
    let callers = vec![Source { namespace: namespace.map(Into::into), labels: labels(with) }];
    let hosts = vec!["vault".into()];
    Change::VirtualService(VirtualService { key: key(name), hosts, callers, ..VirtualService::default() })
}

#[test]
fn a_route_for_a_caller_lists_its_host_for_that_caller() {
    for (namespace, with, named) in [
        (None, "app=client", &["shop/client"][..]),
        (Some("shop"), "", &["shop/client", "shop/web"]),
        (Some("shop"), "app=web", &["shop/web"]),
        (Some("bank"), "app=web", &[]),
        (None, "app=nobody", &[]),
    ] {
        let mut graph = bank();
        let change = route("bank/vault", namespace, with);
        assert_eq!(touched(&mut graph, change.clone()), named, "{namespace:?} {with}");
        for fence in ["shop/client", "shop/web"] {
            let expected: BTreeSet<(Arc<str>, _)> = named
                .iter()
                .filter(|n| **n == fence)
                .map(|_| (VAULT.into(), DependencySource::VirtualService))
                .collect();
            assert_eq!(graph.declared(&key(fence)), expected, "{namespace:?} {with}");
        }
        assert!(touched(&mut graph, change).is_empty(), "listed again");
        assert_eq!(touched(&mut graph, Change::VirtualServiceGone(key("bank/vault"))), named);
        assert!(graph.declared(&key("shop/client")).is_empty());
    }
}

#[test]
fn a_delegates_route_for_a_caller_lists_the_host_of_its_root() {
    let mut graph = bank();
    let (callers, delegates) =
        (vec![Source { namespace: None, labels: labels("app=client") }], vec![key("bank/part")]);
    let part = VirtualService { key: key("bank/part"), callers, ..VirtualService::default() };
    graph.apply(Change::VirtualService(part));
    assert!(graph.declared(&key("shop/client")).is_empty(), "nobody delegates to it");
    let root = VirtualService {
        key: key("bank/root"),
        hosts: vec![VAULT.into()],
        delegates,
        ..VirtualService::default()
    };
    assert_eq!(touched(&mut graph, Change::VirtualService(root)), ["shop/client"]);
    assert_eq!(graph.declared(&key("shop/client")).len(), 1);
    assert_eq!(touched(&mut graph, Change::VirtualServiceGone(key("bank/part"))), ["shop/client"]);
    assert!(graph.declared(&key("shop/client")).is_empty());
}

#[test]
fn a_route_that_the_global_proxy_does_not_see_is_listed_for_those_who_see_it() {
    let route = |words: &str, gateways_only| {
        Change::VirtualService(VirtualService {
            key: key("bank/vault"),
            hosts: vec!["vault".into()],
            export_to: ExportTo::parse(words.split(','), "bank"),
            audience: if gateways_only { Audience::Gateways } else { Audience::Mesh },
            ..VirtualService::default()
        })
    };
    let listed = |graph: &Graph, fence: &str| {
        graph.declared(&key(fence)).into_iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>()
    };
    let mut graph = bank();
    take(&mut graph, [selecting("bank/desk", "app=desk"), running("bank/desk-1", "desk", "app=desk")]);
    for (words, gateways_only, in_shop, in_bank) in [
        ("shop", false, true, false),
        (".", false, false, true),
        ("shop", true, false, false),
        ("*", false, false, false),
        ("shop,palisade-system", false, false, false),
        ("", false, false, false),
    ] {
        graph.apply(route(words, gateways_only));
        let listed = [listed(&graph, "shop/client") == [VAULT], listed(&graph, "bank/desk") == [VAULT]];
        assert_eq!(listed, [in_shop, in_bank], "{words} {gateways_only}");
    }
    let own = MeshConfig { virtual_services_export: DefaultExport::Own, ..MeshConfig::default() };
    let touched = touched(&mut graph, Change::MeshConfig(own));
    assert!(touched.contains(&"bank/desk".to_owned()), "{touched:?}");
    assert_eq!(listed(&graph, "bank/desk"), [VAULT], "it says nothing itself");
    graph.apply(Change::MeshConfig(MeshConfig::default()));
    assert_eq!(listed(&graph, "bank/desk"), [""; 0]);
}

#[test]
fn a_host_whose_calls_are_sent_to_what_a_policy_guards_is_listed_with_it() {
    let mut graph = bank();
    graph.apply(policy("bank/p", "app=vault", &["td/ns/shop/sa/client"]));
    let client = BTreeSet::from([key("shop/client")]);
    let cart = "cart.shop.svc.cluster.local";
    assert_eq!(graph.apply(virtual_service("shop/cart", &["cart"], &[VAULT], &[])), client);
    assert_eq!(declared(&graph, "shop/client"), [cart, VAULT]);
    assert_eq!(declared(&graph, "shop/web"), [""; 0]);
    assert_eq!(graph.apply(Change::VirtualServiceGone(key("shop/cart"))), client);
    assert_eq!(declared(&graph, "shop/client"), [VAULT]);
    graph.apply(virtual_service("bank/part", &[], &[VAULT], &[]));
    assert_eq!(graph.apply(virtual_service("shop/cart", &["cart"], &[], &["bank/part"])), client);
    assert_eq!(declared(&graph, "shop/client"), [cart, VAULT]);
    graph.apply(virtual_service("shop/none", &["nobody.example.org"], &[VAULT], &[]));
    assert_eq!(declared(&graph, "shop/client"), [cart, VAULT], "it is not there");
}
