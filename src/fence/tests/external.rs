//! The entries of external hosts: written while a fence needs them, and gone when the last route has drained.

use serde_json::json;

use super::*;
use crate::fence::{EntryAction, entries};
use crate::graph::{ExternalPolicy, MeshConfig, MeshWide, OwnEntry, PassedThrough, PodSelection, entry_key};

const API: &str = "api.example.org";

fn mesh() -> Graph {
    let external = ExternalPolicy { service_entries: true, ..ExternalPolicy::default() };
    let mut graph = Graph::of(MeshWide { external, ..MeshWide::default() });
    for (name, address) in [("client", 1), ("web", 2)] {
        let labels = Labels::from(BTreeMap::from([("app".to_owned(), name.to_owned())]));
        let selection = PodSelection::Labels(labels.clone());
        graph.apply(Change::Fence(Fence { key: of(name), selection, ..Fence::default() }));
        graph.apply(Change::Pod(Pod { key: of(name), ips: vec![ip(address)], labels, ..Pod::default() }));
    }
    graph
}

fn ip(last: u8) -> std::net::IpAddr {
    [10, 244, 0, last].into()
}

fn of(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn called(graph: &mut Graph, caller: u8, port: u16) {
    let call = PassedThrough { caller: ip(caller).into(), host: API.into(), port };
    graph.apply(Change::PassedThrough(call, Timestamp::UNIX_EPOCH));
}

fn came(graph: &mut Graph, owners: &[&str]) {
    let own =
        OwnEntry { ports: BTreeSet::from([443]), owners: owners.iter().map(|uid| (*uid).into()).collect() };
    graph.apply(Change::ServiceEntry(ServiceEntry {
        key: entry_key("shop", API),
        hosts: vec![API.into()],
        own: Some(own),
        ..ServiceEntry::default()
    }));
}

#[allow(clippy::unnecessary_wraps, reason = "A fence may be gone")]
fn owner(fence: &ObjectKey) -> Option<OwnerReference> {
    Some(OwnerReference {
        uid: format!("uid-{}", fence.name),
        name: fence.name.to_string(),
        ..OwnerReference::default()
    })
}

fn actions(graph: &Graph, listed: bool) -> Vec<EntryAction> {
    entries("shop", graph, owner, |host| listed && host == format!("shop/{API}"))
}

fn delete() -> [EntryAction; 1] {
    [EntryAction::Delete(entry_key("shop", API))]
}

#[test]
fn an_entry_passes_connections_to_where_the_caller_was_going_and_is_owned_by_its_fences() {
    let mut graph = mesh();
    called(&mut graph, 1, 443);
    called(&mut graph, 2, 8443);
    let actions = actions(&graph, false);
    let [EntryAction::Apply(entry)] = &actions[..] else { panic!("{actions:?}") };
    let expected = json!({
        "hosts": [API],
        "exportTo": ["."],
        "location": "MESH_EXTERNAL",
        "resolution": "NONE",
        "ports": [
            { "number": 443, "name": "tls-443", "protocol": "TLS" },
            { "number": 8443, "name": "tls-8443", "protocol": "TLS" },
        ],
    });
    assert_eq!(serde_json::to_value(&entry.spec).unwrap(), expected);
    let owners: Vec<_> = entry.metadata.owner_references.iter().flatten().map(|owner| &*owner.name).collect();
    assert_eq!(owners, ["client", "web"]);
    assert_eq!(entry.metadata.name.as_deref(), Some("palisade-api.example.org"));
}

#[test]
fn an_entry_that_is_as_it_should_be_is_left_alone() {
    let mut graph = mesh();
    called(&mut graph, 1, 443);
    came(&mut graph, &["uid-client"]);
    assert_eq!(actions(&graph, false), []);
    called(&mut graph, 2, 443);
    assert!(matches!(&actions(&graph, false)[..], [EntryAction::Apply(_)]), "it has one more owner");
    came(&mut graph, &["uid-client", "uid-web"]);
    assert_eq!(actions(&graph, true), []);
    came(&mut graph, &["uid-client", "uid-before"]);
    assert!(matches!(&actions(&graph, true)[..], [EntryAction::Apply(_)]), "a fence was made anew");
}

#[test]
fn an_entry_that_nobody_needs_stays_until_no_sidecar_lists_its_host() {
    let mut graph = mesh();
    called(&mut graph, 1, 443);
    came(&mut graph, &["uid-client"]);
    graph.apply(Change::Forget(of("client"), vec![(API.into(), Timestamp::UNIX_EPOCH)]));
    assert_eq!(actions(&graph, true), []);
    assert_eq!(actions(&graph, false), delete());
}

#[test]
fn an_entry_goes_at_once_where_the_mesh_is_closed_or_its_fences_are_gone() {
    let mut graph = mesh();
    called(&mut graph, 1, 443);
    came(&mut graph, &["uid-client"]);
    assert_eq!(entries("shop", &graph, |_| None, |_| false), delete());
    graph.apply(Change::MeshConfig(MeshConfig { registry_only: true, ..MeshConfig::default() }));
    assert_eq!(actions(&graph, true), delete());
}
