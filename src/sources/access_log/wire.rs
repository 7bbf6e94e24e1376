//! The protobuf messages of Envoy's `envoy/service/accesslog/v3/als.proto`, cut down to what is read.
//!
//! The full messages have some hundred fields, and decoding them copies every header and tag of every call.
//! Protobuf lets a reader skip the fields that it does not declare, and prost hands `bytes` fields out as
//! slices of the received buffer, so a cut-down declaration costs two slices an entry. Strings are declared as
//! bytes, which are the same on the wire: only the text that is used is checked, and text that is not UTF-8
//! spoils its own entry instead of the message.
//!
//! The list of entries is not decoded as a list: an entry may be two bytes long, and a list of decoded entries
//! would be many times larger than the message that made it.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The field of an entry in `HTTPAccessLogEntries` and in `TCPAccessLogEntries`.
const LOG_ENTRY: u32 = 1;

/// `StreamAccessLogsMessage`: what Envoy sends at a time.
///
/// Envoy sets one of the two lists, once, and the identifier in the first message of a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// The bytes of an [`Identifier`], read where entries do not say for themselves whose calls they are.
    #[prost(bytes = "bytes", tag = "1")]
    identifier: Bytes,
    /// The bytes of an `HTTPAccessLogEntries`.
    #[prost(bytes = "bytes", tag = "2")]
    http_logs: Bytes,
    /// The bytes of a `TCPAccessLogEntries`.
    #[prost(bytes = "bytes", tag = "3")]
    tcp_logs: Bytes,
}

/// Why bytes are not a message, or not a list of entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are not valid protobuf.
    #[error("not a valid message")]
    Protobuf(#[from] prost::DecodeError),
    /// An entry is longer than what is left.
    #[error("a log entry is truncated")]
    Truncated,
}

impl Message {
    /// The bytes of the identifier; empty if it has none.
    pub(super) fn identifier(&self) -> Bytes {
        self.identifier.clone()
    }

    /// The entries, each as its own bytes. Ends at the first place where the list itself is broken.
    pub(super) fn entries(self) -> impl Iterator<Item = Result<(Protocol, Bytes), Unreadable>> {
        let of = |protocol| move |entry: Result<_, _>| entry.map(|bytes| (protocol, bytes));
        Entries(self.http_logs).map(of(Protocol::Http)).chain(Entries(self.tcp_logs).map(of(Protocol::Tcp)))
    }
}

/// `StreamAccessLogsMessage.Identifier`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Identifier {
    /// The bytes of a [`Node`].
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) node: Bytes,
}

/// `envoy.config.core.v3.Node`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    /// Its id.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) id: Bytes,
}

/// Which of the two kinds an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `HTTPAccessLogEntry`
    Http,
    /// `TCPAccessLogEntry`
    Tcp,
}

/// The entries of a list that are still to be read.
struct Entries(Bytes);

impl Iterator for Entries {
    type Item = Result<Bytes, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = next_entry(&mut self.0);
        if entry.is_err() {
            self.0.clear();
        }
        entry.transpose()
    }
}

fn next_entry(list: &mut Bytes) -> Result<Option<Bytes>, Unreadable> {
    while list.has_remaining() {
        let (tag, wire_type) = decode_key(list)?;
        if (tag, wire_type) == (LOG_ENTRY, WireType::LengthDelimited) {
            return length_delimited(list).map(Some);
        }
        skip_field(wire_type, tag, list, DecodeContext::default())?;
    }
    Ok(None)
}

fn length_delimited(list: &mut Bytes) -> Result<Bytes, Unreadable> {
    let length = decode_varint(list)?;
    match usize::try_from(length) {
        Ok(length) if length <= list.len() => Ok(list.split_to(length)),
        _ => Err(Unreadable::Truncated),
    }
}

/// `HTTPAccessLogEntry`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpLogEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<AccessLogCommon>,
    #[prost(message, optional, tag = "3")]
    pub(super) request: Option<HttpRequest>,
    /// The bytes of an [`HttpResponse`], read when they matter.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) response: Bytes,
}

/// `HTTPRequestProperties`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpRequest {
    /// The host, and perhaps port, that the caller gave.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) authority: Bytes,
}

/// `TCPAccessLogEntry`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TcpLogEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<AccessLogCommon>,
    /// The bytes of a [`TcpConnection`], read when they matter.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) connection_properties: Bytes,
}

/// `HTTPResponseProperties`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpResponse {
    /// A `UInt32Value`; none while there is no answer yet.
    #[prost(message, optional, tag = "1")]
    pub(super) response_code: Option<u32>,
    /// The headers that the logger was told to send along.
    #[prost(map = "string, string", tag = "4")]
    pub(super) response_headers: HashMap<String, String>,
}

/// `ConnectionProperties`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TcpConnection {
    /// What the caller got, in bytes.
    #[prost(uint64, tag = "2")]
    pub(super) sent_bytes: u64,
}

/// `AccessLogCommon`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AccessLogCommon {
    /// Who called. Behind the PROXY protocol listener filter this is the address in the PROXY header.
    #[prost(message, optional, tag = "2")]
    pub(super) downstream_remote_address: Option<Address>,
    /// Where it called. Behind the PROXY protocol listener filter this is the original destination.
    #[prost(message, optional, tag = "3")]
    pub(super) downstream_local_address: Option<Address>,
    /// Where the call went, after routing.
    #[prost(bytes = "bytes", tag = "15")]
    pub(super) upstream_cluster: Bytes,
    /// The name of the route that was taken, if it has one.
    #[prost(bytes = "bytes", tag = "19")]
    pub(super) route_name: Bytes,
    /// An entry of the map of custom tags. The global proxy's TCP logs set one: the TLS server name.
    #[prost(bytes = "bytes", tag = "22")]
    pub(super) custom_tag: Bytes,
}

impl AccessLogCommon {
    /// The TLS server name that the caller gave, if this is a log that tells it.
    pub(super) fn server_name(&self) -> Option<Bytes> {
        let tag = CustomTag::decode(self.custom_tag.clone()).ok()?;
        (tag.key == SERVER_NAME).then_some(tag.value)
    }
}

/// The custom tag in which the global proxy's TCP logs tell the TLS server name: the log's own field for it is
/// only set where TLS ends (`grpc_access_log_utils.cc` in Envoy 1.37).
const SERVER_NAME: &[u8] = b"palisade.server_name";

/// An entry of `map<string, string>`.
#[derive(Clone, PartialEq, prost::Message)]
struct CustomTag {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `Address`: a socket address, or one of the kinds that have no IP address and that are not read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(super) socket_address: Option<SocketAddress>,
}

/// `SocketAddress`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SocketAddress {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) address: Bytes,
    #[prost(uint32, tag = "3")]
    pub(super) port_value: u32,
}
