//! HTTP connections and requests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use super::{Peer, grpc, paths, websocket};
use crate::app::Answer;
use crate::app::answer::identity;

/// Where a sidecar puts the caller's certificate.
const CLIENT_CERT: &str = "x-forwarded-client-cert";

/// Serves HTTP/1.1 with kept connections and upgrades.
pub(super) async fn http1<S>(peer: Peer, stream: S) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = peer.app.stop.clone();
    let peer = Arc::new(peer);
    let service = service_fn(move |request| handle(Arc::clone(&peer), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// Serves HTTP/2, gRPC included.
pub(super) async fn http2<S>(peer: Peer, stream: S) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = peer.app.stop.clone();
    let peer = Arc::new(peer);
    let service = service_fn(move |request| handle(Arc::clone(&peer), request));
    let builder = http2::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn handle(peer: Arc<Peer>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut answer = answer(&peer, &request);
    if websocket::asked_for(request.headers()) {
        "websocket".clone_into(&mut answer.protocol);
        return Ok(websocket::upgrade(&peer, &answer, &mut request));
    }
    if grpc::asked_for(request.headers()) {
        "grpc".clone_into(&mut answer.protocol);
        return Ok(grpc::answer(answer, request).await);
    }
    let (head, body) = request.into_parts();
    answer.received = drain(body).await;
    Ok(paths::respond(&peer, &head, answer).await)
}

/// What the server says about a request.
fn answer(peer: &Peer, request: &Request<Incoming>) -> Answer {
    let headers = request.headers();
    let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let authority = request.uri().authority().map(ToString::to_string);
    Answer {
        name: peer.app.name.clone(),
        pod: peer.app.pod.clone(),
        namespace: peer.app.namespace.clone(),
        port: peer.port,
        protocol: format!("{:?}", request.version()).trim_end_matches(".0").to_owned(),
        tls: peer.tls,
        sni: peer.sni.clone(),
        method: request.method().to_string(),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        host: authority.or(host).unwrap_or_default(),
        remote: peer.remote.to_string(),
        identity: headers.get(CLIENT_CERT).and_then(|value| identity(value.to_str().ok()?)),
        headers: readable(headers),
        ..Answer::default()
    }
}

fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut readable = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        readable
            .entry(name.to_string())
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    readable
}

/// Reads a body to its end, so that the connection can be kept.
async fn drain(mut body: Incoming) -> u64 {
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    received
}

/// An answer as JSON.
pub(super) fn json(status: StatusCode, answer: &Answer) -> Response<Body> {
    let text = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
