//! What a change has looked at.

use super::*;

/// The fences that a change in a shop has looked at.
fn looked_at(settings: &AutoFence, change: &Change) -> Vec<String> {
    let others = [
        service("shop/bar", "", "app=bar"),
        pod("shop/batch-1", "run=batch"),
        namespace("other", ""),
        service("other/foo", "", "app=foo"),
        Change::Fence(fence_facts("shop/old")),
    ];
    let world = World::new(settings.clone(), shop().into_iter().chain(others));
    concerned(&world.graph, change, settings).iter().map(ToString::to_string).collect()
}

fn fence_facts(name: &str) -> Fence {
    Fence {
        key: key(name),
        selection: PodSelection::Service,
        wants: Vec::new(),
        known: Vec::new(),
        learning: None,
        terms: Terms::default(),
    }
}

#[test]
fn a_change_has_those_fences_looked_at_for_which_it_may_be_news() {
    let settings = AutoFence { default: true, ..by_label() };
    let none: [&str; 0] = [];
    let in_shop = ["shop/app-batch.workload.identity", "shop/bar", "shop/foo", "shop/old"];
    let cases: [(&str, Change, &[&str]); 15] = [
        ("the same Service", service("shop/foo", "", "app=foo"), &none),
        ("a Service's labels", service("shop/foo", YES, "app=foo"), &["shop/foo"]),
        ("a Service's selector", service("shop/foo", "", "run=batch"), &[WORKLOAD, "shop/foo"]),
        ("a new Service", service("shop/new", "", "app=new"), &[WORKLOAD, "shop/new"]),
        ("a Service goes", Change::ServiceGone(key("shop/bar")), &[WORKLOAD, "shop/bar"]),
        ("the same Namespace", namespace("shop", ""), &none),
        ("a Namespace's labels", namespace("shop", NO), &in_shop),
        ("a Namespace goes", Change::NamespaceGone(ObjectKey::new("", "shop")), &in_shop),
        ("the same pod", pod("shop/foo-1", "app=foo"), &none),
        ("a new pod", pod("shop/foo-2", "app=foo,run=x"), &["shop/app-x.workload.identity", "shop/foo"]),
        ("a pod's labels", pod("shop/batch-1", "app=bar"), &[WORKLOAD, "shop/bar"]),
        ("a pod loses its address", bare("shop/foo-1", "app=foo", Proxy::Sidecar), &["shop/foo"]),
        ("a pod goes", Change::PodGone(key("shop/batch-1")), &[WORKLOAD]),
        ("a fence", Change::Fence(fence_facts("shop/any")), &["shop/any"]),
        ("a fence goes", Change::FenceGone(key("shop/any")), &["shop/any"]),
    ];
    for (what, change, expected) in cases {
        assert_eq!(looked_at(&settings, &change), expected, "{what}");
    }
    let off = AutoFence::default();
    assert!(looked_at(&off, &namespace("shop", NO)).is_empty());
    assert_eq!(looked_at(&off, &Change::Fence(fence_facts("shop/any"))), ["shop/any"], "it may have to go");
}

#[test]
fn after_any_change_what_was_not_looked_at_is_right_as_it_is() {
    let settings = AutoFence { default: true, ..by_label() };
    let changes = || {
        let names = ["shop/foo", "shop/bar"];
        let services = names.iter().flat_map(|name| {
            ["", YES, NO].into_iter().flat_map(move |with| {
                ["", "app=foo", "run=batch"].map(move |selector| service(name, with, selector))
            })
        });
        let pods = ["", "app=foo", "run=batch", "app=foo,run=batch"].map(|with| pod("shop/p", with));
        let bare = ["app=foo", "run=batch"].map(|with| bare("shop/p", with, Proxy::None));
        let rest = [
            namespace("shop", ""),
            namespace("shop", NO),
            Change::NamespaceGone(ObjectKey::new("", "shop")),
            Change::PodGone(key("shop/p")),
            Change::ServiceGone(key("shop/foo")),
        ];
        services.chain(pods).chain(bare).chain(rest).collect::<Vec<_>>()
    };
    let view =
        |world: &World| ["shop/foo", "shop/bar", WORKLOAD].map(|name| format!("{:?}", world.plan(name)));
    for first in changes() {
        for second in changes() {
            let mut world = World::new(settings.clone(), [namespace("shop", ""), pod("shop/q", "run=batch")]);
            world.tell([first.clone()]);
            let before = view(&world);
            let looked_at: BTreeSet<_> = concerned(&world.graph, &second, &settings);
            world.tell([second.clone()]);
            for (name, (before, after)) in
                ["shop/foo", "shop/bar", WORKLOAD].iter().zip(before.iter().zip(view(&world)))
            {
                assert!(
                    *before == after || looked_at.contains(&key(name)),
                    "{name} after {first:?} and {second:?}: {before} {after}"
                );
            }
        }
    }
}
