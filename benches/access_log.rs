//! How fast access logs are read: a server on one thread, a client on another, gRPC over loopback between them.
//!
//! `cargo bench --workspace --bench access_log` prints a table. CPU time is that of the server's thread alone, with
//! everything that it does: HTTP/2, decoding, judging, counting. Nothing is asserted about time.

#[path = "../tests/access_log/mesh.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the tests, which use more of it")]
mod mesh;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use futures::stream;
use http::uri::PathAndQuery;
use jiff::Timestamp;
use palisade::api::DependencySource;
use palisade::graph::{Change, Graph, Judgement, Observation};
use palisade::sources::access_log::{Peers, serve};
use palisade::sources::{Outcome, Unusable};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use mesh::{Owner, call, caller, cluster, entry, graph, host, message};

type Failure = Box<dyn Error + Send + Sync>;

/// Entries of one message, as many as Envoy's buffer of 16 KiB holds, roughly.
const PER_MESSAGE: usize = 50;
const CALLERS: u16 = 1000;
const SERVICES: u16 = 100;
const STREAM_ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

fn main() -> Result<(), Failure> {
    println!(
        "entry: {} bytes, {PER_MESSAGE} a message, {CALLERS} callers, {SERVICES} services",
        call(999, 50).encoded_len()
    );
    println!(
        "{:<22}{:>10}{:>9}{:>12}{:>18}{:>9}",
        "case", "entries", "s", "entries/s", "server CPU s/1M", "dropped"
    );
    let (known, edges) = (known_graph(), usize::from(CALLERS) * usize::from(SERVICES));
    run("known", known.clone(), &calls(), 2_000_000)?;
    run("unknown callers", graph(0, SERVICES), &calls(), 1_000_000)?;
    run("not outbound", known, &passed_through(), 1_000_000)?;
    run("new, each once", graph(CALLERS, SERVICES), &calls(), edges)?;
    run("new, all the time", graph(CALLERS, SERVICES), &calls(), 1_000_000)?;
    Ok(())
}

/// A graph that knows every call.
fn known_graph() -> Graph {
    let (mut graph, seen) = (graph(CALLERS, SERVICES), Timestamp::now());
    for (from, to) in (0..CALLERS).flat_map(|from| (0..SERVICES).map(move |to| (from, to))) {
        let source = DependencySource::AccessLog;
        graph.apply(Change::Call(Observation {
            caller: caller(from).into(),
            host: host(to).into(),
            source,
            seen,
        }));
    }
    graph
}

/// Messages in which every caller calls every service once.
fn calls() -> Vec<Bytes> {
    let entries: Vec<_> = (0..SERVICES).flat_map(|to| (0..CALLERS).map(move |from| call(from, to))).collect();
    entries.chunks(PER_MESSAGE).map(|entries| message(entries.to_vec()).encode_to_vec().into()).collect()
}

fn passed_through() -> Vec<Bytes> {
    let padding = "x".repeat(cluster(50).len() - "PassthroughCluster".len());
    let entry = entry("10.244.0.1", &format!("PassthroughCluster{padding}"));
    vec![message(vec![entry; PER_MESSAGE]).encode_to_vec().into()]
}

/// What the server did.
struct Served {
    read: u64,
    dropped: u64,
    cpu: Duration,
}

fn run(case: &str, graph: Graph, messages: &[Bytes], entries: usize) -> Result<(), Failure> {
    let (bound, address) = mpsc::channel();
    let stop = CancellationToken::new();
    let serving = thread::spawn({
        let stop = stop.clone();
        move || server(graph, &bound, stop)
    });
    let address = address.recv()?;
    let start = Instant::now();
    let sent = send(address, messages, entries / PER_MESSAGE);
    let elapsed = start.elapsed().as_secs_f64();
    stop.cancel();
    let served = serving.join().map_err(|_| "the server panicked")??;
    sent?;
    report(case, &served, elapsed);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for the eye")]
fn report(case: &str, served: &Served, elapsed: f64) {
    let (rate, cpu) = (served.read as f64 / elapsed, served.cpu.as_secs_f64() * 1e6 / served.read as f64);
    println!("{case:<22}{:>10}{elapsed:>9.2}{rate:>12.0}{cpu:>18.2}{:>9}", served.read, served.dropped);
}

/// Serves until told to stop. The graph's owner has a thread of its own and learns what it is given.
fn server(
    graph: Graph,
    bound: &mpsc::Sender<SocketAddr>,
    stop: CancellationToken,
) -> Result<Served, Failure> {
    let owner = Owner::new(graph, 4096);
    let (observer, metrics) = (owner.observer.clone(), owner.metrics.clone());
    let learning = thread::spawn({
        let stop = stop.clone();
        move || learn(owner, &stop)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = thread_cpu()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        bound.send(listener.local_addr()?)?;
        serve(listener, Peers::GlobalProxy, observer, metrics.clone(), stop).await?;
        Ok::<_, Failure>(())
    })?;
    let cpu = thread_cpu()?.saturating_sub(before);
    learning.join().map_err(|_| "the owner panicked")?;
    let judged = [Judgement::New, Judgement::Stale, Judgement::Known, Judgement::UnknownCaller];
    let outcomes = judged.into_iter().map(Outcome::from).chain([Unusable::NotOutbound.into()]);
    Ok(Served {
        read: outcomes.map(|outcome| metrics.entries(outcome)).sum(),
        dropped: metrics.dropped(),
        cpu,
    })
}

/// Publishes a new graph twenty times a second.
fn learn(mut owner: Owner, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        owner.learn();
        thread::sleep(Duration::from_millis(50));
    }
}

/// The CPU time of this thread.
fn thread_cpu() -> Result<Duration, Failure> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = schedstat.split_ascii_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Sends messages in turn, `count` in all, on one stream.
fn send(address: SocketAddr, messages: &[Bytes], count: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let messages: Vec<_> = messages.iter().cycle().take(count).cloned().collect();
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let path = PathAndQuery::from_static(STREAM_ACCESS_LOGS);
        client.client_streaming(Request::new(stream::iter(messages)), path, Encoded).await?;
        Ok(())
    })
}

/// Sends messages that are encoded already, so that the client does not set the pace.
#[derive(Clone, Copy, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
