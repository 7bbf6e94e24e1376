use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use super::limit::Limit;
use super::plan::name;
use super::programmed::awaited;
use super::refusal::Refusal;
use crate::api::{
    Descriptor, ENFORCED, LimiterSet, MetricsInUse, PROGRAMMED, READY, Seconds, SmartLimiter,
    SmartLimiterStatus, Statement, Transition, reasons,
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
    /// Whether proxies have taken the limits, if anybody asks.
    programmed: Option<Programmed>,
}

/// What is said of the proxies.
#[derive(Clone, Debug)]
enum Programmed {
    Says(Statement),
    /// What was said before, of the same spec.
    AsBefore,
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

    /// Notes whether proxies have taken the limits; without a word on that, what was said of this spec before stands.
    pub fn programmed(&mut self, limiter: &SmartLimiter, statement: Option<Statement>) {
        let before = limiter.status.as_ref().and_then(|status| find(&status.conditions, PROGRAMMED));
        let stands = before.is_some_and(|old| old.observed_generation == limiter.meta().generation);
        self.programmed = Some(match statement {
            Some(statement) => Programmed::Says(statement),
            None if stands => Programmed::AsBefore,
            None => Programmed::Says(awaited()),
        });
    }

    /// Whether no limit is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
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

    /// The limiter's status, equal to the old one if nothing changed, and what Events tell of the change.
    #[must_use]
    pub fn status(self, limiter: &SmartLimiter, now: Timestamp) -> (SmartLimiterStatus, Vec<Transition>) {
        let (before, generation) = (limiter.status.as_ref(), limiter.meta().generation);
        let before = before.map_or(&[][..], |status| &status.conditions);
        let mut statements = vec![self.ready(), self.enforced()];
        let mut stands = None;
        match self.programmed.as_ref().filter(|_| !self.is_empty()) {
            Some(Programmed::Says(statement)) => statements.push(statement.clone()),
            Some(Programmed::AsBefore) => stands = find(before, PROGRAMMED).cloned(),
            None => {}
        }
        let news = statements.iter().filter(|new| is_news(find(before, new.condition), new));
        let transitions = news.map(Transition::to).collect();
        let conditions = statements.into_iter().map(|statement| statement.of(before, generation, now));
        let status = SmartLimiterStatus {
            observed_generation: generation,
            conditions: conditions.chain(stands).collect(),
            limits: self.count(),
            ratelimit_status: self.limits,
            metric_status: self.material,
            metrics_in_use: self.in_use,
        };
        (status, transitions)
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
        Statement { condition: READY, holds: Some(holds), reason, message }
    }

    fn enforced(&self) -> Statement {
        let (_, reason, message) = match self.refusals.first().filter(|_| self.count() == 0) {
            Some(first) => (false, first.reason, "no limit is in force".to_owned()),
            None => self.as_asked_for(),
        };
        Statement { condition: ENFORCED, holds: Some(self.count() > 0), reason, message }
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

fn find<'a>(conditions: &'a [Condition], condition: &str) -> Option<&'a Condition> {
    conditions.iter().find(|of| of.type_ == condition)
}

/// Whether an Event tells of what a condition says now: another reason of `Ready`, and proxies that refuse, or do no more.
fn is_news(old: Option<&Condition>, new: &Statement) -> bool {
    let told = old.map(|old| old.reason.as_str());
    let refused = told == Some(reasons::REJECTED);
    match new.condition {
        READY => told != Some(new.reason),
        PROGRAMMED if refused => new.holds == Some(true),
        PROGRAMMED => new.reason == reasons::REJECTED,
        _ => false,
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
