//! What a client speaks, by its first bytes.

use std::io::Cursor;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Chain, Join, ReadHalf, WriteHalf};
use tokio::time::timeout;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http1,
    Http2,
    Tls,
    Raw,
}

/// A stream whose first bytes are read once more.
pub(super) type Detected<S> = Join<Chain<Cursor<Vec<u8>>, ReadHalf<S>>, WriteHalf<S>>;

/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of a TLS record with a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE "];
/// How long a start that may become several things is waited upon, before it counts as raw.
const UNDECIDED: Duration = Duration::from_secs(2);

/// Reads until the protocol is known. A silent client is waited for without limit: a connection held open
/// for later is nothing unusual.
pub(super) async fn detect<S: AsyncRead + AsyncWrite>(stream: S) -> std::io::Result<(Kind, Detected<S>)> {
    let (mut reader, writer) = tokio::io::split(stream);
    let mut start = Vec::with_capacity(1024);
    reader.read_buf(&mut start).await?;
    let kind = loop {
        if let Some(kind) = kind(&start) {
            break kind;
        }
        match timeout(UNDECIDED, reader.read_buf(&mut start)).await {
            Ok(Ok(1..)) => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(0)) | Err(_) => break Kind::Raw,
        }
    };
    Ok((kind, tokio::io::join(Cursor::new(start).chain(reader), writer)))
}

/// What `start` begins, or `None` while it may become several things.
fn kind(start: &[u8]) -> Option<Kind> {
    let may_be = |whole: &[u8]| whole.starts_with(start);
    if start.is_empty() {
        // The client has closed without a word.
        return Some(Kind::Raw);
    }
    if start[0] == HANDSHAKE {
        return Some(Kind::Tls);
    }
    if start.starts_with(PREFACE) {
        return Some(Kind::Http2);
    }
    if METHODS.iter().any(|method| start.starts_with(method)) {
        return Some(Kind::Http1);
    }
    let undecided = may_be(PREFACE) || METHODS.iter().any(|method| may_be(method));
    if undecided { None } else { Some(Kind::Raw) }
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind};

    #[test]
    fn the_first_bytes_tell() {
        let cases: [(&[u8], Option<Kind>); 9] = [
            (b"GET / HTTP/1.1\r\n", Some(Kind::Http1)),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Some(Kind::Http2)),
            (b"PATCH", None),
            (b"PING\n", Some(Kind::Raw)),
            (b"\x16\x03\x01", Some(Kind::Tls)),
            (b"hello\n", Some(Kind::Raw)),
            (b"", Some(Kind::Raw)),
        ];
        for (start, expected) in cases {
            assert_eq!(kind(start), expected, "{start:?}");
        }
    }
}
