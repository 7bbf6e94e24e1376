//! What a server says about itself, and what a client reports about a call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A server's answer: who it is, and how it saw the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The server's name (its container's).
    pub name: String,
    /// The Pod it runs in; empty outside a Pod.
    pub pod: String,
    /// The Pod's namespace; empty outside a Pod.
    pub namespace: String,
    /// The port that the request came to.
    pub port: u16,
    /// `HTTP/1.1`, `HTTP/2`, `grpc`, `websocket`, `tcp`.
    pub protocol: String,
    /// Whether the server itself terminated TLS.
    pub tls: bool,
    /// The server name in the `ClientHello`, where the server terminated TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The authority as received (`Host` or `:authority`).
    pub host: String,
    /// The peer's address and port.
    pub remote: String,
    /// The request's headers; several values are joined by a comma.
    pub headers: BTreeMap<String, String>,
    /// The caller's SPIFFE id, as the sidecar put it into `x-forwarded-client-cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Bytes of the request's body.
    pub received: u64,
    /// What came of the calls that the server made for this request.
    pub calls: Vec<Outcome>,
}

/// Why a request was sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retried {
    /// The reused connection had been closed before anything of the request was written, or the server
    /// said that it had not processed the request: safe with any method.
    Stale,
    /// The request was written on a reused connection, which closed before the first byte of an answer.
    /// Clients such as Go's send an idempotent request again then.
    Unanswered,
}

/// What came of one call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The address called.
    pub url: String,
    /// Whether an answer came, and its status was not an error's.
    pub ok: bool,
    /// The HTTP status, or for gRPC the gRPC status code (0 is success).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The protocol that the client spoke.
    pub protocol: String,
    /// The name of the server that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Pod that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The namespace of the Pod that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The authority that the server saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The caller's SPIFFE id that the server saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Milliseconds from the start to the end of the call, a retry included.
    pub elapsed_ms: f64,
    /// Whether and why the request was sent twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retried: Option<Retried>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The calls that the server made for this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Outcome>,
    /// The whole answer, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<Answer>>,
}

/// The caller's SPIFFE id in an `x-forwarded-client-cert` header.
///
/// Envoy appends one element for each proxy on the way, separated by commas; the last is the nearest
/// caller's. `URI` is the caller's, `By` the proxy's own.
pub(super) fn identity(forwarded: &str) -> Option<String> {
    let nearest = split_unquoted(forwarded, ',').last()?;
    split_unquoted(nearest, ';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case("uri"))
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Splits where `separator` is outside double quotes: a certificate's subject may hold both separators.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn identity_is_the_nearest_callers() {
        let cases = [
            (
                "By=spiffe://td/ns/b/sa/b;Hash=00;Subject=\"\";URI=spiffe://td/ns/a/sa/a",
                Some("spiffe://td/ns/a/sa/a"),
            ),
            (
                "By=x;URI=spiffe://td/one,By=y;Subject=\"CN=a,O=b;c\";URI=spiffe://td/two",
                Some("spiffe://td/two"),
            ),
            ("By=spiffe://td/ns/b/sa/b;Hash=00", None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(identity(header).as_deref(), expected, "{header}");
        }
    }
}
