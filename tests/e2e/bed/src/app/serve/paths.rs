//! The paths that ask for something special, and the answer to all others.

use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::parse;
use futures::stream::{self, StreamExt as _};
use http::{HeaderValue, Response, StatusCode, header, request};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::body::Body;

use super::Peer;
use super::http::json;
use crate::app::{Answer, Target};

/// The most bytes that one answer is filled up to.
const MOST_BYTES: u64 = 256 << 20;
/// The longest that an answer is held back.
const LONGEST_DELAY: Duration = Duration::from_mins(2);
/// The most pieces of one stream.
const MOST_PIECES: u64 = 100_000;
/// The most addresses that one request has called.
const MOST_CALLS: usize = 64;
/// A piece of a long answer.
static FILLING: [u8; 16 << 10] = [b'x'; 16 << 10];

/// Does what the path asks for.
pub(super) async fn respond(peer: &Peer, head: &request::Parts, answer: Answer) -> Response<Body> {
    let path = head.uri.path();
    let (first, rest) =
        path.trim_start_matches('/').split_once('/').unwrap_or((&path[1.min(path.len())..], ""));
    let asked = match first {
        "status" => rest.parse().ok().map(|status| json(status, &answer)),
        "delay" => match rest.parse().map(Duration::from_millis) {
            Ok(delay) => {
                tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
                Some(json(StatusCode::OK, &answer))
            }
            Err(_) => None,
        },
        "bytes" => rest.parse().ok().map(bytes),
        "redirect" => query(head, "to").next().and_then(|to| redirect(&to, &answer)),
        "stream" => Some(pieces(head, &answer)),
        "call" => return call(peer, head, answer).await,
        _ => return forward(peer, head, answer).await,
    };
    asked.unwrap_or_else(|| json(StatusCode::BAD_REQUEST, &answer))
}

fn query<'a>(head: &'a request::Parts, wanted: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let pairs = parse(head.uri.query().unwrap_or_default().as_bytes());
    pairs.filter(move |(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

/// Calls the addresses in the query.
async fn call(peer: &Peer, head: &request::Parts, answer: Answer) -> Response<Body> {
    let targets: Result<Vec<Target>, _> =
        query(head, "url").take(MOST_CALLS).map(|url| url.parse()).collect();
    match targets {
        Ok(targets) => after_calls(peer, head, answer, &targets).await,
        Err(_) => json(StatusCode::BAD_REQUEST, &answer),
    }
}

/// Calls the addresses that this path is wired to.
async fn forward(peer: &Peer, head: &request::Parts, answer: Answer) -> Response<Body> {
    let targets = peer.app.wiring.targets(head.uri.path());
    after_calls(peer, head, answer, targets).await
}

/// 200 if every call succeeded, 502 else.
async fn after_calls(
    peer: &Peer,
    head: &request::Parts,
    mut answer: Answer,
    targets: &[Target],
) -> Response<Body> {
    answer.calls = peer.app.wiring.call(targets, &head.headers).await;
    let good = answer.calls.iter().all(|call| call.ok);
    json(if good { StatusCode::OK } else { StatusCode::BAD_GATEWAY }, &answer)
}

fn redirect(to: &str, answer: &Answer) -> Option<Response<Body>> {
    let location = HeaderValue::from_str(to).ok()?;
    let mut response = json(StatusCode::FOUND, answer);
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn bytes(wanted: u64) -> Response<Body> {
    let pieces = stream::unfold(wanted.min(MOST_BYTES), |left| async move {
        let next = usize::try_from(left).unwrap_or(FILLING.len()).min(FILLING.len());
        let piece = Frame::data(Bytes::from_static(&FILLING[..next]));
        (next > 0).then(|| (Ok::<_, tonic::Status>(piece), left - next as u64))
    });
    let mut response = Response::new(Body::new(StreamBody::new(pieces)));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A chunk at a time, each a line that names the server.
fn pieces(head: &request::Parts, answer: &Answer) -> Response<Body> {
    let number = |name| query(head, name).next().and_then(|value| value.parse::<u64>().ok());
    let count = number("n").unwrap_or(10).min(MOST_PIECES);
    let pause = Duration::from_millis(number("interval_ms").unwrap_or(100)).min(LONGEST_DELAY);
    let line = serde_json::json!({ "name": answer.name, "pod": answer.pod, "namespace": answer.namespace });
    let line = Bytes::from(format!("{line}\n"));
    let pieces = stream::iter(0..count).then(move |piece| {
        let line = line.clone();
        async move {
            if piece > 0 {
                tokio::time::sleep(pause).await;
            }
            Ok::<_, tonic::Status>(Frame::data(line))
        }
    });
    Response::new(Body::new(StreamBody::new(pieces)))
}
