//! What became of a load.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Options;
use crate::app::{Outcome, Retried};

/// The most different errors that are told apart.
const ERRORS: usize = 500;

/// What became of a load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// When the first request was sent.
    pub started: Timestamp,
    /// When the last answer came.
    pub ended: Timestamp,
    /// Requests.
    pub sent: u64,
    /// Requests whose answer was a success.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Requests over a new connection of their own.
    pub fresh: u64,
    /// Requests sent again because the kept connection was closed before they were written, or the server
    /// said that it had not processed them.
    pub retried_stale: u64,
    /// Idempotent requests sent again because the kept connection was closed before the first byte of an
    /// answer, when they were written already.
    pub retried_unanswered: u64,
    /// The longest that a request was sent after it was due, in milliseconds: more than a few, and this side
    /// was short of CPU.
    pub late_ms_max: f64,
    /// Time of successful requests, the wait for a kept connection included.
    pub latency_ms: Latency,
    /// Failures, grouped by address and text, the earliest first.
    pub errors: Vec<ErrorGroup>,
    /// The same by address.
    pub urls: BTreeMap<String, UrlSummary>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50: f64,
    /// 99 % of the requests took no longer.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// Equal failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorGroup {
    /// The address.
    pub url: String,
    /// What went wrong.
    pub error: String,
    /// How often.
    pub count: u64,
    /// When the first one ended.
    pub first: Timestamp,
    /// When the last one ended.
    pub last: Timestamp,
}

/// What became of the requests to one address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UrlSummary {
    /// Requests.
    pub sent: u64,
    /// Successes.
    pub ok: u64,
    /// Failures.
    pub failed: u64,
    /// Time of the successes.
    pub latency_ms: Latency,
    /// Who answered, as `name` or `name/pod`, and how often.
    pub answered: BTreeMap<String, u64>,
}

/// One request's end.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) route: usize,
    pub(super) fresh: bool,
    pub(super) outcome: Outcome,
    pub(super) ended: Timestamp,
}

/// A failure's line in the file.
#[derive(Serialize)]
struct Failure<'a> {
    time: Timestamp,
    fresh: bool,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

struct Times {
    all: Histogram<u64>,
    urls: Vec<Histogram<u64>>,
}

/// Counts what becomes of the requests.
pub(super) struct Recorder {
    summary: Summary,
    urls: Vec<(String, UrlSummary)>,
    times: Times,
    errors: HashMap<(usize, String), ErrorGroup>,
    failures: Option<File>,
}

impl Recorder {
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        // Three digits are kept of each time; the range grows as needed.
        let histogram = Histogram::new(3).context("making a histogram")?;
        let failures = options.failures.as_ref().map(|path| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.with_context(|| format!("opening {}", path.display()))
        });
        let named = |target: &crate::app::Target| (target.url.clone(), UrlSummary::default());
        Ok(Self {
            summary: Summary { started: Timestamp::now(), ..Summary::default() },
            urls: options.urls.iter().map(named).collect(),
            times: Times { urls: vec![histogram.clone(); options.urls.len()], all: histogram },
            errors: HashMap::new(),
            failures: failures.transpose()?,
        })
    }

    /// Counts until all senders are gone.
    pub(super) async fn run(mut self, mut records: mpsc::Receiver<Record>) -> anyhow::Result<Summary> {
        while let Some(record) = records.recv().await {
            self.count(&record)?;
            if !record.outcome.ok {
                self.failure(record)?;
            }
        }
        Ok(self.finish())
    }

    fn count(&mut self, record: &Record) -> anyhow::Result<()> {
        let outcome = &record.outcome;
        let (summary, (_, url)) = (&mut self.summary, &mut self.urls[record.route]);
        summary.sent += 1;
        url.sent += 1;
        summary.fresh += u64::from(record.fresh);
        summary.retried_stale += u64::from(outcome.retried == Some(Retried::Stale));
        summary.retried_unanswered += u64::from(outcome.retried == Some(Retried::Unanswered));
        if let Some(name) = &outcome.name {
            let who = outcome.pod.as_ref().map_or_else(|| name.clone(), |pod| format!("{name}/{pod}"));
            *url.answered.entry(who).or_default() += 1;
        }
        let counts = if outcome.ok {
            let micros = microseconds(outcome.elapsed_ms);
            // Not the saturating kind: that never lets the range grow, and cuts times off.
            self.times.all.record(micros).context("recording a time")?;
            self.times.urls[record.route].record(micros).context("recording a time")?;
            [&mut summary.ok, &mut url.ok]
        } else {
            [&mut summary.failed, &mut url.failed]
        };
        for count in counts {
            *count += 1;
        }
        Ok(())
    }

    fn failure(&mut self, record: Record) -> anyhow::Result<()> {
        let ended = milliseconds_only(record.ended);
        if let Some(file) = &mut self.failures {
            let line = Failure { time: ended, fresh: record.fresh, outcome: &record.outcome };
            // One write, so that lines of several loads into one file do not mix.
            let line = format!("{}\n", serde_json::to_string(&line)?);
            file.write_all(line.as_bytes()).context("writing a failure")?;
        }
        let mut error = record.outcome.error.unwrap_or_default();
        if self.errors.len() >= ERRORS && !self.errors.contains_key(&(record.route, error.clone())) {
            "other errors".clone_into(&mut error);
        }
        let group = self.errors.entry((record.route, error.clone())).or_insert_with(|| ErrorGroup {
            url: record.outcome.url,
            error,
            count: 0,
            first: ended,
            last: ended,
        });
        group.count += 1;
        group.first = group.first.min(ended);
        group.last = group.last.max(ended);
        Ok(())
    }

    fn finish(mut self) -> Summary {
        let mut errors: Vec<_> = self.errors.into_values().collect();
        errors.sort_by(|one, other| {
            (one.first, &one.url, &one.error).cmp(&(other.first, &other.url, &other.error))
        });
        for ((_, url), times) in self.urls.iter_mut().zip(&self.times.urls) {
            url.latency_ms = latency(times);
        }
        Summary {
            started: milliseconds_only(self.summary.started),
            ended: milliseconds_only(Timestamp::now()),
            latency_ms: latency(&self.times.all),
            errors,
            urls: self.urls.into_iter().collect(),
            ..self.summary
        }
    }
}

fn latency(times: &Histogram<u64>) -> Latency {
    let at = |quantile| milliseconds(Duration::from_micros(times.value_at_quantile(quantile)));
    Latency { p50: at(0.5), p99: at(0.99), max: milliseconds(Duration::from_micros(times.max())) }
}

/// Milliseconds with three digits after the point.
pub(super) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn microseconds(milliseconds: f64) -> u64 {
    let time = Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds_only(time: Timestamp) -> Timestamp {
    time.round(Unit::Millisecond).unwrap_or(time)
}
