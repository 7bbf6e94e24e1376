//! Asking Prometheus: bounded in time and in size, whatever it answers.

use std::path::PathBuf;
use std::time::Duration;

use prometheus_http_query::response::InstantVector;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::settings::{Settings, SettingsError};

/// Bytes of one answer, if nobody says less: some 150,000 pairs. A query with a larger one has to say less.
const ANSWER: usize = 32 << 20;
/// Characters of what Prometheus says of an error that go into our log.
const MESSAGE: usize = 300;

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub(in crate::sources) enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it refused: {0}")]
    Refused(String),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the answer is no instant vector: {0}")]
    Unreadable(String),
    #[error("the bearer token cannot be read: {0}")]
    Token(String),
}

impl Failure {
    /// A word for metrics: one of a few.
    pub(in crate::sources) fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::TooLarge(_) => "too_large",
            Self::Unreadable(_) => "unreadable",
            Self::Token(_) => "token",
        }
    }
}

/// A way to ask.
pub(in crate::sources) struct Client {
    http: prometheus_http_query::Client,
    token_file: Option<PathBuf>,
    timeout: Duration,
    largest: usize,
}

impl Client {
    pub(in crate::sources) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        // The one of the client for the API server; installing it twice does no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if !settings.url.starts_with("http://") && !settings.url.starts_with("https://") {
            return Err(SettingsError::Url(settings.url.clone()));
        }
        let timeout = Duration::try_from(settings.timeout).unwrap_or_default();
        let mut builder = reqwest::Client::builder()
            .default_headers(headers(settings)?)
            .redirect(Policy::none())
            .user_agent(concat!("palisade/", env!("CARGO_PKG_VERSION")));
        for certificate in certificates(settings)? {
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder.build().map_err(|error| SettingsError::Client(chain(&error)))?;
        let http = prometheus_http_query::Client::from(client, &settings.url)
            .map_err(|error| SettingsError::Url(error.to_string()))?;
        Ok(Self { http, token_file: settings.bearer_token_file.clone(), timeout, largest: ANSWER })
    }

    /// The same, for answers of so many bytes at most.
    pub(in crate::sources) fn at_most(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// The bytes of the answer to a query.
    pub(in crate::sources) async fn ask(&self, query: &str) -> Result<Vec<u8>, Failure> {
        tokio::time::timeout(self.timeout, self.answer(query)).await.map_err(|_| Failure::Timeout)?
    }

    async fn answer(&self, query: &str) -> Result<Vec<u8>, Failure> {
        let limit = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        let mut request = self.http.query(query).timeout(limit);
        if let Some(token) = self.token().await? {
            request = request.header(AUTHORIZATION, token);
        }
        let response = request.post_raw().await.map_err(|error| Failure::Unreachable(chain(&error)))?;
        let (status, body) = (response.status(), body(response, self.largest).await?);
        // Prometheus says with 400, 422 and 503 what is wrong; anything else comes from something in between.
        if status.is_success() || matches!(status.as_u16(), 400 | 422 | 503) {
            return Ok(body);
        }
        Err(Failure::Refused(status.to_string()))
    }

    async fn token(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text =
            tokio::fs::read_to_string(file).await.map_err(|error| Failure::Token(error.to_string()))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))
            .map_err(|_| Failure::Token("it is no header".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

async fn body(mut response: Response, largest: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Unreachable(chain(&error)))? {
        if body.len() + chunk.len() > largest {
            return Err(Failure::TooLarge(largest));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An answer of Prometheus's HTTP API.
#[derive(Deserialize)]
struct Answer {
    data: Option<Vector>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<InstantVector>,
}

/// The series of an answer.
pub(in crate::sources) struct Series {
    pub(in crate::sources) all: Vec<InstantVector>,
    /// Whether some may be missing: warnings came along, as when a remote store did not answer.
    pub(in crate::sources) in_part: bool,
}

/// Reads an answer. Takes time with a long one.
pub(in crate::sources) fn read(body: &[u8]) -> Result<Series, Failure> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| Failure::Unreadable(shortened(&error.to_string())))?;
    match answer {
        Answer { error: Some(error), .. } => Err(Failure::Refused(shortened(&error))),
        Answer { data: Some(data), warnings, .. } => {
            Ok(Series { all: data.result, in_part: !warnings.is_empty() })
        }
        Answer { .. } => Err(Failure::Unreadable("it has no data".to_owned())),
    }
}

fn headers(settings: &Settings) -> Result<HeaderMap, SettingsError> {
    let header = |(name, value): (&String, &String)| {
        let valid = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        valid.ok_or_else(|| SettingsError::Header(name.clone()))
    };
    settings.headers.iter().map(header).collect()
}

fn certificates(settings: &Settings) -> Result<Vec<reqwest::Certificate>, SettingsError> {
    let Some(file) = &settings.ca_file else { return Ok(Vec::new()) };
    let wrong = |error: &dyn std::error::Error| SettingsError::Ca(format!("{}: {error}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    reqwest::Certificate::from_pem_bundle(&text).map_err(|error| wrong(&error))
}

/// An error with all its causes: the outermost one says little.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    shortened(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(body: &str) -> Result<(usize, bool), &'static str> {
        read(body.as_bytes())
            .map(|series| (series.all.len(), series.in_part))
            .map_err(|failure| failure.label())
    }

    #[test]
    fn only_an_instant_vector_is_an_answer() {
        let series = r#"{"metric": {"a": "b"}, "value": [1700000000.1, "1"]}"#;
        let vector = |more: &str| {
            format!(
                r#"{{"status": "success", "data": {{"resultType": "vector", "result": [{series}]}}{more}}}"#
            )
        };
        let cases = [
            (vector(""), Ok((1, false))),
            (vector(r#", "infos": ["metric might not be a counter"]"#), Ok((1, false))),
            (vector(r#", "warnings": ["some shard is away"], "infos": ["x"]"#), Ok((1, true))),
            (
                r#"{"status": "success", "data": {"resultType": "vector", "result": []}}"#.to_owned(),
                Ok((0, false)),
            ),
            (
                r#"{"status": "error", "errorType": "timeout", "error": "query timed out"}"#.to_owned(),
                Err("refused"),
            ),
            (
                r#"{"data": {"resultType": "scalar", "result": [1700000000, "1"]}}"#.to_owned(),
                Err("unreadable"),
            ),
            (r#"{"data": {"result": [{"metric": {}, "values": [[1, "1"]]}]}}"#.to_owned(), Err("unreadable")),
            (r#"{"data": {"result": [{"metric": {}, "value": [1, "many"]}]}}"#.to_owned(), Err("unreadable")),
            (r#"{"status": "success"}"#.to_owned(), Err("unreadable")),
            ("<html>sign in</html>".to_owned(), Err("unreadable")),
            (String::new(), Err("unreadable")),
            ("[".repeat(100_000), Err("unreadable")),
        ];
        for (body, expected) in cases {
            assert_eq!(outcome(&body), expected, "{}", shortened(&body));
        }
    }

    #[test]
    fn what_it_says_of_an_error_is_cut() {
        let body = format!(r#"{{"error": "{}"}}"#, "é".repeat(10_000));
        let failure = read(body.as_bytes()).err().map(|failure| failure.to_string()).unwrap();
        assert!(failure.chars().count() < MESSAGE + 100);
    }
}
