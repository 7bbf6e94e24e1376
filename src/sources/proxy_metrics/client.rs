//! Asking one proxy: bounded in time and in size, whatever it answers, and nothing of the answer is kept.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::redirect::Policy;

use super::settings::{Settings, SettingsError};

/// Bytes of one answer. Envoy leaves out what is not asked for, so it is a few KiB; one of another kind may be large.
const ANSWER: usize = 32 << 20;
/// Bytes of one line. A longer one is skipped.
const LINE: usize = 16 << 10;
/// What is asked: Istio's counters of calls and Envoy's of connections, as far as they have ever been counted. Envoy's
/// `filter` is a regular expression over its own names of statistics.
const QUERY: &str = "/stats/prometheus?usedonly&filter=istio_requests_total%7Cistio_tcp_connections_opened_total\
                     %7Cupstream_cx_total%7Cupstream_cx_active";

/// Why a proxy did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it refused: {0}")]
    Refused(String),
    #[error("the answer is larger than {ANSWER} bytes")]
    TooLarge,
}

impl Failure {
    /// A word for metrics: one of a few.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::TooLarge => "too_large",
        }
    }

    /// Whether it may go better soon: the proxy may be about to start.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Refused(_))
    }
}

/// A way to ask.
pub(super) struct Client {
    http: reqwest::Client,
    port: u16,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        // The one of the client for the API server; installing it twice does no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            // Pods are asked themselves, wherever the environment sends other requests.
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("palisade/", env!("CARGO_PKG_VERSION")));
        let http = builder.build().map_err(|error| SettingsError::Client(error.to_string()))?;
        let timeout = Duration::try_from(settings.timeout).unwrap_or_default();
        Ok(Self { http, port: settings.port, timeout })
    }

    /// Asks the proxy at `address`, and has each line of its answer read; `None` for one that cannot be kept.
    pub(super) async fn ask(&self, address: IpAddr, read: impl FnMut(Option<&str>)) -> Result<(), Failure> {
        let answer = self.answer(SocketAddr::new(address, self.port), read);
        tokio::time::timeout(self.timeout, answer).await.map_err(|_| Failure::Timeout)?
    }

    async fn answer(&self, proxy: SocketAddr, mut read: impl FnMut(Option<&str>)) -> Result<(), Failure> {
        let unreachable = |error: reqwest::Error| Failure::Unreachable(error.without_url().to_string());
        let request = self.http.get(format!("http://{proxy}{QUERY}"));
        let mut response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(Failure::Refused(response.status().to_string()));
        }
        let (mut lines, mut length) = (Lines::default(), 0);
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            length += chunk.len();
            if length > ANSWER {
                return Err(Failure::TooLarge);
            }
            lines.push(&chunk, &mut read);
        }
        lines.end(&mut read);
        Ok(())
    }
}

/// Lines of bytes that come in pieces.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line of which the end has not come yet.
    begun: Vec<u8>,
    /// Whether that line is too long to be kept.
    skipping: bool,
}

impl Lines {
    /// Has the lines read that end in `bytes`.
    fn push(&mut self, mut bytes: &[u8], read: &mut impl FnMut(Option<&str>)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..at]);
            self.end(read);
            bytes = &bytes[at + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.skipping |= self.begun.len() + bytes.len() > LINE;
        if self.skipping {
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    /// Has what there is read as a line; `None` for one that is too long, or no text.
    fn end(&mut self, read: &mut impl FnMut(Option<&str>)) {
        let line = std::str::from_utf8(&self.begun).ok();
        read(line.filter(|_| !self.skipping));
        self.begun.clear();
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut read) = (Lines::default(), Vec::new());
        let mut reader = |line: Option<&str>| read.push(line.unwrap_or("unreadable").to_owned());
        for piece in pieces {
            lines.push(piece, &mut reader);
        }
        lines.end(&mut reader);
        read
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let long = vec![b'a'; LINE];
        assert_eq!(lines(&[b"one\n", &long, b"a\ntwo"]), ["one", "unreadable", "two"]);
        assert_eq!(lines(&[&long, b"\n"])[0].len(), LINE);
        assert_eq!(lines(&[b"\xff\nthree"]), ["unreadable", "three"]);
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(text in "[a-c\n]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let whole: Vec<_> = text.split('\n').map(str::to_owned).collect();
            prop_assert_eq!(lines(&pieces), whole);
        }
    }
}
