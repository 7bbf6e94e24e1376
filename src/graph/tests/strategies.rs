//! What a mesh may be told, at random.

use super::*;
use crate::graph::{Backend, DestinationRule, Extension, GatewayRoute, RouteKind, Source, VirtualService};

fn some_key() -> impl Strategy<Value = ObjectKey> {
    prop::sample::select(vec!["shop/client", "shop/reviews", "shop/ratings", "other/client"]).prop_map(key)
}

fn some_labels() -> impl Strategy<Value = Labels> {
    prop::sample::select(vec!["", "app=client", "app=client,tier=web", "tier=web"]).prop_map(labels)
}

fn some_wants() -> impl Strategy<Value = Vec<Want>> {
    let texts = [
        REVIEWS,
        EXAMPLE,
        "shop/*",
        "other/*",
        "*.example.com",
        "api.example.com",
        "*.shop.svc.cluster.local",
    ];
    let selectors = ["app=client", "app=client,tier=web", ""];
    let labels = selectors.map(|text| Want::always(Wanted::Labels(labels(text)), DependencySource::Spec));
    let wants: Vec<_> = texts.map(want).into_iter().chain(labels).collect();
    let all = wants.len();
    prop::sample::subsequence(wants, 0..=all)
}

fn some_export() -> impl Strategy<Value = ExportTo> {
    prop::sample::select(vec!["", "*", ".", "~", "shop", "other,palisade-system", "other"])
        .prop_map(|words| ExportTo::parse(words.split(','), "shop"))
}

fn some_service() -> impl Strategy<Value = Service> {
    let external = prop::sample::select(vec![None, None, Some(REVIEWS), Some(EXAMPLE), Some(RATINGS)]);
    (some_key(), some_labels(), some_labels(), any::<bool>(), external, some_export()).prop_map(
        |(key, labels, selector, headless, external, export_to)| {
            let external_name = external.map(Into::into);
            Service { key, labels, selector, headless, external_name, export_to, ..Service::default() }
        },
    )
}

/// What istiod's chart makes for a tag, though perhaps in another namespace.
fn some_tag() -> impl Strategy<Value = Service> {
    let key = prop::sample::select(vec!["root/tag", "root/other-tag", "shop/reviews"]).prop_map(key);
    let labels =
        prop::sample::select(vec!["istio.io/tag=a", "istio.io/tag=b", "istio.io/rev=a"]).prop_map(labels);
    (key, labels).prop_map(|(key, labels)| Service { key, labels, ..Service::default() })
}

fn some_entry() -> impl Strategy<Value = ServiceEntry> {
    let hosts: Vec<Arc<str>> = [REVIEWS, EXAMPLE, "*.example.com"].map(Into::into).into();
    (some_key(), prop::sample::subsequence(hosts, 0..=3), some_export(), any::<bool>()).prop_map(
        |(key, hosts, export_to, resolved)| ServiceEntry {
            key,
            export_to,
            resolved_by_istiod: if resolved { hosts.clone() } else { Vec::new() },
            hosts,
            ..ServiceEntry::default()
        },
    )
}

pub(super) const WORKLOADS: [&str; 2] = ["web", "api"];

/// The addresses of one pod are never those of another here: see the tests of addresses.
fn some_pod() -> impl Strategy<Value = Pod> {
    let proxy = prop::sample::select(vec![Proxy::Sidecar, Proxy::None]);
    let workload = prop::sample::select(WORKLOADS.to_vec()).prop_map(Arc::from);
    let made = (proxy, prop::sample::select(vec![None, Some("a".into())]), any::<bool>(), workload);
    (0u8..4, prop::sample::subsequence(vec![0u8, 1, 2], 0..=2), some_labels(), made).prop_map(
        |(number, ips, labels, (proxy, revision, captures_dns, workload))| {
            let account = if number % 2 == 0 { "client" } else { "other" }.into();
            let namespace = if number == 3 { "other" } else { "shop" };
            let ips = ips.into_iter().map(|i| ip(number * 3 + i)).collect();
            Pod {
                key: ObjectKey::new(namespace, format!("pod-{number}")),
                ips,
                labels,
                account,
                proxy,
                revision,
                captures_dns,
                workload,
                ready: false,
            }
        },
    )
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let callers =
        ["*", "td/ns/shop/*", "td/ns/shop/sa/client", "*/sa/other", "td/ns/palisade/sa/global-proxy"];
    let callers = callers.map(|text| CallerPattern::principal(text).unwrap()).to_vec();
    let key = prop::sample::select(vec!["shop/a", "shop/b", "other/a", "root/a"]).prop_map(key);
    let targets = prop::option::weighted(0.2, Just(vec!["reviews".into()]));
    (key, some_labels(), targets, prop::sample::subsequence(callers, 0..=3))
        .prop_map(|(key, selector, targets, callers)| Policy { key, selector, targets, callers })
}

