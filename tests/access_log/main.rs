//! The access log source, from Envoy's full messages to what the graph knows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "Clippy's own exception misses what test functions call"
)]

mod mesh;
mod properties;
mod server;
mod sidecars;

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{Address, Pipe, address};
use envoy_types::pb::envoy::data::accesslog::v3::{
    ConnectionProperties, HttpAccessLogEntry, TcpAccessLogEntry,
};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    LogEntries, TcpAccessLogEntries,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use jiff::{SignedDuration, Timestamp};
use palisade::graph::{
    CallerPattern, Change, ExternalPolicy, Graph, Judgement, Labels, Learning, ObjectKey, PassedThrough,
    Policy,
};
use palisade::sources::Unusable;
use palisade::sources::access_log::{Ingest, Message, Metrics, Unreadable, limits};
use prometheus_client::registry::Registry;
use prost::Message as _;

use mesh::{Owner, call, caller, cluster, entry, graph, host, message, noon};

/// Reads a message as Envoy would send it.
fn read(owner: &Owner, message: &StreamAccessLogsMessage, now: Timestamp) {
    let message = Message::decode(Bytes::from(message.encode_to_vec())).expect("a valid message");
    ingest(owner).message(message, now).expect("a valid list");
}

fn ingest(owner: &Owner) -> Ingest {
    Ingest::new(owner.observer.clone(), owner.metrics.clone())
}

#[test]
fn a_call_is_news_once() {
    let mut owner = Owner::new(graph(2, 2), 8);
    read(&owner, &message(vec![call(0, 1), call(0, 1), call(0, 1)]), noon());
    assert_eq!(owner.learn().len(), 1);
    read(&owner, &message(vec![call(0, 1)]), noon());
    assert_eq!(owner.learn(), []);
    assert_eq!((owner.known(0), owner.known(1)), (vec![host(1)], vec![]));
    assert_eq!(owner.metrics.entries(Judgement::New), 3);
    assert_eq!(owner.metrics.entries(Judgement::Known), 1);
}

#[test]
fn a_call_that_was_not_seen_for_a_while_is_handed_on_again() {
    let mut owner = Owner::new(graph(1, 1), 8);
    read(&owner, &message(vec![call(0, 0)]), noon());
    owner.learn();
    read(
        &owner,
        &message(vec![call(0, 0)]),
        noon() + Learning::default().precision() - SignedDuration::from_secs(1),
    );
    assert_eq!(owner.learn(), []);
    read(&owner, &message(vec![call(0, 0)]), noon() + Learning::default().precision());
    assert_eq!(owner.learn().len(), 1);
    assert_eq!(owner.metrics.entries(Judgement::Stale), 1);
}

#[test]
fn tcp_entries_teach_as_http_entries_do() {
    let mut owner = Owner::new(graph(1, 1), 8);
    let log_entry = vec![TcpAccessLogEntry {
        common_properties: call(0, 0).common_properties,
        connection_properties: None,
    }];
    let log_entries = Some(LogEntries::TcpLogs(TcpAccessLogEntries { log_entry }));
    read(&owner, &StreamAccessLogsMessage { identifier: None, log_entries }, noon());
    owner.learn();
    assert_eq!(owner.known(0), [host(0)]);
}

/// The entry of a connection that was passed through, for a TLS server name if there was one.
fn passed(from: u16, name: Option<&str>) -> TcpAccessLogEntry {
    let mut common = entry(&caller(from).to_string(), "PassthroughCluster").common_properties.unwrap();
    common.custom_tags =
        name.map(|name| ("palisade.server_name".to_owned(), name.to_owned())).into_iter().collect();
    common.downstream_local_address = Some(mesh::socket("203.0.113.7", 443));
    TcpAccessLogEntry { common_properties: Some(common), connection_properties: None }
}

fn tcp(log_entry: Vec<TcpAccessLogEntry>) -> StreamAccessLogsMessage {
    let log_entries = Some(LogEntries::TcpLogs(TcpAccessLogEntries { log_entry }));
    StreamAccessLogsMessage { identifier: None, log_entries }
}

#[test]
fn a_connection_that_was_passed_through_is_handed_on_by_its_server_name() {
    let external = ExternalPolicy { service_entries: true, ..ExternalPolicy::default() };
    let mut owner = Owner::new(mesh::graph_with(external, 1, 1), 8);
    let (queue, mut passed_through) = tokio::sync::mpsc::channel(2);
    owner.observer.passed_through = Some(queue);
    let names = [Some("API.example.org"), Some("api.example.org"), Some("10.0.0.1"), Some("no name"), None];
    read(&owner, &tcp(names.into_iter().map(|name| passed(0, name)).collect()), noon());
    let expected = PassedThrough { caller: caller(0).into(), host: "api.example.org".into(), port: 443 };
    assert_eq!(passed_through.try_recv().ok(), Some(expected));
    assert!(passed_through.try_recv().is_err());
    assert_eq!((owner.metrics.entries(Judgement::New), owner.metrics.entries(Unusable::NotOutbound)), (2, 3));
    assert!(owner.learn().is_empty(), "a host is learned when its entry has come");
    read(&owner, &tcp((0..5).map(|n| passed(0, Some(&format!("{n}.example.org")))).collect()), noon());
    assert_eq!(owner.metrics.dropped(), 3, "what does not fit is dropped");
}

