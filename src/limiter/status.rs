use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::Resource;

use super::limit::Limit;
use super::plan::name;
use super::refusal::Refusal;
use crate::api::{
    Descriptor, ENFORCED, LimiterSet, MetricsInUse, READY, Seconds, SmartLimiter, SmartLimiterStatus,
    Statement, Transition, reasons,
};

/// How many refusals a message tells; the rest is a number.
const TOLD: usize = 5;

/// What came of a limiter.
#[derive(Clone, Debug, Default)]
pub struct Report {
    limits: BTreeMap<String, LimiterSet>,
    material: BTreeMap<String, String>,
    in_use: BTreeMap<String, MetricsInUse>,
    refusals: Vec<Refusal>,
}

impl Report {
    pub(super) fn in_force(&mut self, subset: &str, descriptor: Descriptor) {
        self.limits.entry(subset.to_owned()).or_default().descriptor.push(descriptor);
    }

    pub(super) fn computed_from(&mut self, name: String, value: String) {
        self.material.insert(name, value);
    }

    /// Notes the metrics in use by a limit.
    pub(super) fn using(&mut self, limit: String, metrics: MetricsInUse) {
        self.in_use.insert(limit, metrics);
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// Notes why the limits of a subset are not in force.
    pub(super) fn leave_out_set(&mut self, subset: &str, refusal: Refusal) {
        self.limits.remove(subset);
        self.refuse(refusal);
    }

    /// Whether no limit is in force that the `EnvoyFilter` of this name would carry.
    pub(super) fn is_empty_of(&self, limiter: &SmartLimiter, filter: &str) -> bool {
        !self.limits.keys().any(|subset| name(limiter, subset) == filter)
    }

    /// Notes why the `EnvoyFilter` of this name is not there: the limits that it would carry are not in force.
    pub fn leave_out(&mut self, limiter: &SmartLimiter, filter: &str, reason: &'static str, message: &str) {
        self.limits.retain(|subset, _| name(limiter, subset) != filter);
        self.refuse(Refusal::new(reason, format!("EnvoyFilter {filter}: {message}")));
    }

    /// The limiter's status, equal to the old one if nothing changed, and what an Event tells of the change.
    #[must_use]
    pub fn status(self, limiter: &SmartLimiter, now: Timestamp) -> (SmartLimiterStatus, Option<Transition>) {
        let (before, generation) = (limiter.status.as_ref(), limiter.meta().generation);
        let before = before.map_or(&[][..], |status| &status.conditions);
        let statements = [self.ready(), self.enforced()];
        let told = before.iter().find(|old| old.type_ == READY).map(|old| old.reason.as_str());
        let [ready, _] = &statements;
        let transition = (told != Some(ready.reason)).then(|| Transition {
            reason: ready.reason,
            message: ready.message.clone(),
            warning: !ready.holds,
        });
        let status = SmartLimiterStatus {
            observed_generation: generation,
            conditions: statements.map(|statement| statement.of(before, generation, now)).into(),
            limits: self.count(),
            ratelimit_status: self.limits,
            metric_status: self.material,
            metrics_in_use: self.in_use,
        };
        (status, transition)
    }

    fn count(&self) -> u32 {
        let all = self.limits.values().map(|set| set.descriptor.len()).sum::<usize>();
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    fn ready(&self) -> Statement {
        let (holds, reason, message) = match self.refusals.first() {
            Some(first) => (false, first.reason, self.told()),
            None => self.as_asked_for(),
        };
        Statement { condition: READY, holds, reason, message }
    }

    fn enforced(&self) -> Statement {
        let (_, reason, message) = match self.refusals.first().filter(|_| self.count() == 0) {
            Some(first) => (false, first.reason, "no limit is in force".to_owned()),
            None => self.as_asked_for(),
        };
        Statement { condition: ENFORCED, holds: self.count() > 0, reason, message }
    }

    fn as_asked_for(&self) -> (bool, &'static str, String) {
        match self.count() {
            0 => (true, reasons::IDLE, "no limit has a condition that holds".to_owned()),
            count => (true, reasons::LIMITING, format!("limits in force: {count}")),
        }
    }

    fn told(&self) -> String {
        let mut told: Vec<_> =
            self.refusals.iter().take(TOLD).map(|refusal| refusal.message.clone()).collect();
        if self.refusals.len() > TOLD {
            told.push(format!("and {} more", self.refusals.len() - TOLD));
        }
        told.join("; ")
    }
}

/// A descriptor with the numbers that each pod has.
pub(super) fn in_force(descriptor: &Descriptor, limit: &Limit) -> Descriptor {
    let mut computed = descriptor.clone();
    "true".clone_into(&mut computed.condition);
    if let Some(action) = &mut computed.action {
        action.quota = limit.bucket.tokens.to_string();
        let asked = action.fill_interval.is_some();
        action.fill_interval = asked.then(|| seconds(limit.bucket.interval));
    }
    computed
}

fn seconds(milliseconds: u64) -> Seconds {
    Seconds {
        seconds: i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(milliseconds % 1000 * 1_000_000).unwrap_or_default(),
    }
}
