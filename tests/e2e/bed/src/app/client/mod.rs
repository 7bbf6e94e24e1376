//! Clients of every protocol, with the rules by which real clients reuse connections.

mod caller;
mod dial;
mod error;
mod grpc;
mod http;
mod line;
mod websocket;

pub use caller::Caller;
pub use error::CallError;

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method};

use self::dial::Dialer;
use self::error::Failure;
use super::{Answer, Scheme, Target};

/// How requests look, and how long they may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// The HTTP method.
    pub method: Method,
    /// Headers of HTTP requests and metadata of gRPC calls.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The authority of requests and the server name for TLS, if not the address's own.
    pub host: Option<String>,
    /// The longest time for one call: resolving, connecting, a retry and the answer.
    pub timeout: Duration,
    /// Messages each way in one call over a stream (gRPC stream, WebSocket, TCP).
    pub messages: u32,
    /// How long a resolved name is used again; zero resolves for each connection.
    pub resolve_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            method: Method::GET,
            headers: Vec::new(),
            host: None,
            timeout: Duration::from_secs(5),
            messages: 1,
            resolve_every: Duration::ZERO,
        }
    }
}

impl Options {
    fn authority<'a>(&'a self, target: &'a Target) -> &'a str {
        self.host.as_deref().unwrap_or(&target.authority)
    }
}

/// What came back.
#[derive(Debug, Clone, Default)]
struct Reply {
    /// The HTTP status or the gRPC code; raw streams have none.
    status: Option<u16>,
    /// Whether the status is a success.
    success: bool,
    protocol: &'static str,
    /// Who answered, if a stand-in did.
    answer: Option<Answer>,
    /// What an unsuccessful answer says.
    text: String,
}

/// An open connection to one address.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
}

#[derive(Debug)]
enum Wire {
    Http(http::Http),
    Grpc(grpc::Unary),
    GrpcStream(Box<grpc::Stream>),
    Line(line::Line),
    WebSocket(Box<websocket::WebSocket>),
}

impl Connection {
    async fn open(target: &Target, options: &Options, dialer: &Dialer) -> Result<Self, CallError> {
        let socket = dialer.dial(target).await?;
        let wire = match target.scheme {
            Scheme::Http => Wire::Http(http::Http::http1(socket, false).await?),
            Scheme::H2c => Wire::Http(http::Http::http2(socket, false).await?),
            Scheme::Https => Wire::Http(dial::https(socket, target, options).await?),
            Scheme::Grpc => Wire::Grpc(grpc::Unary::new(socket).await?),
            Scheme::GrpcStream => Wire::GrpcStream(Box::new(grpc::Stream::new(socket).await?)),
            Scheme::Ws => {
                let open = websocket::WebSocket::open(socket, target, options).await?;
                Wire::WebSocket(Box::new(open))
            }
            Scheme::Tcp => Wire::Line(line::Line::new(Box::new(socket), "tcp")),
            Scheme::TcpServerFirst => Wire::Line(line::Line::greeted(Box::new(socket)).await?),
            Scheme::Tls => {
                let stream = dial::tls(socket, target, options, &[]).await?;
                Wire::Line(line::Line::new(Box::new(stream), "tls"))
            }
        };
        Ok(Self { wire })
    }

    async fn exchange(&mut self, target: &Target, options: &Options) -> Result<Reply, Failure> {
        match &mut self.wire {
            Wire::Http(http) => http.exchange(target, options).await,
            Wire::Grpc(grpc) => grpc.exchange(target, options).await,
            Wire::GrpcStream(stream) => stream.exchange(target, options).await,
            Wire::Line(line) => line.exchange(options.messages).await.map_err(Failure::from),
            Wire::WebSocket(socket) => socket.exchange(options.messages).await.map_err(Failure::from),
        }
    }

    /// Whether another request can be sent, as far as is known now.
    fn is_open(&self) -> bool {
        match &self.wire {
            Wire::Http(http) => http.is_open(),
            Wire::Grpc(grpc) => grpc.is_open(),
            Wire::GrpcStream(stream) => stream.is_open(),
            Wire::Line(_) | Wire::WebSocket(_) => true,
        }
    }
}
