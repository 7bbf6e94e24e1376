//! Accepting connections, no more than the limit, and none that stays silent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

use super::{FIRST_BYTE, SILENT_CONNECTIONS};

/// How long to leave the listener alone when it fails, which mostly means that file descriptors ran out.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The connections of `listener`, for ever. Those beyond `most` at a time wait in the listener's backlog.
pub(super) fn accept(listener: TcpListener, most: usize) -> impl Stream<Item = io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(most));
    stream::unfold((listener, slots), async |(listener, slots)| {
        let slot = slot(&slots).await?;
        let connection = Connection { tcp: accept_one(&listener).await, _slot: slot };
        Some((connection, (listener, slots)))
    })
    .map(spoken)
    .buffer_unordered(SILENT_CONNECTIONS)
    .filter_map(async |connection| connection.map(Ok))
}

async fn slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if slots.available_permits() == 0 {
        warn!("too many connections; new ones have to wait");
    }
    slots.clone().acquire_owned().await.ok()
}

async fn accept_one(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return prompt(tcp),
            Err(error) => warn!(%error, "cannot accept a connection"),
        }
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

/// The connection without Nagle's algorithm: what we send are window updates, for which a peer that may send no more
/// waits.
fn prompt(tcp: TcpStream) -> TcpStream {
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(%error, "a connection may be slow");
    }
    tcp
}

/// The connection, once its peer has sent something; HTTP/2 itself would wait for that without end.
async fn spoken(connection: Connection) -> Option<Connection> {
    let peeked = tokio::time::timeout(FIRST_BYTE, connection.tcp.peek(&mut [0])).await;
    matches!(peeked, Ok(Ok(1..))).then_some(connection)
}

/// A connection that holds its slot until it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    tcp: TcpStream,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