#[test]
fn a_connection_that_was_passed_through_teaches_nothing_unless_it_is_asked_for() {
    let mut owner = Owner::new(graph(1, 1), 8);
    read(&owner, &tcp(vec![passed(0, Some("api.example.org"))]), noon());
    assert_eq!(owner.metrics.entries(Unusable::NotOutbound), 1);
    assert!(owner.learn().is_empty());
}

#[test]
fn a_call_that_the_global_proxy_dispatched_teaches_nothing() {
    let mut owner = Owner::new(graph(1, 1), 8);
    let mut dispatched = call(0, 0);
    dispatched.common_properties.as_mut().unwrap().route_name = "palisade-dispatch/mail".to_owned();
    read(&owner, &message(vec![dispatched]), noon());
    assert_eq!(owner.metrics.entries(Unusable::Dispatched), 1);
    assert!(owner.learn().is_empty());
}

/// Entries of the kinds that crash Slime, freeze a fence or make it import a namespace; none teaches anything.
fn rotten() -> Vec<HttpAccessLogEntry> {
    let at = caller(0).to_string();
    let hosts =
        ["*", "foo_bar.example.com", "a.*.com", "", "-a-.com", "10.0.0.1", "a\0.com", "UPPER.example.com"];
    let mut entries: Vec<_> = hosts.iter().map(|host| entry(&at, &format!("outbound|80||{host}"))).collect();
    let huge = "a".repeat(1 << 20);
    entries.extend(vec![
        entry(&at, &format!("outbound|80||{huge}")),
        entry(&huge, &cluster(0)),
        entry(&at, "PassthroughCluster"),
        entry("not an address", &cluster(0)),
        entry(&at, "outbound|80||nobody.example.com"),
        entry("192.0.2.1", &cluster(0)),
        HttpAccessLogEntry { common_properties: None, ..call(0, 0) },
        with_caller(None),
        with_caller(Some(Address {
            address: Some(address::Address::Pipe(Pipe { path: "/tmp/pipe".to_owned(), mode: 0 })),
        })),
    ]);
    entries
}

fn with_caller(address: Option<Address>) -> HttpAccessLogEntry {
    let mut entry = call(0, 0);
    if let Some(common) = &mut entry.common_properties {
        common.downstream_remote_address = address;
    }
    entry
}

#[test]
fn a_rotten_entry_spoils_no_other() {
    for rotten in rotten() {
        let mut owner = Owner::new(graph(1, 2), 8);
        read(&owner, &message(vec![call(0, 0), rotten, call(0, 1)]), noon());
        owner.learn();
        assert_eq!(owner.known(0), [host(0), host(1)]);
    }
}

#[test]
fn garbage_in_the_authority_is_ignored() {
    let mut owner = Owner::new(graph(1, 1), 8);
    let mut entry = call(0, 0);
    if let Some(request) = &mut entry.request {
        request.authority = "*".repeat(1 << 20);
    }
    read(&owner, &message(vec![entry]), noon());
    owner.learn();
    assert_eq!(owner.known(0), [host(0)]);
}

#[test]
fn entries_of_unknown_callers_and_hosts_are_counted_and_leave_nothing() {
    let mut owner = Owner::new(graph(1, 1), 8);
    let strangers = (0..2_000_u16).map(|number| call(number + 1, 0));
    let inventions = (0..20_000)
        .map(|number| entry(&caller(0).to_string(), &format!("outbound|80||h{number}.example.com")));
    read(&owner, &message(strangers.chain(inventions).collect()), noon());
    assert_eq!(owner.learn(), []);
    assert_eq!(owner.metrics.entries(Judgement::UnknownCaller), 2_000);
    assert_eq!(owner.metrics.entries(Judgement::UnknownHost), 20_000);
}

#[test]
fn what_does_not_fit_into_the_queue_is_brought_again_by_the_next_entry() {
    let mut owner = Owner::new(graph(1, 3), 1);
    for service in 0..3 {
        read(&owner, &message(vec![call(0, service)]), noon());
    }
    owner.learn();
    assert_eq!((owner.known(0), owner.metrics.dropped()), (vec![host(0)], 2));
    read(&owner, &message(vec![call(0, 0), call(0, 1), call(0, 2)]), noon());
    owner.learn();
    assert_eq!((owner.known(0).len(), owner.metrics.dropped()), (3, 2));
}

#[test]
fn batches_are_bounded_however_large_the_message() {
    let services = u16::try_from(limits::BATCH * 2 + 1).expect("a small number");
    let mut owner = Owner::new(graph(1, services), 2);
    read(&owner, &message((0..services).map(|service| call(0, service)).collect()), noon());
    assert_eq!(owner.metrics.dropped(), 1);
    assert_eq!(owner.queue.try_recv().map(|batch| batch.len()), Ok(limits::BATCH));
}

