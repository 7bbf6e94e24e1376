//! What somebody who reaches the operator's access-log port may send.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use envoy_types::pb::envoy::config::core::v3::{Address, Pipe, SocketAddress, address::Address as Kind};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, HttpAccessLogEntry, HttpRequestProperties,
};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, LogEntries,
};
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream;
use http::uri::PathAndQuery;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
/// The operator allows as many streams on one connection.
const STREAMS_PER_CONNECTION: usize = 16;
/// More than the operator lets wait for their first byte at once.
const SILENT: usize = 80;
const MIB: usize = 1 << 20;
/// Entries that are together no larger make a message that the operator takes.
const MESSAGE: usize = 100 << 10;
/// The most that an Envoy takes for the headers of a request, unless it is told otherwise.
const HEADERS: usize = 60 << 10;
/// The longest noise of which there is one of each length, as a message and inside of one.
const NOISE: usize = 99;
/// How many entries that are noise the spoiled messages have for certain: one of each length for either kind of entry.
pub const NOISY_ENTRIES: u64 = 2 * NOISE as u64;

/// Entries that are read and say nothing.
pub struct Row {
    pub what: String,
    pub messages: Vec<Bytes>,
    /// What the operator is to say became of each entry (`outcome` in docs/metrics.md).
    pub outcomes: Vec<&'static str>,
}

