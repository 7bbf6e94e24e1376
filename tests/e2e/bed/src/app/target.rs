//! An address to call, and the protocol to speak there.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP over TLS, in the version that ALPN gives; the certificate is not verified.
    Https,
    /// HTTP/2 in clear text with prior knowledge.
    H2c,
    /// A unary gRPC call in clear text.
    Grpc,
    /// A bidirectional gRPC stream in clear text.
    GrpcStream,
    /// A WebSocket over HTTP/1.1.
    Ws,
    /// Lines over TCP, the client speaks first.
    Tcp,
    /// Lines over TCP, the server speaks first.
    TcpServerFirst,
    /// Lines over TLS, the client speaks first; the certificate is not verified.
    Tls,
}

const SCHEMES: [(&str, Scheme, Option<u16>); 9] = [
    ("http", Scheme::Http, Some(80)),
    ("https", Scheme::Https, Some(443)),
    ("h2c", Scheme::H2c, Some(80)),
    ("grpc", Scheme::Grpc, Some(80)),
    ("grpc-stream", Scheme::GrpcStream, Some(80)),
    ("ws", Scheme::Ws, Some(80)),
    ("tcp", Scheme::Tcp, None),
    ("tcp-server-first", Scheme::TcpServerFirst, None),
    ("tls", Scheme::Tls, Some(443)),
];

impl Scheme {
    /// Whether a connection carries requests one after another, each of which may be sent again when the
    /// connection turns out to be closed. The others are one long conversation.
    #[must_use]
    pub fn has_requests(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::H2c | Self::Grpc)
    }
}

/// Why an address cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no URL.
    #[error("{0}: not an address such as http://reviews:9080/reviews/0")]
    Malformed(String),
    /// Its scheme names no protocol that the client speaks.
    #[error(
        "{0}: the scheme must be one of http, https, h2c, grpc, grpc-stream, ws, tcp, tcp-server-first, tls"
    )]
    Scheme(String),
    /// It names no port, and its scheme has none by default.
    #[error("{0}: a port is needed")]
    Port(String),
}

/// An address to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address as it was given.
    pub url: String,
    /// The protocol.
    pub scheme: Scheme,
    /// The name or IP address to connect to, without brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// Host and port as they were given: the authority of requests.
    pub authority: String,
    /// Path and query; `/ws` for a WebSocket and `/` else, where none was given.
    pub path: PathAndQuery,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(url: &str) -> Result<Self, TargetError> {
        let malformed = || TargetError::Malformed(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let name = uri.scheme_str().ok_or_else(malformed)?;
        let (_, scheme, default) = *SCHEMES
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| TargetError::Scheme(url.to_owned()))?;
        let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or_else(malformed)?;
        let port = authority.port_u16().or(default).ok_or_else(|| TargetError::Port(url.to_owned()))?;
        Ok(Self {
            url: url.to_owned(),
            scheme,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: path(&uri, scheme),
        })
    }
}

fn path(uri: &Uri, scheme: Scheme) -> PathAndQuery {
    match uri.path_and_query() {
        Some(path) if scheme != Scheme::Ws || path.as_str() != "/" => path.clone(),
        _ if scheme == Scheme::Ws => PathAndQuery::from_static("/ws"),
        _ => PathAndQuery::from_static("/"),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::{Scheme, Target, TargetError};

    #[test]
    fn addresses_are_understood() {
        let cases = [
            (
                "http://reviews:9080/reviews/0?a=b",
                Scheme::Http,
                "reviews",
                9080,
                "reviews:9080",
                "/reviews/0?a=b",
            ),
            ("http://reviews", Scheme::Http, "reviews", 80, "reviews", "/"),
            ("https://[::1]/", Scheme::Https, "::1", 443, "[::1]", "/"),
            ("grpc-stream://a.b:1", Scheme::GrpcStream, "a.b", 1, "a.b:1", "/"),
            ("ws://a:1", Scheme::Ws, "a", 1, "a:1", "/ws"),
            ("ws://a:1/chat", Scheme::Ws, "a", 1, "a:1", "/chat"),
            ("tcp-server-first://a:1", Scheme::TcpServerFirst, "a", 1, "a:1", "/"),
        ];
        for (url, scheme, host, port, authority, path) in cases {
            let target: Target = url.parse().unwrap();
            let seen = (target.scheme, target.host.as_str(), target.port, target.authority.as_str());
            assert_eq!(seen, (scheme, host, port, authority), "{url}");
            assert_eq!(target.path.as_str(), path, "{url}");
        }
    }

    #[test]
    fn wrong_addresses_are_refused() {
        let url = |text: &str| text.to_owned();
        assert_eq!("tcp://a".parse::<Target>(), Err(TargetError::Port(url("tcp://a"))));
        assert_eq!("ftp://a".parse::<Target>(), Err(TargetError::Scheme(url("ftp://a"))));
        assert_eq!("reviews:9080".parse::<Target>(), Err(TargetError::Malformed(url("reviews:9080"))));
        assert_eq!("".parse::<Target>(), Err(TargetError::Malformed(String::new())));
    }
}
