//! What a log entry tells of a call.

use std::net::IpAddr;
use std::str;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::passthrough::Spoken;
use super::wire::{
    AccessLogCommon, Address, HttpLogEntry, HttpRequest, HttpResponse, Protocol, TcpConnection, TcpLogEntry,
};
use crate::graph::{Asked, Caller, MAX_NAME, is_dns_name};
use crate::sources::Unusable;
use crate::sources::host::{NoHost, outbound_host};

/// The header in which a gRPC callee says what came of a call. Whom Envoy's RBAC filter refuses gets nothing but
/// headers, with the HTTP status 200. The chart has the global proxy log it.
const GRPC_STATUS: &str = "grpc-status";
const PERMISSION_DENIED: &str = "7";
const FORBIDDEN: u32 = 403;

/// The cluster of connections to where nobody defines a host (`util.PassthroughCluster` in Istio).
const PASSTHROUGH: &[u8] = b"PassthroughCluster";
/// What the names of the routes begin with that the chart makes of `globalProxy.dispatches`.
const DISPATCH: &[u8] = b"palisade-dispatch/";

/// The host of `host:port`, or of a host alone.
fn without_port(authority: &[u8]) -> Option<&str> {
    let host = authority.split(|byte| *byte == b':').next()?;
    str::from_utf8(host).ok().filter(|host| !host.is_empty() && host.len() <= MAX_NAME)
}

/// A call that was passed through to where it was going.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) caller: Caller,
    pub(super) spoken: Spoken,
    /// With TLS, the name and the port that were asked for.
    pub(super) asked: Option<(Arc<str>, u16)>,
}

/// A TLS server name as DNS has it: case is no matter there.
fn lower_case(name: &[u8]) -> Option<Arc<str>> {
    let name = str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME)?.to_ascii_lowercase();
    is_dns_name(&name).then(|| name.into())
}

/// An entry: what both kinds have in common, and how the callee answered.
#[derive(Debug)]
pub(super) struct LogEntry {
    common: Option<AccessLogCommon>,
    request: Option<HttpRequest>,
    answer: Answer,
}

/// What tells whether the callee let the call in, unread.
#[derive(Debug)]
enum Answer {
    Http(Bytes),
    Tcp(Bytes),
}

/// Decodes one entry.
pub(super) fn decode(protocol: Protocol, entry: Bytes) -> Result<LogEntry, Unusable> {
    let entry = match protocol {
        Protocol::Http => HttpLogEntry::decode(entry).map(|entry| LogEntry {
            common: entry.common_properties,
            request: entry.request,
            answer: Answer::Http(entry.response),
        }),
        Protocol::Tcp => TcpLogEntry::decode(entry).map(|entry| LogEntry {
            common: entry.common_properties,
            request: None,
            answer: Answer::Tcp(entry.connection_properties),
        }),
    };
    entry.map_err(|_| Unusable::Malformed)
}

impl LogEntry {
    /// The host at which the call ended that the entry tells of, or why it tells of none.
    pub(super) fn upstream(&self) -> Result<&str, Unusable> {
        let common = self.common.as_ref().ok_or(Unusable::NoProperties)?;
        if common.route_name.starts_with(DISPATCH) {
            return Err(Unusable::Dispatched);
        }
        outbound_host(&common.upstream_cluster).map_err(Unusable::from)
    }

    /// The address of the caller.
    pub(super) fn caller(&self) -> Result<IpAddr, Unusable> {
        let common = self.common.as_ref().ok_or(Unusable::NoProperties)?;
        ip(common.downstream_remote_address.as_ref())
    }

    /// What the entry says of the host that was called, should that be another one than that at which the call ended.
    pub(super) fn asked(&self) -> Asked {
        let common = self.common.as_ref();
        let address = common.and_then(|common| ip(common.downstream_local_address.as_ref()).ok());
        let authority = self.request.as_ref().map(|request| request.authority.clone());
        let name = authority.or_else(|| common?.server_name());
        Asked { address, name: name.as_deref().and_then(without_port).map(str::to_owned) }
    }

    /// The call that was passed through, if the entry tells of one.
    pub(super) fn passed_through(&self) -> Option<Passed> {
        let common = self.common.as_ref().filter(|common| *common.upstream_cluster == *PASSTHROUGH)?;
        let caller = Caller::Address(ip(common.downstream_remote_address.as_ref()).ok()?);
        if self.request.is_some() {
            return Some(Passed { caller, spoken: Spoken::http, asked: None });
        }
        let Some(name) = common.server_name() else {
            return Some(Passed { caller, spoken: Spoken::tcp, asked: None });
        };
        let socket = common.downstream_local_address.as_ref()?.socket_address.as_ref()?;
        let port = u16::try_from(socket.port_value).ok().filter(|port| *port > 0);
        Some(Passed { caller, spoken: Spoken::tls, asked: lower_case(&name).zip(port) })
    }

    /// Whether it shows that the callee let the call in: an HTTP answer other than Envoy's to who is not authorized
    /// (403, gRPC's `PERMISSION_DENIED`), or bytes from a TCP callee. A call that has no answer yet shows nothing.
    pub(super) fn is_let_in(&self) -> bool {
        match &self.answer {
            Answer::Http(response) => HttpResponse::decode(response.clone()).is_ok_and(|response| {
                let status = response.response_headers.get(GRPC_STATUS);
                !matches!(response.response_code, None | Some(0 | FORBIDDEN))
                    && status.is_none_or(|status| status != PERMISSION_DENIED)
            }),
            Answer::Tcp(connection) => {
                TcpConnection::decode(connection.clone()).is_ok_and(|connection| connection.sent_bytes > 0)
            }
        }
    }
}

/// The IP address of a peer; an IPv4 address that is written as IPv6 is the IPv4 address.
fn ip(address: Option<&Address>) -> Result<IpAddr, Unusable> {
    let socket = address.and_then(|address| address.socket_address.as_ref()).ok_or(Unusable::NoCaller)?;
    let text = str::from_utf8(&socket.address).map_err(|_| Unusable::InvalidCaller)?;
    let ip: IpAddr = text.parse().map_err(|_| Unusable::InvalidCaller)?;
    Ok(ip.to_canonical())
}

impl From<NoHost> for Unusable {
    fn from(why: NoHost) -> Self {
        match why {
            NoHost::NotOutbound => Self::NotOutbound,
            NoHost::InvalidCluster => Self::InvalidCluster,
            NoHost::InvalidName => Self::InvalidHost,
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
