//! The `ServiceEntry`s of external hosts: which are to be, by the fences that call them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use super::{MANAGED_BY, MANAGER};
use crate::graph::{ExternalHost, Graph, ObjectKey, entry_key};
use crate::istio::{ServiceEntry, ServiceEntrySpec, ServicePort};

/// What to do with an entry of ours.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryAction {
    /// Apply it.
    Apply(Box<ServiceEntry>),
    /// Delete it.
    Delete(ObjectKey),
}

/// What to do with the entries of a namespace. An entry that no fence needs stays as long as a `Sidecar` imports its host
/// (`is_listed`, of `namespace/host`): its clusters must not go before the last route has drained. `owner` refers to a
/// fence; `None` if it is gone.
pub fn entries(
    namespace: &str,
    graph: &Graph,
    owner: impl Fn(&ObjectKey) -> Option<OwnerReference>,
    is_listed: impl Fn(&str) -> bool,
) -> Vec<EntryAction> {
    let hosts = graph.external_hosts(namespace);
    let action = |host: &ExternalHost| {
        let owners: Vec<_> = host.fences.iter().filter_map(&owner).collect();
        let key = entry_key(namespace, &host.host);
        if host.allowed && !owners.is_empty() {
            let action = || EntryAction::Apply(Box::new(build(&key, host, owners.clone())));
            return (!is_up_to_date(host, &owners)).then(action);
        }
        let needed = host.allowed && is_listed(&format!("{namespace}/{}", host.host));
        (host.entry.is_some() && !needed).then_some(EntryAction::Delete(key))
    };
    hosts.iter().filter_map(action).collect()
}

fn is_up_to_date(host: &ExternalHost, owners: &[OwnerReference]) -> bool {
    host.entry.as_ref().is_some_and(|entry| {
        let owned = entry.owners.iter().map(|uid| &**uid).eq(sorted_uids(owners));
        entry.ports == host.ports && owned
    })
}

fn sorted_uids(owners: &[OwnerReference]) -> impl Iterator<Item = &str> {
    let mut uids: Vec<_> = owners.iter().map(|owner| owner.uid.as_str()).collect();
    uids.sort_unstable();
    uids.into_iter()
}

/// With the resolution `NONE` a proxy connects to the very address that the application has resolved: who gives a forged
/// name reaches nothing by it that it would not have reached by the detour.
fn build(key: &ObjectKey, host: &ExternalHost, owners: Vec<OwnerReference>) -> ServiceEntry {
    let port = |port: &u16| ServicePort {
        number: u32::from(*port),
        protocol: "TLS".to_owned(),
        name: format!("tls-{port}"),
    };
    ServiceEntry {
        metadata: ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        },
        spec: ServiceEntrySpec {
            hosts: vec![host.host.to_string()],
            export_to: vec![".".to_owned()],
            ports: host.ports.iter().map(port).collect(),
            location: "MESH_EXTERNAL".to_owned(),
            resolution: "NONE".to_owned(),
            ..ServiceEntrySpec::default()
        },
    }
}
