//! For tests and benches: a mesh of callers and services, and the log entries of its calls, in Envoy's own full messages.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::core::v3::{
    Address, SocketAddress, address, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties,
};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, LogEntries,
};
use jiff::Timestamp;
use palisade::graph::{
    Change, ExternalPolicy, Fence, Graph, Labels, MeshWide, ObjectKey, Observation, Pod, PodSelection,
    Service, Terms,
};
use palisade::sources::Observer;
use palisade::sources::access_log::Metrics;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// A graph of `callers` pods, each in a fence of its own, and `services` services, with nothing learned.
pub fn graph(callers: u16, services: u16) -> Graph {
    graph_with(ExternalPolicy::default(), callers, services)
}

/// The same, with this policy for external hosts.
pub fn graph_with(external: ExternalPolicy, callers: u16, services: u16) -> Graph {
    let mut graph = Graph::of(MeshWide { external, ..MeshWide::default() });
    for number in 0..services {
        let key = ObjectKey::new("shop", format!("service-{number}"));
        graph.apply(Change::Service(Service { key, ..Service::default() }));
    }
    for number in 0..callers {
        let (key, labels) =
            (fence(number), Labels::from(BTreeMap::from([("app".to_owned(), number.to_string())])));
        let selection = PodSelection::Labels(labels.clone());
        graph.apply(Change::Fence(Fence {
            key: key.clone(),
            selection,
            wants: Vec::new(),
            known: Vec::new(),
            learning: None,
            terms: Terms::default(),
        }));
        graph.apply(Change::Pod(Pod { key, ips: vec![caller(number)], labels, ..Pod::default() }));
    }
    graph
}

/// The fence of a caller.
pub fn fence(number: u16) -> ObjectKey {
    ObjectKey::new("callers", format!("caller-{number}"))
}

/// The address of a caller.
pub fn caller(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 244, high, low).into()
}

/// The host of a service.
pub fn host(number: u16) -> String {
    format!("service-{number}.shop.svc.cluster.local")
}

/// The cluster that istiod makes for a service.
pub fn cluster(number: u16) -> String {
    format!("outbound|9080||{}", host(number))
}

/// The entry of an HTTP call, as long as Envoy's are without extra headers: about 205 bytes.
pub fn entry(caller: &str, cluster: &str) -> HttpAccessLogEntry {
    let common_properties = AccessLogCommon {
        downstream_remote_address: Some(socket(caller, 41_234)),
        downstream_local_address: Some(socket("10.96.14.201", 9080)),
        upstream_remote_address: Some(socket("10.244.3.17", 9080)),
        upstream_cluster: cluster.to_owned(),
        upstream_request_attempt_count: 1,
        ..Default::default()
    };
    let request = HttpRequestProperties {
        request_method: 1,
        scheme: "http".to_owned(),
        authority: "reviews:9080".to_owned(),
        path: "/reviews/1".to_owned(),
        request_id: "c3b6ae35-1f1c-4b0e-9a7d-5e0f6b7a8c9d".to_owned(),
        user_agent: "curl".to_owned(),
        ..Default::default()
    };
    let response = HttpResponseProperties { response_headers_bytes: 128, ..Default::default() };
    HttpAccessLogEntry {
        common_properties: Some(common_properties),
        protocol_version: 2,
        request: Some(request),
        response: Some(response),
    }
}

/// An Envoy socket address.
pub fn socket(address: &str, port: u32) -> Address {
    let socket = SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

/// The entry of a caller's call to a service.
pub fn call(from: u16, to: u16) -> HttpAccessLogEntry {
    entry(&caller(from).to_string(), &cluster(to))
}

/// A message of HTTP entries.
pub fn message(log_entry: Vec<HttpAccessLogEntry>) -> StreamAccessLogsMessage {
    StreamAccessLogsMessage {
        identifier: None,
        log_entries: Some(LogEntries::HttpLogs(HttpAccessLogEntries { log_entry })),
    }
}

/// The owner of a graph, and the source's way to it.
pub struct Owner {
    pub observer: Observer,
    pub metrics: Metrics,
    pub queue: mpsc::Receiver<Vec<Observation>>,
}

impl Owner {
    /// Publishes a graph; `capacity` is the length of the queue.
    pub fn new(graph: Graph, capacity: usize) -> Self {
        let (sender, queue) = mpsc::channel(capacity);
        let observer = Observer::new(Arc::new(ArcSwap::from_pointee(graph)), sender);
        Self { observer, metrics: Metrics::register(&mut Registry::default()), queue }
    }

    /// Learns all that is queued, and publishes the result. Returns what was queued.
    pub fn learn(&mut self) -> Vec<Observation> {
        let mut learned = Vec::new();
        while let Ok(batch) = self.queue.try_recv() {
            learned.extend(batch);
        }
        let mut graph = Graph::clone(&self.observer.graph.load());
        for observation in &learned {
            graph.apply(Change::Call(observation.clone()));
        }
        self.observer.graph.store(Arc::new(graph));
        learned
    }

    /// The hosts that the published graph knows for a caller.
    pub fn known(&self, caller: u16) -> Vec<String> {
        let graph = self.observer.graph.load();
        let facts = graph.fence(&fence(caller)).expect("every caller has a fence");
        facts.known.keys().map(ToString::to_string).collect()
    }
}

/// A time for tests that do not need the clock.
pub fn noon() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a valid time")
}
