//! gRPC: unary calls, and one long stream both ways.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::error::{CallError, Failure, SendError, unprocessed};
use super::http::{absolute, http2_connection};
use super::{Options, Reply};
use crate::app::Target;
use crate::app::echo::{EchoReply, EchoRequest, STREAM, UNARY};

type Codec = ProstCodec<EchoRequest, EchoReply>;

/// One HTTP/2 connection as the service that tonic's client calls.
#[derive(Debug, Clone)]
struct Channel(SendRequest<Body>);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(SendError::Unwritten)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.0.try_send_request(request);
        Box::pin(async move {
            sent.await.map_err(|error| match error.message() {
                Some(_) => SendError::Unwritten(error.into_error()),
                None => SendError::Written(error.into_error()),
            })
        })
    }
}

impl Channel {
    async fn new(socket: TcpStream) -> Result<Self, CallError> {
        http2_connection(socket).await.map(Self)
    }

    async fn ready(&self, target: &Target, options: &Options) -> Result<Grpc<Self>, Failure> {
        let origin = absolute("http", options.authority(target), target)?;
        let mut grpc = Grpc::with_origin(self.clone(), origin);
        grpc.ready().await.map_err(|error| Failure::stale(CallError::transport(&error)))?;
        Ok(grpc)
    }
}

/// A connection for unary calls.
#[derive(Debug)]
pub(super) struct Unary(Channel);

impl Unary {
    pub(super) async fn new(socket: TcpStream) -> Result<Self, CallError> {
        Channel::new(socket).await.map(Self)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.0.is_closed()
    }

    pub(super) async fn exchange(&mut self, target: &Target, options: &Options) -> Result<Reply, Failure> {
        let mut grpc = self.0.ready(target, options).await?;
        let mut request = tonic::Request::new(message(0));
        *request.metadata_mut() = metadata(options);
        let answered = grpc.unary(request, PathAndQuery::from_static(UNARY), Codec::default()).await;
        match answered {
            Ok(response) => Ok(reply(response.into_inner())),
            Err(status) => refused(&status),
        }
    }
}

/// One stream both ways: it lives as long as the connection.
#[derive(Debug)]
pub(super) struct Stream {
    channel: Channel,
    open: Option<(mpsc::Sender<EchoRequest>, Streaming<EchoReply>)>,
}

impl Stream {
    pub(super) async fn new(socket: TcpStream) -> Result<Self, CallError> {
        Ok(Self { channel: Channel::new(socket).await?, open: None })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.channel.0.is_closed()
    }

    pub(super) async fn exchange(&mut self, target: &Target, options: &Options) -> Result<Reply, Failure> {
        let mut last = None;
        for number in 0..options.messages.max(1) {
            let sent = message(number);
            match self.turn(target, options, sent.clone()).await? {
                Ok(reply) if reply.message == sent.message => last = Some(reply),
                Ok(reply) => return Err(CallError::Unexpected(reply.message).into()),
                Err(status) => return refused(&status),
            }
        }
        last.map(reply).ok_or_else(|| CallError::Closed("before a message").into())
    }

    /// One message and its echo.
    async fn turn(
        &mut self,
        target: &Target,
        options: &Options,
        sent: EchoRequest,
    ) -> Result<Result<EchoReply, Status>, Failure> {
        let inbound = if let Some((outbound, inbound)) = &mut self.open {
            if outbound.send(sent).await.is_err() {
                // The stream ended; its status says why.
                tracing::debug!(%target, "the gRPC stream takes no more messages");
            }
            inbound
        } else {
            match self.start(target, options, sent).await? {
                Ok(inbound) => inbound,
                Err(status) => return Ok(Err(status)),
            }
        };
        match inbound.message().await {
            Ok(Some(reply)) => Ok(Ok(reply)),
            Ok(None) => Err(CallError::Closed("in the stream").into()),
            Err(status) => Ok(Err(status)),
        }
    }

    /// Opens the stream with its first message.
    async fn start(
        &mut self,
        target: &Target,
        options: &Options,
        first: EchoRequest,
    ) -> Result<Result<&mut Streaming<EchoReply>, Status>, Failure> {
        let mut grpc = self.channel.ready(target, options).await?;
        let (outbound, messages) = mpsc::channel(1);
        outbound.send(first).await.map_err(|_| CallError::Closed("before a message"))?;
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        *request.metadata_mut() = metadata(options);
        match grpc.streaming(request, PathAndQuery::from_static(STREAM), Codec::default()).await {
            Ok(response) => Ok(Ok(&mut self.open.insert((outbound, response.into_inner())).1)),
            Err(status) => Ok(Err(status)),
        }
    }
}

fn message(number: u32) -> EchoRequest {
    EchoRequest { message: format!("ping {number}") }
}

fn metadata(options: &Options) -> MetadataMap {
    MetadataMap::from_headers(options.headers.iter().cloned().collect())
}

fn reply(echoed: EchoReply) -> Reply {
    let status = Some(Code::Ok as u16);
    Reply { status, success: true, protocol: "grpc", answer: Some(echoed.into()), text: String::new() }
}

fn refused(status: &Status) -> Result<Reply, Failure> {
    let code = u16::try_from(i32::from(status.code())).unwrap_or(u16::MAX);
    let text = match status.source() {
        Some(cause) => format!("{} ({})", status.message(), CallError::transport(cause)),
        None => status.message().to_owned(),
    };
    let error = CallError::Grpc(code, text);
    if unprocessed(status) { Err(Failure::stale(error)) } else { Err(error.into()) }
}
