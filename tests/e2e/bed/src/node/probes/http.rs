//! The HTTP client of probes and hooks.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::app::tls;

/// The status of a GET on a connection of its own. Certificates are not verified, as the kubelet does not.
///
/// # Errors
/// When there is no answer. The caller limits the time.
pub(super) async fn get(host: &str, port: u16, action: &HTTPGetAction) -> Result<u16> {
    let stream = TcpStream::connect((host, port)).await.context("connect")?;
    if action.scheme.as_deref() != Some("HTTPS") {
        return request(stream, host, port, action).await;
    }
    let name = ServerName::try_from(host.to_owned()).context("server name")?;
    let connector = TlsConnector::from(tls::client(&[]).context("TLS versions")?);
    let stream = connector.connect(name, stream).await.context("TLS handshake")?;
    request(stream, host, port, action).await
}

async fn request<S>(stream: S, host: &str, port: u16, action: &HTTPGetAction) -> Result<u16>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let path = action.path.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/");
    let mut request = http::Request::get(path)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close");
    let own = action.http_headers.as_deref().unwrap_or_default();
    if !own.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request = request.header("host", format!("{host}:{port}"));
    }
    for header in own {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // A connection may end in the moment in which it has brought the answer.
        ended = connection => {
            ended.context("connection")?;
            answer.await
        }
    };
    Ok(answer.context("request")?.status().as_u16())
}
