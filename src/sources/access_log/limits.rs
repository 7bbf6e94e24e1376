//! The limits of everything that a peer can make grow.

pub use crate::server::grpc::{
    FIRST_BYTE, HEADER_LIST, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, SILENT_CONNECTIONS,
};

/// Connections at a time. Each worker thread of each global proxy has one.
pub const CONNECTIONS: usize = 512;

/// Streams of one connection at a time. Envoy opens one for each log name and each kind of entry.
pub const STREAMS_PER_CONNECTION: u32 = 16;

/// Streams of all connections at a time.
pub const STREAMS: usize = 1024;

/// Bytes of one message. Envoy sends what it has when 16 KiB are together (`buffer_size_bytes`), so a message
/// is larger only by its last entry, which is at most twice a request's headers (60 KiB unless it is told otherwise).
pub const MESSAGE: usize = 192 << 10;

/// Bytes that a stream may send ahead of us.
pub const STREAM_WINDOW: u32 = 128 << 10;

/// Bytes that all streams of a connection together may send ahead of us.
pub const CONNECTION_WINDOW: u32 = 128 << 10;

/// What peers of one kind can make grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Streams of all connections at a time.
    pub streams: usize,
    /// Bytes of one message.
    pub message: usize,
    /// Bytes that a stream may send ahead of us.
    pub stream_window: u32,
    /// Bytes that all streams of a connection together may send ahead of us.
    pub connection_window: u32,
}

impl Limits {
    /// Those of the global proxies.
    pub const GLOBAL_PROXY: Self = Self {
        connections: CONNECTIONS,
        streams: STREAMS,
        message: MESSAGE,
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
    };

    /// Those of ordinary sidecars, which are many and say little: each worker thread of each has a connection, with a
    /// stream for each kind of entry. The first message of a stream also tells all about its node.
    pub const SIDECARS: Self = Self {
        connections: 768,
        streams: 1280,
        message: 64 << 10,
        stream_window: 64 << 10,
        connection_window: 64 << 10,
    };

    /// Bytes that all peers together can make us hold: a message of every stream, and what was sent ahead.
    #[must_use]
    pub const fn memory(self) -> usize {
        self.streams * self.message + self.connections * self.connection_window as usize
    }
}

// Half of what the chart lets the operator have, and a quarter more where sidecars stream too.
const _: () = assert!(Limits::GLOBAL_PROXY.memory() <= 256 << 20);
const _: () = assert!(Limits::SIDECARS.memory() <= 128 << 20);

/// Observations that are handed over in one piece, so that the length of the owner's queue bounds its memory.
pub const BATCH: usize = 1024;
