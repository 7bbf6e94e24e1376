//! Names to addresses, addresses to connections.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::Http;
use super::{CallError, Options};
use crate::app::{Target, tls as trust};

/// Any byte stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Resolved = (Instant, Vec<SocketAddr>);

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    /// How long a resolved name is used again. A load of fresh connections would else be one of the DNS
    /// server: each look-up asks for both families under every search domain.
    keep: Duration,
    known: Mutex<HashMap<(String, u16), Resolved>>,
}

impl Dialer {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, known: Mutex::default() }
    }

    /// Connects to the first of the name's addresses that accepts.
    pub(super) async fn dial(&self, target: &Target) -> Result<TcpStream, CallError> {
        let addresses = self.resolve(target).await?;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(CallError::Connect)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(CallError::Connect(failure))
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, CallError> {
        let key = (target.host.clone(), target.port);
        if let Some(addresses) = self.recall(&key) {
            return Ok(addresses);
        }
        let found = lookup_host((target.host.as_str(), target.port)).await;
        let addresses: Vec<_> = found.map_err(CallError::Resolve)?.collect();
        if !self.keep.is_zero() && !addresses.is_empty() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key, (Instant::now(), addresses.clone()));
        }
        Ok(addresses)
    }

    fn recall(&self, key: &(String, u16)) -> Option<Vec<SocketAddr>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, addresses) = known.get(key)?;
        (since.elapsed() < self.keep).then(|| addresses.clone())
    }
}

/// Agrees on TLS; the server name is the authority's host.
pub(super) async fn tls(
    socket: TcpStream,
    target: &Target,
    options: &Options,
    alpn: &[&str],
) -> Result<TlsStream<TcpStream>, CallError> {
    let failed = |text: String| CallError::Handshake(io::Error::other(text));
    let authority: http::uri::Authority = options
        .authority(target)
        .parse()
        .map_err(|_| CallError::Request(format!("{} is not an authority", options.authority(target))))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| failed(error.to_string()))?;
    let config = trust::client(alpn).map_err(|error| failed(error.to_string()))?;
    TlsConnector::from(config).connect(name, socket).await.map_err(CallError::Handshake)
}

/// HTTP over TLS in the version that ALPN gave.
pub(super) async fn https(socket: TcpStream, target: &Target, options: &Options) -> Result<Http, CallError> {
    let stream = tls(socket, target, options, &["h2", "http/1.1"]).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if http2 { Http::http2(stream, true).await } else { Http::http1(stream, true).await }
}

/// Shared count of bytes received on a connection.
pub(super) type Received = Arc<std::sync::atomic::AtomicU64>;
