use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::graph::ObjectKey;
use crate::limiter::{Metric, Reading};

/// What is wanted and known for limiters: shared by who decides about them, and who asks.
#[derive(Clone, Debug, Default)]
pub struct Readings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    of: Mutex<HashMap<ObjectKey, OfLimiter>>,
    more: Notify,
}

/// What is known for a limiter.
#[derive(Clone, Debug, Default)]
pub struct OfLimiter {
    /// What was answered.
    pub readings: BTreeMap<Metric, Reading>,
    /// Since when metrics have said otherwise than the condition of a limit does, by the limit. Not durable: after a restart,
    /// that time begins anew.
    pub differing: BTreeMap<String, Timestamp>,
}

/// A metric that is wanted for a limiter, and when it was answered last.
pub(super) type Wanted = (ObjectKey, Metric, Option<Timestamp>);

impl Readings {
    /// What is known for a limiter.
    #[must_use]
    pub fn of(&self, limiter: &ObjectKey) -> OfLimiter {
        self.lock().get(limiter).cloned().unwrap_or_default()
    }

    /// Says what is wanted for a limiter, and nothing else: what is new is asked for at once.
    pub fn want(
        &self,
        limiter: &ObjectKey,
        metrics: BTreeSet<Metric>,
        differing: BTreeMap<String, Timestamp>,
        now: Timestamp,
    ) {
        let mut all = self.lock();
        if metrics.is_empty() {
            all.remove(limiter);
            return;
        }
        let mut old = all.remove(limiter).unwrap_or_default().readings;
        let mut is_new = false;
        let readings = metrics.into_iter().map(|metric| {
            let reading = old.remove(&metric);
            is_new |= reading.is_none();
            (metric, reading.unwrap_or_else(|| Reading::wanted(now)))
        });
        let readings = readings.collect();
        all.insert(limiter.clone(), OfLimiter { readings, differing });
        if is_new {
            self.0.more.notify_one();
        }
    }

    /// Forgets a limiter.
    pub fn forget(&self, limiter: &ObjectKey) {
        self.lock().remove(limiter);
    }

    /// Waits until something new is wanted.
    pub(super) async fn more(&self) {
        self.0.more.notified().await;
    }

    /// What is wanted; only what was never asked for, if `new`.
    pub(super) fn wanted(&self, new: bool) -> Vec<Wanted> {
        let all = self.lock();
        let metrics = all.iter().flat_map(|(key, of)| of.readings.iter().map(move |reading| (key, reading)));
        let metrics =
            metrics.filter(|(_, (_, reading))| !new || (reading.last.is_none() && reading.failure.is_none()));
        metrics
            .map(|(key, (metric, reading))| {
                (key.clone(), metric.clone(), reading.last.as_ref().map(|(_, at)| *at))
            })
            .collect()
    }

    /// Notes what was answered, and tells whether that may change a decision.
    pub(super) fn answered(
        &self,
        limiter: &ObjectKey,
        metric: &Metric,
        answer: Result<BTreeMap<String, f64>, String>,
        now: Timestamp,
    ) -> bool {
        let mut all = self.lock();
        let Some(reading) = all.get_mut(limiter).and_then(|of| of.readings.get_mut(metric)) else {
            return false;
        };
        match answer {
            Ok(values) => {
                let failed = reading.failure.take().is_some();
                let old = reading.last.replace((values, now));
                failed
                    || old.map(|(values, _)| values).as_ref()
                        != reading.last.as_ref().map(|(values, _)| values)
            }
            Err(failure) => reading.failure.replace(failure).is_none(),
        }
    }

    /// How many metrics are wanted, and of how many the last answer is one.
    pub(super) fn count(&self) -> (usize, usize) {
        let all = self.lock();
        let readings = || all.values().flat_map(|of| of.readings.values());
        let is_answered = |reading: &&Reading| reading.last.is_some() && reading.failure.is_none();
        (readings().count(), readings().filter(is_answered).count())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, OfLimiter>> {
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