fn some_route() -> impl Strategy<Value = VirtualService> {
    let hosts: Vec<Arc<str>> =
        ["reviews", RATINGS, "*.example.com", "api.example.com"].map(Into::into).into();
    let namespaces = prop::sample::select(vec![None, Some("shop".into()), Some("other".into())]);
    let callers = (namespaces, some_labels()).prop_map(|(namespace, labels)| Source { namespace, labels });
    let keys = || prop::sample::select(vec!["shop/a", "shop/b", "other/a"]).prop_map(key);
    let destinations = prop::sample::subsequence(hosts.clone(), 0..=2);
    let (hosts, callers) = (prop::sample::subsequence(hosts, 0..=2), prop::collection::vec(callers, 0..2));
    let export = prop::sample::select(vec!["", "*", ".", "other", "~"]);
    (keys(), hosts, callers, prop::collection::vec(keys(), 0..2), export, destinations).prop_map(
        |(key, hosts, callers, delegates, export, destinations)| VirtualService {
            export_to: ExportTo::parse([export], &key.namespace.clone()),
            key,
            hosts,
            destinations,
            delegates,
            callers,
            ..VirtualService::default()
        },
    )
}

fn some_rule() -> impl Strategy<Value = DestinationRule> {
    let key = prop::sample::select(vec!["shop/a", "other/a", "other/b", "root/a"]).prop_map(key);
    let host = prop::sample::select(vec!["reviews", REVIEWS, EXAMPLE, "*.example.com"]).prop_map(Arc::from);
    let subsets = prop::collection::vec(Just(("v1".into(), labels("version=v1"))), 0..=1);
    (key, host, subsets, any::<bool>(), some_labels(), some_export()).prop_map(
        |(key, host, subsets, own_transport, selector, export_to)| DestinationRule {
            key,
            host,
            subsets,
            own_transport,
            selector,
            export_to,
        },
    )
}

fn some_extension() -> impl Strategy<Value = Extension> {
    let key = prop::sample::select(vec!["shop/a", "other/a", "root/a"]).prop_map(key);
    let hosts = [REVIEWS, EXAMPLE, "*.example.com", "no.such.host"].map(Arc::from);
    let hosts = prop::sample::subsequence(hosts.to_vec(), 0..=2);
    (key, some_labels(), hosts).prop_map(|(key, selector, hosts)| Extension { key, selector, hosts })
}

fn some_terms() -> impl Strategy<Value = Terms> {
    let revision = prop::sample::select(vec![None, Some(Arc::from("a")), Some(Arc::from("b"))]);
    (0i64..3, any::<bool>(), revision).prop_map(|(created, enabled, revision)| Terms {
        created: Some(at(created)),
        enabled,
        revision,
        ..Terms::default()
    })
}

fn some_sidecar() -> impl Strategy<Value = Sidecar> {
    let name =
        prop::sample::select(vec!["shop/client", "shop/default", "other/default", "istio-system/default"]);
    let hosts =
        vec!["*/*", "./*", "shop/*", "~/*", "*/www.example.com", "shop/reviews.shop.svc.cluster.local"];
    let selector = prop::sample::select(vec![None, Some(""), Some("app=client"), Some("tier=web")]);
    let foreign = (name.clone(), selector, prop::sample::subsequence(hosts, 0..=3), 0i64..2).prop_map(
        |(name, selector, hosts, created)| Sidecar {
            created: Some(at(created)),
            ..foreign(name, selector, &hosts)
        },
    );
    let standing = prop::sample::select(vec!["", "app=client", "tier=web"]);
    let own = (name, standing, any::<bool>()).prop_map(|(name, selector, wide)| own(name, selector, wide));
    let label = prop::sample::select(vec![None, None, Some(Arc::from("a"))]);
    (prop_oneof![foreign, own], label, any::<bool>()).prop_map(|(sidecar, revision, ours)| {
        let origin = match sidecar.origin {
            Origin::Fence(standing) => Origin::Fence(Standing {
                revision: revision.clone(),
                labelled: ours && revision.is_some(),
                ..standing
            }),
            other @ Origin::Other(..) => other,
        };
        Sidecar { revision, origin, ..sidecar }
    })
}

