//! Why a call failed, and whether the request may be sent again.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::app::Retried;

/// Why a call failed. The texts of equal causes are equal, so that they can be counted.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The name has no address, or the DNS server did not answer.
    #[error("name not resolved: {0}")]
    Resolve(io::Error),
    /// No connection was made to any of the name's addresses.
    #[error("not connected: {0}")]
    Connect(io::Error),
    /// TLS was not agreed upon.
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    /// The time for the call ran out.
    #[error("timed out after {0:?} {1}")]
    Timeout(Duration, &'static str),
    /// The peer ended the connection where an answer was due.
    #[error("closed by the peer {0}")]
    Closed(&'static str),
    /// The connection broke.
    #[error("{0}")]
    Transport(String),
    /// The server's status is an error's; the text begins with its separator.
    #[error("status {0}{1}")]
    Status(u16, String),
    /// The gRPC status is not OK.
    #[error("gRPC status {0}: {1}")]
    Grpc(u16, String),
    /// The answer is not the one that the stand-in gives.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// The request cannot be written as asked.
    #[error("request not possible: {0}")]
    Request(String),
}

impl CallError {
    /// The error with all its causes.
    pub(super) fn transport(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        for cause in causes(error).skip(1) {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        Self::Transport(text)
    }

    /// The status that came with the failure.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status, _) | Self::Grpc(status, _) => Some(*status),
            _ => None,
        }
    }
}

/// A failed exchange on an open connection.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: CallError,
    /// As what the request may be sent again, if it was sent on a reused connection.
    pub(super) replay: Option<Retried>,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self { error, replay: None }
    }
}

impl Failure {
    /// The request was never written, or surely not processed.
    pub(super) fn stale(error: CallError) -> Self {
        Self { error, replay: Some(Retried::Stale) }
    }

    /// The request was written, and the connection closed before any byte of an answer.
    pub(super) fn unanswered(error: CallError) -> Self {
        Self { error, replay: Some(Retried::Unanswered) }
    }
}

/// What became of a gRPC request on its way to the connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Hyper gave the request back: nothing of it was written.
    #[error("{0}")]
    Unwritten(#[source] hyper::Error),
    /// It may have been written.
    #[error("{0}")]
    Written(#[source] hyper::Error),
}

/// The error and its causes, outermost first.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// Whether the request was never written, or the server said that it did not process it: a refused stream,
/// or one that came after the last that a GOAWAY names (RFC 9113, sections 8.7 and 6.8).
pub(super) fn unprocessed(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let unwritten = matches!(cause.downcast_ref(), Some(SendError::Unwritten(_)));
        let refused = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
            error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        });
        unwritten || refused
    })
}

/// Whether the peer closed or reset the connection.
pub(super) fn closed(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let closed_io = cause.downcast_ref::<io::Error>().is_some_and(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        });
        let closed_http = cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(|error| error.is_incomplete_message() || error.is_closed() || error.is_canceled());
        closed_io || closed_http
    })
}
