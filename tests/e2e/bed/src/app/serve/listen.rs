//! From a port to a conversation.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::detect::{Kind, detect};
use super::{App, Mode, Peer, http, raw};

/// Binds `address`, or all addresses of both families, of IPv4 only where there is no IPv6.
pub(super) fn listen(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    let bind = |address: IpAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))?;
        socket.listen(1024)
    };
    match address {
        Some(address) => bind(address),
        None => match bind(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => bind(Ipv4Addr::UNSPECIFIED.into()),
            bound => bound,
        },
    }
}

pub(super) async fn accept(app: Arc<App>, mode: Mode, listener: TcpListener) {
    let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
    while let Some(accepted) = app.stop.run_until_cancelled(one(&app, &listener)).await {
        match accepted {
            Ok((permit, stream, remote)) => {
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                let peer = Peer { app: Arc::clone(&app), mode, port, remote, tls: false, sni: None };
                app.tasks.spawn(async move {
                    if let Err(error) = converse(peer, stream).await {
                        tracing::debug!(%remote, port, %error, "connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: nothing signals when that passes.
                tracing::warn!(port, %error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn one(app: &App, listener: &TcpListener) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let permit = Arc::clone(&app.connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, remote) = listener.accept().await?;
    Ok((permit, stream, remote))
}

/// Speaks with one client, in whatever it speaks.
async fn converse(mut peer: Peer, stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let app = Arc::clone(&peer.app);
    let stopped = app.stop.clone();
    if peer.mode == Mode::ServerFirst {
        return stopped.run_until_cancelled(raw::converse(&peer, stream, true)).await.unwrap_or(Ok(()));
    }
    let Some(detected) = stopped.run_until_cancelled(detect(stream)).await else {
        return Ok(());
    };
    let (kind, stream) = detected?;
    if kind != Kind::Tls {
        anyhow::ensure!(peer.mode != Mode::Tls, "no TLS on a port for TLS");
        return speak(peer, kind, stream).await;
    }
    let inside = async {
        let stream = TlsAcceptor::from(Arc::clone(&app.tls)).accept(stream).await?;
        let sni = stream.get_ref().1.server_name().map(str::to_owned);
        anyhow::Ok((sni, detect(stream).await?))
    };
    let Some(inside) = stopped.run_until_cancelled(inside).await else {
        return Ok(());
    };
    let (sni, (kind, stream)) = inside?;
    peer.tls = true;
    peer.sni = sni;
    speak(peer, kind, stream).await
}

async fn speak<S>(peer: Peer, kind: Kind, stream: S) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match kind {
        Kind::Http1 => http::http1(peer, stream).await,
        Kind::Http2 => http::http2(peer, stream).await,
        Kind::Tls | Kind::Raw => {
            let stop = peer.app.stop.clone();
            stop.run_until_cancelled(raw::converse(&peer, stream, false)).await.unwrap_or(Ok(()))
        }
    }
}
