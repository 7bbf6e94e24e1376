//! Clients of `WebSocket`s.

use std::fmt;

use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::reply;
use super::{CallError, Options, Reply};
use crate::app::{Answer, Target};

/// An open WebSocket, whose server has named itself.
pub(super) struct WebSocket {
    stream: WebSocketStream<TcpStream>,
    answer: Answer,
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocket").field("server", &self.answer.name).finish_non_exhaustive()
    }
}

impl WebSocket {
    pub(super) async fn open(
        socket: TcpStream,
        target: &Target,
        options: &Options,
    ) -> Result<Self, CallError> {
        let request = request(target, options)?;
        let opened = tokio_tungstenite::client_async(request, socket).await;
        let (mut stream, _) = opened.map_err(|error| refused(&error))?;
        let text = next(&mut stream).await?;
        let answer = serde_json::from_str(&text).map_err(|_| CallError::Unexpected(text))?;
        Ok(Self { stream, answer })
    }

    pub(super) async fn exchange(&mut self, messages: u32) -> Result<Reply, CallError> {
        for number in 0..messages.max(1) {
            let sent = format!("ping {number}");
            let written = self.stream.send(Message::text(sent.clone())).await;
            written.map_err(|error| CallError::transport(&error))?;
            let echoed = next(&mut self.stream).await?;
            if echoed != sent {
                return Err(CallError::Unexpected(echoed));
            }
        }
        Ok(Reply {
            status: Some(101),
            success: true,
            protocol: "websocket",
            answer: Some(self.answer.clone()),
            text: String::new(),
        })
    }
}

fn request(target: &Target, options: &Options) -> Result<Request, CallError> {
    let impossible = |error: &dyn std::error::Error| CallError::Request(error.to_string());
    let url = format!("ws://{}{}", options.authority(target), target.path);
    let mut request = url.into_client_request().map_err(|error| impossible(&error))?;
    let host = HeaderValue::from_str(options.authority(target)).map_err(|error| impossible(&error))?;
    request.headers_mut().insert(header::HOST, host);
    for (name, value) in &options.headers {
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

fn refused(error: &Error) -> CallError {
    let Error::Http(response) = error else {
        return CallError::transport(error);
    };
    let body = response.body().as_deref().unwrap_or_default();
    CallError::Status(response.status().as_u16(), reply(response.status(), "HTTP/1.1", body).text)
}

async fn next(stream: &mut WebSocketStream<TcpStream>) -> Result<String, CallError> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Close(_))) | None => return Err(CallError::Closed("in the WebSocket")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(CallError::transport(&error)),
        }
    }
}