#[test]
fn what_comes_before_a_break_in_the_list_is_learned() {
    let mut owner = Owner::new(graph(1, 1), 8);
    let mut list = Vec::new();
    prost::encoding::message::encode(1, &call(0, 0), &mut list);
    list.extend([0x0a, 0x7f, 0x00]);
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(2, &list, &mut bytes);
    let message = Message::decode(Bytes::from(bytes)).expect("a valid message");
    assert_eq!(ingest(&owner).message(message, noon()), Err(Unreadable::Truncated));
    owner.learn();
    assert_eq!(owner.known(0), [host(0)]);
}

/// The lines of a metric that are not zero, without its name.
fn exposed(registry: &Registry, metric: &str) -> Vec<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let lines = text.lines().filter_map(|line| Some(line.strip_prefix(metric)?.to_owned()));
    lines.filter(|line| !line.ends_with(" 0")).collect()
}

#[test]
fn calls_that_stay_on_the_detour_are_counted_by_caller_and_host() {
    let (mut registry, mut owner) = (Registry::default(), Owner::new(graph(2, 2), 8));
    owner.metrics = Metrics::register(&mut registry);
    read(&owner, &message(vec![call(0, 1), call(1, 1)]), noon());
    assert_eq!(exposed(&registry, "palisade_detours_total"), [""; 0], "a first call has to take the detour");
    owner.learn();
    read(&owner, &message(vec![call(0, 1), call(0, 1), call(1, 0)]), noon());
    read(&owner, &message(vec![call(0, 1)]), noon() + Learning::default().precision());
    let labels = format!(r#"{{caller_namespace="callers",fence="caller-0",host="{}"}}"#, host(1));
    assert_eq!(exposed(&registry, "palisade_detours_total"), [format!("{labels} 3")]);
}

#[test]
fn detours_of_many_pairs_are_counted_together_in_the_end() {
    let (mut registry, mut owner) = (Registry::default(), Owner::new(graph(40, 30), 8));
    owner.metrics = Metrics::register(&mut registry);
    let all: Vec<_> = (0..40).flat_map(|from| (0..30).map(move |to| call(from, to))).collect();
    for _ in 0..2 {
        read(&owner, &message(all.clone()), noon());
        owner.learn();
    }
    let lines = exposed(&registry, "palisade_detours_total");
    assert_eq!(lines.len(), 1001);
    let other = r#"{caller_namespace="other",fence="other",host="other"} 200"#;
    assert!(lines.iter().any(|line| line == other), "{:?}", lines.last());
}

/// Guards a service of the mesh by a policy that names a caller.
fn guard(owner: &Owner, number: u16) {
    let mut graph = Graph::clone(&owner.observer.graph.load());
    graph.apply(Change::Policy(Policy {
        key: ObjectKey::new("shop", "guard"),
        selector: Labels::default(),
        targets: Some(vec![format!("service-{number}").into()]),
        callers: vec![CallerPattern::account("shop", "somebody")],
    }));
    owner.observer.graph.store(Arc::new(graph));
}

fn answered(mut entry: HttpAccessLogEntry, code: u32) -> HttpAccessLogEntry {
    let response = entry.response.get_or_insert_default();
    response.response_code = Some(UInt32Value { value: code });
    entry
}

#[test]
fn who_is_refused_by_a_guarded_host_learns_nothing() {
    let mut owner = Owner::new(graph(1, 2), 8);
    guard(&owner, 0);
    let refused = vec![answered(call(0, 0), 403); 50];
    read(&owner, &message(refused), noon());
    read(&owner, &message(vec![call(0, 0)]), noon());
    assert_eq!((owner.learn().len(), owner.metrics.entries(Unusable::Denied)), (0, 51));
    read(&owner, &message(vec![answered(call(0, 0), 200)]), noon());
    assert_eq!((owner.learn().len(), owner.known(0)), (1, vec![host(0)]));
}

#[test]
fn a_403_of_a_host_that_nobody_guards_teaches_like_any_answer() {
    let mut owner = Owner::new(graph(1, 2), 8);
    guard(&owner, 0);
    read(&owner, &message(vec![answered(call(0, 1), 403)]), noon());
    assert_eq!((owner.learn().len(), owner.metrics.entries(Judgement::New)), (1, 1));
}

#[test]
fn a_tcp_connection_to_a_guarded_host_teaches_when_the_host_has_answered() {
    let mut owner = Owner::new(graph(1, 2), 8);
    guard(&owner, 0);
    let of = |to, sent_bytes| {
        let common_properties = call(0, to).common_properties;
        let connection_properties = Some(ConnectionProperties { received_bytes: 9, sent_bytes });
        let log_entry = vec![TcpAccessLogEntry { common_properties, connection_properties }];
        let log_entries = Some(LogEntries::TcpLogs(TcpAccessLogEntries { log_entry }));
        StreamAccessLogsMessage { identifier: None, log_entries }
    };
    read(&owner, &of(0, 0), noon());
    assert_eq!((owner.learn().len(), owner.metrics.entries(Unusable::Denied)), (0, 1));
    read(&owner, &of(0, 1), noon());
    read(&owner, &of(1, 0), noon());
    assert_eq!(owner.learn().len(), 2);
}
