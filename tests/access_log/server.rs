//! The server, over loopback.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use futures::stream;
use http::uri::PathAndQuery;
use palisade::graph::Observation;
use palisade::sources::access_log::{Metrics, Peers, ServeError, limits, serve};
use prost::Message as _;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::mesh::{Owner, call, caller, entry, graph, host, message};

const STREAM_ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// How many batches wait for the graph's owner.
const QUEUE: usize = 64;

/// A server with its graph's queue.
pub struct Running {
    address: SocketAddr,
    pub queue: mpsc::Receiver<Vec<Observation>>,
    pub metrics: Metrics,
    stop: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    async fn start() -> Self {
        Self::for_peers(Peers::GlobalProxy).await
    }

    pub async fn for_peers(peers: Peers) -> Self {
        let Owner { observer, metrics, queue } = Owner::new(graph(2, 2), QUEUE);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = tokio::spawn(serve(listener, peers, observer, metrics.clone(), stop.clone()));
        Self { address, queue, metrics, stop, served }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        soon(endpoint.connect()).await.unwrap()
    }

    /// Sends messages on a stream of their own, and ends it.
    pub async fn send(
        &self,
        messages: Vec<StreamAccessLogsMessage>,
    ) -> Result<StreamAccessLogsResponse, Status> {
        let mut client =
            AccessLogServiceClient::new(self.channel().await).max_encoding_message_size(usize::MAX);
        soon(client.stream_access_logs(stream::iter(messages))).await.map(tonic::Response::into_inner)
    }

    /// Sends bytes as messages; what they are is the server's problem.
    async fn send_bytes(&self, path: &'static str, messages: Vec<Vec<u8>>) -> Result<(), Status> {
        let mut client = tonic::client::Grpc::new(self.channel().await);
        soon(client.ready()).await.unwrap();
        let request = Request::new(stream::iter(messages));
        soon(client.client_streaming(request, PathAndQuery::from_static(path), Raw)).await.map(|_| ())
    }

    /// Sees to it that a call is learned now.
    async fn assert_alive(&mut self) {
        self.send(vec![message(vec![call(1, 1)])]).await.unwrap();
        let learned = soon(self.queue.recv()).await.unwrap();
        assert_eq!(
            learned.iter().map(|call| (call.caller.clone(), call.host.to_string())).collect::<Vec<_>>(),
            [(caller(1).into(), host(1))]
        );
    }

    pub async fn stop(self) {
        self.stop.cancel();
        soon(self.served).await.unwrap().unwrap();
    }
}

/// Fails instead of hanging.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Sends bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[tokio::test]
async fn a_stream_is_read_to_its_end() {
    let mut server = Running::start().await;
    server.send(vec![message(vec![call(0, 0)]), StreamAccessLogsMessage::default()]).await.unwrap();
    assert_eq!(soon(server.queue.recv()).await.unwrap().len(), 1);
    until(|| server.metrics.streams() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_burst_waits_for_the_owner_of_the_graph() {
    let mut server = Running::start().await;
    let messages = vec![message(vec![call(0, 0)]); 2 * QUEUE];
    let mut client = AccessLogServiceClient::new(server.channel().await);
    let sending = tokio::spawn(async move { client.stream_access_logs(stream::iter(messages)).await });
    until(|| server.queue.len() == QUEUE).await;
    for _ in 0..2 * QUEUE {
        soon(server.queue.recv()).await.unwrap();
    }
    soon(sending).await.unwrap().unwrap();
    assert_eq!(server.metrics.dropped(), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_owner_that_is_stuck_does_not_stop_a_stream() {
    let server = Running::start().await;
    server.send(vec![message(vec![call(0, 0)]); QUEUE + 2]).await.unwrap();
    assert_eq!((server.queue.len(), server.metrics.dropped()), (QUEUE, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_malformed_message_ends_only_its_own_stream() {
    let mut server = Running::start().await;
    let (sender, other) = mpsc::channel(8);
    let mut client = AccessLogServiceClient::new(server.channel().await);
    let reading = tokio::spawn(async move { client.stream_access_logs(ReceiverStream::new(other)).await });
    until(|| server.metrics.streams() == 1).await;

    let good = message(vec![call(0, 1)]).encode_to_vec();
    for bad in [&b"\xff\xff\xff"[..], b"\x12\x7f", b"\x12\x03\x0a\x7f\x00"] {
        let status =
            server.send_bytes(STREAM_ACCESS_LOGS, vec![good.clone(), bad.to_vec(), good.clone()]).await;
        assert!(matches!(status.unwrap_err().code(), Code::Internal | Code::InvalidArgument), "{bad:?}");
        assert_eq!(soon(server.queue.recv()).await.unwrap()[0].host.as_ref(), host(1));
    }

    soon(sender.send(message(vec![call(0, 0)]))).await.unwrap();
    assert_eq!(soon(server.queue.recv()).await.unwrap()[0].host.as_ref(), host(0));
    drop(sender);
    soon(reading).await.unwrap().unwrap();
    server.assert_alive().await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_stream() {
    let mut server = Running::start().await;
    let huge = entry("10.0.0.1", &"a".repeat(limits::MESSAGE));
    let status = server.send(vec![message(vec![huge])]).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    server.assert_alive().await;
    server.stop().await;
}

#[tokio::test]
async fn other_methods_are_not_implemented() {
    let mut server = Running::start().await;
    for path in ["/envoy.service.accesslog.v3.AccessLogService/Other", "/other.Service/StreamAccessLogs"] {
        assert_eq!(server.send_bytes(path, vec![]).await.unwrap_err().code(), Code::Unimplemented);
    }
    server.assert_alive().await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_speaks_no_http2_is_closed() {
    let mut server = Running::start().await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut tcp, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let _ = soon(tcp.read_to_end(&mut Vec::new())).await;
    server.assert_alive().await;
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_open_streams() {
    let server = Running::start().await;
    let (sender, messages) = mpsc::channel::<StreamAccessLogsMessage>(1);
    let mut client = AccessLogServiceClient::new(server.channel().await);
    let reading = tokio::spawn(async move { client.stream_access_logs(ReceiverStream::new(messages)).await });
    until(|| server.metrics.streams() == 1).await;
    let metrics = server.metrics.clone();
    server.stop().await;
    assert_eq!(soon(reading).await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(metrics.streams(), 0);
    drop(sender);
}

/// Time stands still except when everybody waits for it, so this takes no seconds.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let server = Running::start().await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
    server.stop.cancel();
    server.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_too_many_is_refused_and_one_that_ends_makes_room() {
    let mut running = Running::start().await;
    let (held, mut open) = (CancellationToken::new(), tokio::task::JoinSet::new());
    let a_connection = limits::STREAMS_PER_CONNECTION as usize;
    for _ in 0..limits::STREAMS / a_connection {
        let client = AccessLogServiceClient::new(running.channel().await);
        for _ in 0..a_connection {
            let (mut client, held) = (client.clone(), held.clone());
            let silent = stream::once(async move {
                held.cancelled().await;
                message(vec![])
            });
            open.spawn(async move { client.stream_access_logs(silent).await });
        }
    }
    until(|| usize::try_from(running.metrics.streams()) == Ok(limits::STREAMS)).await;
    let refused = running.send(vec![message(vec![call(0, 0)])]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    held.cancel();
    while let Some(ended) = soon(open.join_next()).await {
        ended.unwrap().unwrap();
    }
    running.assert_alive().await;
    running.stop().await;
}
