//! What Istio's mesh configuration means for a fence.

use super::*;
use crate::graph::{DefaultExport, MeshConfig, MeshWide};

/// The fence of `world` and its Sidecar in a mesh of which this much is known.
fn known_again(world: &World, objects: Vec<Change>) -> World {
    let wide = MeshWide { global_proxy_namespace: "mesh".into(), ..MeshWide::default() };
    let mut again = World { graph: Graph::of(wide), ..world.clone() };
    let (ips, labels) = (vec![CALLER.into()], Labels::from(labels("app=client")));
    again.tell([Change::Pod(Pod { key: key("shop/client-1"), ips, labels, ..Pod::default() })]);
    again.tell(objects);
    again.listed();
    again.sidecar_listed();
    again
}

#[test]
fn what_the_mesh_configuration_names_is_in_every_fence_as_soon_as_it_is_there() {
    let host = "zipkin.tracing.svc.cluster.local";
    let naming = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).into()).collect();
        Change::MeshConfig(MeshConfig { hosts, ..MeshConfig::default() })
    };
    let mut world = World::fenced();
    world.tell([naming(&[host])]);
    assert_eq!(world.plan().status.domains[host].sources, [DependencySource::MeshConfig]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"), "no such Service");
    world.tell([service("tracing/zipkin")]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY} tracing/{host}"));
    let mut again = known_again(&world, vec![service("tracing/zipkin")]);
    assert!(again.is_quiet(&again.plan()), "the configuration has not been read since the restart");
    for world in [&mut world, &mut again] {
        world.tell([naming(&[])]);
        world.run();
        assert_eq!(world.hosts(), format!("route: {PROXY}"));
    }
}

#[test]
fn who_sees_what_does_not_say_so_the_mesh_configuration_says() {
    let objects = || vec![service("shop/cart"), service("db/mysql"), entry("shop/e", EXAMPLE)];
    let mut world = known_again(&World::fenced(), objects());
    let own = MeshConfig { services_export: DefaultExport::Own, ..MeshConfig::default() };
    world.tell([Change::MeshConfig(own)]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY} shop/cart.shop.svc.cluster.local shop/{EXAMPLE}"));
    let status = world.fence.status.clone().unwrap();
    assert_eq!(status.domains[EXAMPLE].sources, [DependencySource::Visibility]);
    let again = known_again(&world, objects());
    assert!(again.is_quiet(&again.plan()), "the configuration has not been read since the restart");
    world.tell([Change::MeshConfig(MeshConfig::default())]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"));
}