/// An entry, and what is to become of it.
type Told = (HttpAccessLogEntry, &'static str);

impl Row {
    fn new(what: impl Into<String>, told: impl IntoIterator<Item = Told>) -> Self {
        let (entries, outcomes): (Vec<_>, Vec<&'static str>) = told.into_iter().unzip();
        let largest = entries.iter().map(prost::Message::encoded_len).max().unwrap_or(1).max(1);
        let messages = entries.chunks((MESSAGE / largest).max(1)).map(|part| message(part.to_vec()));
        Self { what: what.into(), messages: messages.collect(), outcomes }
    }
}

/// Entries that must teach nothing to the fence of the pod at `caller`.
pub fn harmless_rows(caller: IpAddr, namespace: &str) -> Vec<Row> {
    let known = format!("unused.{namespace}.svc.cluster.local");
    let cluster = format!("outbound|8080||{known}");
    let ip = || Some(socket(&caller.to_string()));
    let named = names().into_iter().map(|name| {
        let forms = [
            (entry(ip(), &name, &name), "not_outbound"),
            (entry(ip(), &format!("outbound|8080||{name}"), &name), "invalid_host"),
            // Only the cluster counts, as the proxy has chosen it; the authority is the caller's to forge.
            (entry(ip(), "PassthroughCluster", &name), "not_outbound"),
        ];
        Row::new(name.chars().take(80).collect::<String>(), forms)
    });
    let authorities =
        ["PassthroughCluster", ""].map(|cluster| (entry(ip(), cluster, &known), "not_outbound"));
    let wrong = wrong_clusters(&known).map(|(name, outcome)| (entry(ip(), &name, &known), outcome));
    let of = |caller| entry(caller, &cluster, &known);
    let nobody = [None, Some(Kind::Pipe(pipe()))].map(|caller| (of(caller), "no_caller"));
    let nameless = ["client", ""].map(|address| (of(Some(socket(address))), "invalid_caller"));
    let strangers = (0..2000_u32).map(|number| {
        let address = format!("192.0.{}.{}", number / 250, number % 250);
        (of(Some(socket(&address))), "unknown_caller")
    });
    let random = (0..10_000)
        .map(|number| (entry(ip(), &format!("outbound|80||h{number}.example.com"), ""), "unknown_host"));
    let rows = [
        Row::new("a known authority", authorities),
        Row::new("no service's cluster", wrong),
        Row::new("no properties", [(HttpAccessLogEntry::default(), "no_properties")]),
        Row::new("no caller", nobody),
        Row::new("no IP address", nameless),
        Row::new("unknown callers", strangers),
        Row::new("unknown hosts", random),
    ];
    named.chain(rows).collect()
}

fn names() -> Vec<String> {
    let texts = [
        "foo_bar.example.com",
        "",
        "bücher.example.com",
        "a.*.com",
        "a b.com",
        "ns/host.com",
        "[fd00::1]:80",
        "...",
        "-a-.com",
        "nul\0byte.com",
        "*",
        "*.*",
        "*/*",
        "www.example.com.",
        "UPPER.example.com",
        "{a=\"b\"}",
        "a\"b.com",
        "10.0.0.1",
        "a\r\nb: c.com",
        "../../etc",
        "~/*",
    ];
    let long = [format!("{}.com", "a".repeat(64)), format!("{}com", "a.".repeat(178)), "a".repeat(HEADERS)];
    texts.map(str::to_owned).into_iter().chain(long).collect()
}

fn wrong_clusters(host: &str) -> [(String, &'static str); 7] {
    [
        (format!("inbound|8080||{host}"), "not_outbound"),
        (format!("outbound|8080|{host}"), "invalid_cluster"),
        (format!("outbound|8080||{host}|more"), "invalid_cluster"),
        (format!("outbound|http||{host}"), "invalid_cluster"),
        (format!("outbound|8080||{}", host.to_uppercase()), "invalid_host"),
        (format!("OUTBOUND|8080||{host}"), "not_outbound"),
        (format!("outbound_.8080_._.{host}"), "not_outbound"),
    ]
}

/// Bytes that are no message, or a broken or too large one.
pub fn spoiled_messages() -> Vec<Bytes> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let next = || {
            // Xorshift: noise that is the same in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    // Noise where a message, the list of entries, or an entry is expected.
    let inside = |tag: u8, bytes: &[u8]| {
        let mut wrapped = vec![tag];
        prost::encode_length_delimiter(bytes.len(), &mut wrapped).unwrap_or_default();
        wrapped.extend(bytes);
        wrapped
    };
    let mut spoiled = Vec::new();
    for length in 1..=NOISE {
        let bytes = noise(length);
        let entries = inside(0x0a, &bytes);
        spoiled.extend([inside(0x12, &bytes), inside(0x12, &entries), inside(0x1a, &entries), bytes]);
    }
    // An entry that claims to be longer than the message, endless varints, and too much.
    spoiled.extend([vec![0x12, 0x02, 0x0a, 0x7f], vec![0xff; 64], vec![0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]]);
    spoiled.extend([noise(MIB), inside(0x12, &inside(0x0a, &vec![0; 5 * MIB])), vec![0x0a; 64 * 1024]]);
    let huge = "a".repeat(MIB);
    let huge = message(vec![entry(Some(socket("192.0.2.1")), &format!("outbound|80||{huge}"), &huge)]);
    spoiled.into_iter().map(Bytes::from).chain([huge]).collect()
}

/// A message that teaches: the pod at `caller` called `host`.
pub fn valid(caller: IpAddr, host: &str) -> Bytes {
    message(vec![entry(Some(socket(&caller.to_string())), &format!("outbound|8080||{host}"), host)])
}

fn message(entries: Vec<HttpAccessLogEntry>) -> Bytes {
    let entries = LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: entries });
    StreamAccessLogsMessage { identifier: None, log_entries: Some(entries) }.encode_to_vec().into()
}

fn entry(caller: Option<Kind>, cluster: &str, authority: &str) -> HttpAccessLogEntry {
    let common = AccessLogCommon {
        downstream_remote_address: caller.map(|address| Address { address: Some(address) }),
        upstream_cluster: cluster.to_owned(),
        ..AccessLogCommon::default()
    };
    let request =
        HttpRequestProperties { authority: authority.to_owned(), ..HttpRequestProperties::default() };
    HttpAccessLogEntry {
        common_properties: Some(common),
        request: Some(request),
        ..HttpAccessLogEntry::default()
    }
}

fn socket(address: &str) -> Kind {
    Kind::SocketAddress(SocketAddress { address: address.to_owned(), ..SocketAddress::default() })
}

fn pipe() -> Pipe {
    Pipe { path: "@caller".to_owned(), mode: 0 }
}

/// A connection to the operator that sends bytes as messages, whatever they are.
#[derive(Clone)]
pub struct Sender(Channel);

impl Sender {
    pub async fn connect(server: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{server}"))?;
        Ok(Self(endpoint.connect().await.with_context(|| format!("connecting to {server}"))?))
    }

    /// Sends messages on a stream of their own, and waits for the server's last word.
    pub async fn send(&self, messages: Vec<Bytes>) -> Result<()> {
        Ok(self.stream(stream::iter(messages)).await?)
    }

    async fn stream(
        &self,
        messages: impl stream::Stream<Item = Bytes> + Send + 'static,
    ) -> Result<(), Status> {
        let mut grpc = Grpc::new(self.0.clone()).max_encoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = tonic::Request::new(messages);
        grpc.client_streaming(request, PathAndQuery::from_static(METHOD), Raw).await.map(drop)
    }
}

/// Opens streams that send a message and are then left; they end when what is given back is dropped.
pub async fn left_streams(server: SocketAddr, count: usize) -> Result<Vec<AbortOnDropHandle<()>>> {
    let connections = (0..count.div_ceil(STREAMS_PER_CONNECTION)).map(|_| Sender::connect(server));
    let connections = try_join_all(connections).await?;
    let open = |number: usize| {
        let sender = connections[number / STREAMS_PER_CONNECTION].clone();
        let messages = stream::iter([message(Vec::new())]).chain(stream::pending());
        AbortOnDropHandle::new(tokio::spawn(async move { drop(sender.stream(messages).await) }))
    };
    Ok((0..count).map(open).collect())
}

/// Opens connections that never send anything.
pub async fn silent_connections(server: SocketAddr) -> Result<Vec<TcpStream>> {
    Ok(try_join_all((0..SILENT).map(|_| TcpStream::connect(server))).await?)
}

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        source.advance(source.remaining());
        Ok(Some(()))
    }
}
