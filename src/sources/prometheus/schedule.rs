//! When to ask, and how far back. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};

/// The longest pause between two tries while Prometheus does not answer.
const LONGEST: Duration = Duration::from_mins(5);
/// More namespaces than these are not listed in a query: it asks for all.
const NAMESPACES: usize = 64;
/// The regular expression of every namespace.
pub(super) const ALL: &str = ".+";

/// When something that is done again and again is due: after failures later and later, at random within bounds.
#[derive(Debug)]
pub(in crate::sources) struct Pace {
    interval: Duration,
    due: Instant,
    failures: usize,
    longest: Duration,
}

impl Pace {
    /// Due at once, and after each success `interval` later.
    pub(in crate::sources) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, due: now, failures: 0, longest: LONGEST }
    }

    /// The same, with no longer pause than this.
    pub(in crate::sources) fn at_most(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// When it is due.
    pub(in crate::sources) fn due(&self) -> Instant {
        self.due
    }

    pub(in crate::sources) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    pub(in crate::sources) fn done(&mut self, success: bool, now: Instant) {
        self.failures = if success { 0 } else { self.failures + 1 };
        self.due = now + if success { self.interval } else { self.delay() };
    }

    fn delay(&self) -> Duration {
        let shortest = self.interval.max(Duration::from_secs(1));
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(self.longest.max(shortest))
            .with_jitter()
            .without_max_times()
            .build();
        delays.nth(self.failures.clamp(1, 20) - 1).unwrap_or(self.longest)
    }
}

/// How far back a query has to look: over the window, and over all the time since it was answered last.
pub(super) fn window(
    answered: Option<Timestamp>,
    now: Timestamp,
    least: SignedDuration,
    most: SignedDuration,
) -> SignedDuration {
    let missed = answered.map_or(SignedDuration::ZERO, |last| now.duration_since(last));
    missed.max(SignedDuration::ZERO).saturating_add(least).min(most.max(least))
}

/// A query with its placeholders filled in.
pub(super) fn fill(query: &str, window: SignedDuration, namespaces: &str) -> String {
    query.replace("$window", &format!("{}s", window.as_secs())).replace("$namespaces", namespaces)
}

/// A regular expression of namespaces, whose names need no escaping (RFC 1123 labels).
pub(super) fn expression(namespaces: &BTreeSet<Arc<str>>) -> String {
    if namespaces.len() > NAMESPACES {
        return ALL.to_owned();
    }
    namespaces.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_looks_back_to_where_its_last_answer_ended() {
        let (least, most) = (SignedDuration::from_mins(5), SignedDuration::from_hours(24));
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000);
        let back =
            |seconds: i64| window(Some(now - SignedDuration::from_secs(seconds)), now, least, most).as_secs();
        assert_eq!(window(None, now, least, most), least, "there is no last answer");
        assert_eq!(back(30), 330);
        assert_eq!(back(3600), 3900, "an hour's outage is made up for");
        assert_eq!(back(10 * 86_400), 86_400, "but no more than what is history");
        assert_eq!(back(-60), 300, "a clock that was set back");
    }

    #[test]
    fn failures_make_tries_rarer_and_a_success_ends_that() {
        let (start, interval) = (Instant::now(), Duration::from_secs(30));
        let mut pace = Pace::new(interval, start);
        assert!(pace.is_due(start));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.done(false, start);
            pauses.push(pace.due - start);
        }
        assert!(pauses[0] >= interval && pauses[0] <= interval * 2, "{pauses:?}");
        assert!(pauses[1] >= interval * 2 && pauses[7] >= LONGEST && pauses[7] <= LONGEST * 2, "{pauses:?}");
        pace.done(true, start);
        assert!(!pace.is_due(start + interval / 2) && pace.is_due(start + interval));
    }

    #[test]
    fn a_query_names_a_few_namespaces_or_all() {
        let names = |count: usize| (0..count).map(|number| format!("ns-{number}").into()).collect();
        assert_eq!(expression(&names(2)), "ns-0|ns-1");
        assert_eq!(expression(&names(NAMESPACES + 1)), ALL);
        let filled =
            fill("x{n=~\"$namespaces\"}[$window] offset $window", SignedDuration::from_mins(5), "a|b");
        assert_eq!(filled, "x{n=~\"a|b\"}[300s] offset 300s");
    }
}
