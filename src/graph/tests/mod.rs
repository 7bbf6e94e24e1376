//! What the graph makes of changes: whom they touch, who a caller is, what is known.

mod callers;
mod declared;
mod destination_rules;
mod extensions;
mod external;
mod gateway_routes;
mod history;
mod knowledge;
mod learning;
mod properties;
mod pushes;
mod routes;
mod sharing;
mod strategies;
mod touching;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{
    Caller, CallerPattern, Change, Consent, DefaultExport, ExportTo, Fence, FenceFacts, Graph, Identity,
    Judgement, Known, Labels, Learning, MeshConfig, MeshWide, Namespace, ObjectKey, Observation, Origin, Pod,
    PodSelection, Policy, Proxy, Service, ServiceEntry, Sidecar, Standing, Terms, VirtualService, Want,
    Wanted,
};
use crate::api::{DependencySource, Retention};
use crate::istio::{EgressListener, SidecarSpec, WorkloadSelector};

/// An eighth of the retention of [`graph`].
const LAST_SEEN_PRECISION: SignedDuration = SignedDuration::from_hours(1);
const REVIEWS: &str = "reviews.shop.svc.cluster.local";
const RATINGS: &str = "ratings.shop.svc.cluster.local";
const EXAMPLE: &str = "www.example.com";

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    ObjectKey::new(namespace, name)
}

/// `a=1,b=2`
fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Labels::from(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>())
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, last])
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

fn service(name: &str, selector: &str) -> Change {
    Change::Service(Service { key: key(name), selector: labels(selector), ..Service::default() })
}

fn headless(name: &str) -> Change {
    Change::Service(Service {
        key: key(name),
        selector: labels("app=any"),
        headless: true,
        ..Service::default()
    })
}

fn entry(name: &str, hosts: &[&str]) -> Change {
    let hosts = hosts.iter().map(|h| (*h).into()).collect();
    Change::ServiceEntry(ServiceEntry { key: key(name), hosts, ..ServiceEntry::default() })
}

fn pod(name: &str, ips: &[u8], with: &str) -> Change {
    Change::Pod(Pod {
        key: key(name),
        ips: ips.iter().copied().map(ip).collect(),
        labels: labels(with),
        ..Pod::default()
    })
}

fn want(text: &str) -> Want {
    Want::always(Wanted::parse(text), DependencySource::Spec)
}

fn fence(name: &str, selection: PodSelection, wants: &[&str]) -> Change {
    let wants = wants.iter().map(|text| want(text)).collect();
    Change::Fence(Fence { key: key(name), selection, wants, ..Fence::default() })
}

fn selecting(name: &str, selector: &str) -> Change {
    fence(name, PodSelection::Labels(labels(selector)), &[])
}

fn of_service(name: &str) -> Change {
    fence(name, PodSelection::Service, &[])
}

/// Somebody else's Sidecar, without a selector or with one.
fn virtual_service(name: &str, hosts: &[&str], destinations: &[&str], delegates: &[&str]) -> Change {
    let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
    Change::VirtualService(VirtualService {
        key: key(name),
        hosts: names(hosts),
        destinations: names(destinations),
        delegates: delegates.iter().map(|name| key(name)).collect(),
        callers: Vec::new(),
        ..VirtualService::default()
    })
}

fn foreign(name: &str, selector: Option<&str>, hosts: &[&str]) -> Sidecar {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let spec = SidecarSpec {
        workload_selector: selector.map(|text| WorkloadSelector { labels: labels(text).to_map() }),
        egress: vec![EgressListener { hosts, ..EgressListener::default() }],
        ..SidecarSpec::default()
    };
    let origin = Origin::Other(Arc::new(spec), Consent::Missing);
    Sidecar { key: key(name), created: Some(at(0)), revision: None, origin }
}

/// The Sidecar of the fence of its name, for pods with these labels.
fn own(name: &str, selector: &str, wide: bool) -> Sidecar {
    let origin = Origin::Fence(Standing { wide, selector: labels(selector), ..Standing::default() });
    Sidecar { key: key(name), created: Some(at(0)), revision: None, origin }
}

fn seen(caller: u8, host: &str, minute: i64) -> Observation {
    Observation {
        caller: ip(caller).into(),
        host: host.into(),
        source: DependencySource::AccessLog,
        seen: at(minute),
    }
}

fn call(caller: u8, host: &str, minute: i64) -> Change {
    Change::Call(seen(caller, host, minute))
}

fn knowledge(namespaces: &[&str], first: i64, last: i64) -> Known {
    Known {
        namespaces: namespaces.iter().map(|n| (*n).into()).collect(),
        sources: [DependencySource::AccessLog].into(),
        first_seen: at(first),
        last_seen: at(last),
    }
}

fn graph(changes: impl IntoIterator<Item = Change>) -> Graph {
    let retention = Retention::new(LAST_SEEN_PRECISION * 8);
    let mut graph = Graph::new("cluster.local").with_learning(Learning { retention, ..Learning::default() });
    take(&mut graph, changes);
    graph
}

/// An empty graph of a mesh whose root namespace is `root`.
fn of_root(global_proxy_identity: Option<Identity>) -> Graph {
    Graph::of(MeshWide { root_namespace: "root".into(), global_proxy_identity, ..MeshWide::default() })
}

fn take(graph: &mut Graph, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        graph.apply(change);
    }
}

fn touched(graph: &mut Graph, change: Change) -> Vec<String> {
    graph.apply(change).iter().map(ToString::to_string).collect()
}

/// The fences of the pod at an address; `None` if nobody has it.
fn fences_of(graph: &Graph, caller: u8) -> Option<Vec<String>> {
    graph.workloads().fences_of(&ip(caller).into()).map(|fences| fences.map(ToString::to_string).collect())
}

#[allow(clippy::unnecessary_wraps, reason = "It is compared with what may be none")]
fn in_fences(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn known_hosts(graph: &Graph, fence: &str) -> Vec<String> {
    let facts = graph.fence(&key(fence));
    facts.into_iter().flat_map(|facts| facts.known.keys()).map(ToString::to_string).collect()
}

fn known(graph: &Graph, fence: &str, host: &str) -> Option<Known> {
    graph.fence(&key(fence)).and_then(|facts| facts.known.get(host)).cloned()
}

fn namespaces(graph: &Graph, host: &str) -> Vec<String> {
    graph.registry().namespaces(host).iter().map(ToString::to_string).collect()
}

/// A shop with two services, an external host, and three pods: 1 in one fence, 2 in two, 3 in none.
fn shop() -> Graph {
    graph([
        service("shop/reviews", "app=reviews"),
        service("shop/ratings", "app=ratings"),
        entry("shop/example", &[EXAMPLE]),
        selecting("shop/client", "app=client"),
        selecting("shop/web", "tier=web"),
        pod("shop/client-1", &[1], "app=client"),
        pod("shop/client-2", &[2], "app=client,tier=web"),
        pod("shop/plain", &[3], "app=plain"),
    ])
}
