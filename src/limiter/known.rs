//! What is known of the metrics that a limit is computed from.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::inputs::{Choice, Inputs};
use super::limit::Rule;
use super::metric::{Metric, MetricSettings, Reading, State};
use super::plan::{Input, Plan, labels_of};
use super::ratio::Ratio;
use super::refusal::Refusal;
use crate::api::MetricsInUse;
use crate::graph::Labels;

/// What is known of the metrics of a limiter.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Which metrics there are.
    pub settings: &'a MetricSettings,
    /// What was answered.
    pub readings: &'a BTreeMap<Metric, Reading>,
    /// Since when metrics have said otherwise than the condition of a limit does: what the last plan said.
    pub differing: &'a BTreeMap<String, Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// Chooses what a limit is computed from, and notes in the plan what that means.
pub(super) fn choose(
    input: &Input<'_>,
    base: &Labels,
    rule: &Rule<'_>,
    pods: &BTreeMap<String, Ratio>,
    (subset, number): (&str, usize),
    plan: &mut Plan,
) -> Result<Inputs, Refusal> {
    let limit = &*format!("{subset}/{number}");
    let Known { settings, differing, now, .. } = input.metrics;
    let mut known = BTreeMap::new();
    for name in rule.metrics() {
        known.insert(name, state(input, base, name, plan)?);
    }
    if known.is_empty() {
        return Ok(Inputs::Metrics(MetricsInUse::default()));
    }
    let none = BTreeMap::new();
    let all = input.limiter.status.as_ref().map_or(&none, |status| &status.metrics_in_use);
    let own = all.get(limit);
    let differing = differing.get(limit).copied();
    let chosen = Choice { rule, subset, pods, known, own, all, differing, settings, now }.choose();
    plan.wake = earlier(plan.wake, chosen.wake);
    plan.differing.extend(chosen.differing.map(|since| (limit.to_owned(), since)));
    if let Some(refusal) = chosen.refusal {
        plan.report.refuse(refusal.about(limit));
    }
    // What stands stays until its metrics were asked for, also over a restart.
    plan.hold |= chosen.inputs == Inputs::Awaited && (own.is_some() || !input.filters.is_empty());
    note(&chosen.inputs, own, chosen.missing, limit, plan);
    Ok(chosen.inputs)
}

/// What is known of the metric that a name means; it is asked for from now on.
fn state(input: &Input<'_>, base: &Labels, name: &str, plan: &mut Plan) -> Result<State, Refusal> {
    let Known { settings, readings, now, .. } = input.metrics;
    let Some(meaning) = settings.meaning(name) else {
        return Ok(State::Missing("the operator's configuration has no such metric".to_owned()));
    };
    let pods = meaning.subset.map(|subset| labels_of(input, base, subset)).transpose()?;
    let metric = Metric { source: meaning.source, pods };
    let wanted = Reading::wanted(now);
    let reading = readings.get(&metric).unwrap_or(&wanted);
    let (state, until) = reading.of(meaning.key, settings.max_age, now);
    plan.metrics.insert(metric);
    plan.wake = earlier(plan.wake, until);
    Ok(state)
}

/// Notes what a limit is computed from. What was in use stays noted while nothing is.
fn note(inputs: &Inputs, own: Option<&MetricsInUse>, missing: bool, limit: &str, plan: &mut Plan) {
    let metrics = match inputs {
        Inputs::Metrics(metrics) => metrics.clone(),
        _ => own.cloned().unwrap_or_default(),
    };
    if let Inputs::Metrics(metrics) = inputs {
        for (name, value) in &metrics.values {
            plan.report.computed_from(name.clone(), value.clone());
        }
    }
    if missing || !metrics.values.is_empty() {
        plan.report.using(limit.to_owned(), MetricsInUse { missing, ..metrics });
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
