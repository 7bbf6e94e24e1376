//! HTTP/1.1 and HTTP/2 requests.

use std::error::Error;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::io::InspectReader;

use super::dial::{Received, Stream};
use super::error::{CallError, Failure, closed, unprocessed};
use super::{Options, Reply};
use crate::app::{Answer, Target};

/// The most of a body that is looked into; what is beyond is read and dropped.
const LOOK_INTO: usize = 1 << 20;
/// The most of an error's text that is reported.
const TEXT: usize = 200;

type Body = Full<Bytes>;

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An HTTP connection.
#[derive(Debug)]
pub(super) struct Http {
    sender: Sender,
    received: Received,
    tls: bool,
    /// Whether the server has said that this answer is the connection's last.
    last: bool,
}

impl Http {
    pub(super) async fn http1<S: Stream + 'static>(stream: S, tls: bool) -> Result<Self, CallError> {
        let received = Received::default();
        let io = TokioIo::new(counted(stream, &received));
        let (sender, connection) =
            http1::handshake(io).await.map_err(|error| CallError::transport(&error))?;
        tokio::spawn(connection);
        Ok(Self { sender: Sender::Http1(sender), received, tls, last: false })
    }

    pub(super) async fn http2<S: Stream + 'static>(stream: S, tls: bool) -> Result<Self, CallError> {
        let sender = Sender::Http2(http2_connection(stream).await?);
        Ok(Self { sender, received: Received::default(), tls, last: false })
    }

    pub(super) fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !self.last && !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    pub(super) async fn exchange(&mut self, target: &Target, options: &Options) -> Result<Reply, Failure> {
        let request = self.request(target, options)?;
        let before = self.received.load(Ordering::Relaxed);
        let (sent, protocol) = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|error| Failure::stale(CallError::transport(&error)))?;
                (sender.try_send_request(request).await, "HTTP/1.1")
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(|error| Failure::stale(CallError::transport(&error)))?;
                (sender.try_send_request(request).await, "HTTP/2")
            }
        };
        let silent = self.received.load(Ordering::Relaxed) == before;
        let response = sent.map_err(|error| self.failure(error, silent))?;
        self.last = says_close(response.headers());
        Ok(read(response, protocol).await?)
    }

    fn failure(&self, error: TrySendError<Request<Body>>, silent: bool) -> Failure {
        let written = error.message().is_none();
        let error = error.into_error();
        let cause = CallError::transport(&error);
        let http1 = matches!(self.sender, Sender::Http1(_));
        if !written || unprocessed(&error) {
            Failure::stale(cause)
        } else if http1 && silent && closed(&error) {
            Failure::unanswered(cause)
        } else {
            cause.into()
        }
    }

    fn request(&self, target: &Target, options: &Options) -> Result<Request<Body>, CallError> {
        let impossible = |error: &dyn Error| CallError::Request(error.to_string());
        let authority = options.authority(target);
        let mut request = Request::new(Body::default());
        *request.method_mut() = options.method.clone();
        if matches!(self.sender, Sender::Http1(_)) {
            *request.uri_mut() = Uri::from(target.path.clone());
            let host = HeaderValue::from_str(authority).map_err(|error| impossible(&error))?;
            request.headers_mut().insert(header::HOST, host);
        } else {
            let scheme = if self.tls { "https" } else { "http" };
            *request.uri_mut() = absolute(scheme, authority, target)?;
        }
        for (name, value) in &options.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let options = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    options.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// The absolute form that HTTP/2 takes `:scheme`, `:authority` and `:path` from.
pub(super) fn absolute(scheme: &str, authority: &str, target: &Target) -> Result<Uri, CallError> {
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(target.path.clone())
        .build()
        .map_err(|error| CallError::Request(error.to_string()))
}

fn counted<S: Stream>(stream: S, received: &Received) -> InspectReader<S, impl FnMut(&[u8]) + use<S>> {
    let received = Received::clone(received);
    InspectReader::new(stream, move |bytes: &[u8]| {
        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    })
}

/// An HTTP/2 connection with prior knowledge, driven until its last handle is dropped.
pub(super) async fn http2_connection<S, B>(stream: S) -> Result<http2::SendRequest<B>, CallError>
where
    S: Stream + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let built = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = built.map_err(|error| CallError::transport(&error))?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(response: Response<Incoming>, protocol: &'static str) -> Result<Reply, CallError> {
    let (head, mut body) = response.into_parts();
    let mut start = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::transport(&error))?;
        if let Some(data) = frame.data_ref() {
            let room = LOOK_INTO.saturating_sub(start.len()).min(data.len());
            start.extend_from_slice(&data[..room]);
        }
    }
    Ok(reply(head.status, protocol, &start))
}

pub(super) fn reply(status: StatusCode, protocol: &'static str, body: &[u8]) -> Reply {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let answer = answer.filter(|answer| !answer.name.is_empty());
    let success = !status.is_client_error() && !status.is_server_error();
    let text = if success { String::new() } else { error_text(body, answer.as_ref()) };
    Reply { status: Some(status.as_u16()), success, protocol, answer, text }
}

/// What an error's answer says, to go behind its status: the stand-in that made it and the errors of its own
/// calls, or the start of another's text.
fn error_text(body: &[u8], answer: Option<&Answer>) -> String {
    let Some(answer) = answer else {
        let text = String::from_utf8_lossy(body);
        let text: String = text.trim().chars().take(TEXT).collect();
        return if text.is_empty() { text } else { format!(": {text}") };
    };
    let mut text = format!(", by {}", answer.name);
    for call in &answer.calls {
        if let Some(error) = &call.error {
            text = format!("{text}; {}: {error}", call.url);
        }
    }
    text
}