fn some_mesh_config() -> impl Strategy<Value = MeshConfig> {
    let export =
        || prop::sample::select(vec![DefaultExport::Everyone, DefaultExport::Own, DefaultExport::Nobody]);
    let hosts = [REVIEWS, RATINGS, "*.example.com", "api.example.com"];
    let hosts = prop::sample::subsequence(hosts.to_vec(), 0..=2);
    (hosts, any::<bool>(), export(), export(), export()).prop_map(
        |(hosts, registry_only, services_export, virtual_services_export, destination_rules_export)| {
            MeshConfig {
                hosts: hosts.into_iter().map(Into::into).collect(),
                registry_only,
                services_export,
                virtual_services_export,
                destination_rules_export,
            }
        },
    )
}

fn some_gateway_route() -> impl Strategy<Value = GatewayRoute> {
    let parents = prop::sample::subsequence(vec!["shop/reviews", "shop/ratings", "other/client"], 0..=2);
    let names = prop::sample::select(vec!["shop/web", "other/web"]);
    (names, parents).prop_map(|(name, parents)| GatewayRoute {
        kind: RouteKind::Http,
        key: key(name),
        parents: parents.into_iter().map(key).collect(),
        backends: vec![Backend::Service(key("shop/ratings"))],
    })
}

/// Any change of the shop and its neighbour.
pub(super) fn some_change() -> impl Strategy<Value = Change> {
    let selection = prop_oneof![
        Just(PodSelection::Service),
        Just(PodSelection::ServiceOrLabel),
        some_labels().prop_map(PodSelection::Labels),
    ];
    prop_oneof![
        4 => some_service().prop_map(Change::Service),
        1 => some_key().prop_map(Change::ServiceGone),
        2 => some_tag().prop_map(Change::Service),
        1 => some_tag().prop_map(|tag| Change::ServiceGone(tag.key)),
        2 => some_entry().prop_map(Change::ServiceEntry),
        1 => some_key().prop_map(Change::ServiceEntryGone),
        4 => some_pod().prop_map(Change::Pod),
        1 => some_pod().prop_map(|pod| Change::PodGone(pod.key)),
        4 => (some_key(), selection, some_wants(), some_terms()).prop_map(|(key, selection, wants, terms)| {
            let known = vec![(REVIEWS.into(), knowledge(&["shop"], 0, 0))];
            Change::Fence(Fence { key, selection, wants, known, learning: None, terms })
        }),
        3 => some_sidecar().prop_map(Change::Sidecar),
        1 => some_sidecar().prop_map(|sidecar| Change::SidecarGone(sidecar.key)),
        1 => some_key().prop_map(Change::FenceGone),
        2 => some_labels().prop_map(|labels| Change::Namespace(Namespace { name: "shop".into(), labels })),
        1 => Just(Change::NamespaceGone(ObjectKey::new("", "shop"))),
        3 => some_policy().prop_map(Change::Policy),
        2 => some_route().prop_map(Change::VirtualService),
        1 => some_route().prop_map(|route| Change::VirtualServiceGone(route.key)),
        2 => some_rule().prop_map(Change::DestinationRule),
        1 => some_rule().prop_map(|rule| Change::DestinationRuleGone(rule.key)),
        2 => some_extension().prop_map(Change::Extension),
        1 => some_extension().prop_map(|extension| Change::ExtensionGone(extension.key)),
        1 => some_mesh_config().prop_map(Change::MeshConfig),
        2 => some_gateway_route().prop_map(Change::GatewayRoute),
        1 => some_gateway_route().prop_map(|route| Change::GatewayRouteGone(route.kind, route.key)),
        1 => some_policy().prop_map(|policy| Change::PolicyGone(policy.key)),
    ]
}
