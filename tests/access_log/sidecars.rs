//! Streams of ordinary sidecars.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use palisade::graph::{Caller, Judgement, ObjectKey};
use palisade::sources::access_log::Peers;
use palisade::sources::{Outcome, Unusable};
use tonic::Code;

use super::mesh::{call, caller, entry, fence, host, message};
use super::server::{Running, soon};

/// A message of a sidecar, which says whose it is if it is the first of its stream.
fn said_by(node: Option<&str>, entries: Vec<HttpAccessLogEntry>) -> StreamAccessLogsMessage {
    let identifier = node.map(|id| Identifier {
        node: Some(Node { id: id.to_owned(), ..Node::default() }),
        log_name: "http_envoy_accesslog".to_owned(),
    });
    StreamAccessLogsMessage { identifier, ..message(entries) }
}

/// The id of a caller's node.
fn node(number: u16) -> String {
    let ObjectKey { namespace, name } = fence(number);
    format!("sidecar~{}~{name}.{namespace}~{namespace}.svc.cluster.local", caller(number))
}

#[tokio::test]
async fn the_calls_of_a_sidecars_stream_are_those_of_its_own_node() {
    let mut running = Running::for_peers(Peers::Sidecars).await;
    // Whatever the entries say of who called.
    let first = said_by(Some(&node(1)), vec![call(0, 0)]);
    let later = said_by(None, vec![call(0, 1)]);
    running.send(vec![first, later]).await.unwrap();
    for number in [0, 1] {
        let learned = soon(running.queue.recv()).await.unwrap();
        let calls: Vec<_> = learned.iter().map(|call| (call.caller.clone(), call.host.to_string())).collect();
        assert_eq!(calls, [(Caller::Pod(fence(1)), host(number))]);
    }
    running.stop().await;
}

#[tokio::test]
async fn what_a_sidecar_tells_of_others_than_services_teaches_nothing() {
    let mut running = Running::for_peers(Peers::Sidecars).await;
    let to = |cluster: &str| entry("10.0.0.1", cluster);
    let detour = to("outbound|15001||global-proxy.palisade-system.svc.cluster.local");
    let entries = vec![to("inbound|8080||"), to("PassthroughCluster"), detour];
    running.send(vec![said_by(Some(&node(1)), entries)]).await.unwrap();
    let unknown = "sidecar~10.0.0.9~nobody.callers~callers.svc.cluster.local";
    running.send(vec![said_by(Some(unknown), vec![call(1, 1)])]).await.unwrap();
    let expected: [(Outcome, u64); 3] = [
        (Unusable::NotOutbound.into(), 2),
        (Unusable::Detour.into(), 1),
        (Judgement::UnknownCaller.into(), 1),
    ];
    for (outcome, count) in expected {
        assert_eq!(running.metrics.entries(outcome), count, "{outcome:?}");
    }
    assert!(running.queue.try_recv().is_err());
    running.stop().await;
}

#[tokio::test]
async fn a_sidecars_stream_that_says_not_whose_it_is_ends_and_the_others_go_on() {
    let mut running = Running::for_peers(Peers::Sidecars).await;
    let (one, other) = (node(1), node(0));
    let long = format!("sidecar~10.0.0.1~client.shop~{}", "a".repeat(2000));
    for (reason, messages) in [
        ("no_identifier", vec![said_by(None, vec![call(1, 1)])]),
        ("invalid_identifier", vec![said_by(Some("me"), vec![call(1, 1)])]),
        ("invalid_identifier", vec![said_by(Some(&long), vec![call(1, 1)])]),
        ("changed_identifier", vec![said_by(Some(&one), vec![]), said_by(Some(&other), vec![call(1, 1)])]),
    ] {
        let before = running.metrics.streams_refused(reason);
        let status = running.send(messages).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{reason}");
        assert_eq!(running.metrics.streams_refused(reason), before + 1, "{reason}");
    }
    assert!(running.queue.try_recv().is_err(), "nothing of it was learned");
    running.send(vec![said_by(Some(&one), vec![call(1, 1)])]).await.unwrap();
    assert!(soon(running.queue.recv()).await.is_some());
    running.stop().await;
}
