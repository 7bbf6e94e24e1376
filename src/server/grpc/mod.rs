//! gRPC services of one method each, for peers that are not trusted: what they can make grow has a limit.

mod connections;
mod one_method;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Error, Server};
use tracing::warn;

pub(crate) use one_method::OneMethod;
use one_method::Only;

/// Connections that have sent nothing yet, at a time.
pub const SILENT_CONNECTIONS: usize = 64;

/// How long a new connection may stay silent.
pub const FIRST_BYTE: Duration = Duration::from_secs(5);

/// Bytes of the headers of one stream.
pub const HEADER_LIST: u32 = 16 << 10;

/// How often a peer is asked whether it is still there. Streams may be idle for ever; dead peers may not.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long its answer may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the peers of a service can make grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    /// Connections at a time. Those beyond wait.
    pub(crate) connections: usize,
    /// Streams of one connection at a time.
    pub(crate) streams_per_connection: u32,
    /// Calls at a time, over all connections. Those beyond are refused.
    pub(crate) calls: usize,
    /// Bytes that a stream may send ahead of us.
    pub(crate) stream_window: u32,
    /// Bytes that all streams of a connection together may send ahead of us.
    pub(crate) connection_window: u32,
    /// How long streams get to end after the server was told to stop.
    pub(crate) drain: Duration,
}

impl Transport {
    /// Serves `method` on `listener` until `stop` is cancelled and its streams have ended, or had the time to.
    ///
    /// # Errors
    /// If the transport fails as a whole; the failure of a connection or a stream is no error.
    pub(crate) async fn serve<M: OneMethod>(
        self,
        listener: TcpListener,
        method: M,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let incoming = connections::accept(listener, self.connections);
        let only = Only::new(method, self.calls);
        let serving =
            self.server().add_service(only).serve_with_incoming_shutdown(incoming, stop.cancelled());
        tokio::select! {
            result = serving => result,
            () = self.drained(&stop) => {
                warn!(service = M::SERVICE, "some streams did not end in time");
                Ok(())
            }
        }
    }

    async fn drained(self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.drain).await;
    }

    fn server(self) -> Server {
        Server::builder()
            .max_concurrent_streams(self.streams_per_connection)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .http2_max_header_list_size(HEADER_LIST)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
    }
}
