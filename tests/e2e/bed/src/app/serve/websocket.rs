//! The server's side of `WebSocket`s: it names itself, then echoes.

use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tonic::body::Body;

use super::Peer;
use super::http::json;
use crate::app::Answer;

/// Whether a request wants to become a WebSocket.
pub(super) fn asked_for(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers the handshake and goes on in a task of its own.
pub(super) fn upgrade(peer: &Peer, answer: &Answer, request: &mut Request<Incoming>) -> Response<Body> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let accept =
        key.map(|key| derive_accept_key(key.as_bytes())).and_then(|it| HeaderValue::from_str(&it).ok());
    let Some(accept) = accept else {
        return json(StatusCode::BAD_REQUEST, answer);
    };
    let upgrade = hyper::upgrade::on(request);
    let name = serde_json::to_string(answer).unwrap_or_default();
    let stop = peer.app.stop.clone();
    peer.app.tasks.spawn(async move {
        let Some(Ok(upgraded)) = stop.run_until_cancelled(upgrade).await else {
            return;
        };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        stop.run_until_cancelled(converse(socket, name)).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn converse(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, name: String) {
    if socket.send(Message::text(name)).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        let echoes = matches!(message, Message::Text(_) | Message::Binary(_));
        if echoes && socket.send(message).await.is_err() {
            return;
        }
    }
}
