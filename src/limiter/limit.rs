//! One descriptor, understood and computed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::bucket::Bucket;
use super::expression::Expression;
use super::matcher::Matchers;
use super::ratio::Ratio;
use super::refusal::Refusal;
use super::strategy::{Kind, Strategy};
use super::target::{Listeners, Place};
use crate::api::{Descriptor, Header, OnMissingMetrics, Seconds, Target};

/// A limit as Envoy shall have it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limit {
    /// What tells it from all others on a proxy.
    pub(super) name: String,
    /// The entry that the user wants.
    pub(super) custom: Option<(String, String)>,
    pub(super) bucket: Bucket,
    pub(super) matchers: Matchers,
    pub(super) place: Place,
    pub(super) headers: Vec<Header>,
    pub(super) shadow: bool,
    pub(super) tells: bool,
    pub(super) kind: Kind,
}

/// A descriptor that was understood.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    descriptor: &'a Descriptor,
    condition: Expression,
    quota: Expression,
    /// The quota while metrics are not known.
    fallback: Option<Expression>,
    /// How long metrics must say otherwise before the condition does.
    pub(super) hold: SignedDuration,
    pub(super) missing: OnMissingMetrics,
    /// In milliseconds.
    interval: i128,
    strategy: Strategy,
    matchers: Matchers,
    place: Place,
}

impl<'a> Rule<'a> {
    /// Reads a descriptor of a limiter whose other fields say `target` and `gateway`.
    pub(super) fn of(
        descriptor: &'a Descriptor,
        target: Option<&Target>,
        gateway: bool,
    ) -> Result<Self, Refusal> {
        let action = descriptor.action.as_ref().ok_or_else(|| Refusal::invalid("action is missing"))?;
        let target = descriptor.target.as_ref().or(target);
        let target = target.ok_or_else(|| Refusal::invalid("target is missing, here and in the spec"))?;
        let strategy = Strategy::of(&action.strategy)?;
        let place = Place::of(target, gateway)?;
        check_names(&action.headers_to_add)?;
        strategy.check(descriptor, &place)?;
        let quota = expression("action.quota", &action.quota)?;
        Ok(Self {
            descriptor,
            condition: expression("condition", &descriptor.condition)?,
            fallback: fallback(&action.fallback_quota, &quota, descriptor.on_missing_metrics)?,
            quota,
            hold: hold(descriptor.hold)?,
            missing: descriptor.on_missing_metrics,
            interval: strategy.interval(action.fill_interval)?,
            strategy,
            matchers: Matchers::of(&descriptor.matches)?,
            place,
        })
    }

    /// The pods (`_base.pod`) by which it is computed, those of `subset` among them if they share the quota.
    pub(super) fn pods(&self, subset: &str) -> BTreeSet<String> {
        let fallback = self.fallback.iter().flat_map(Expression::material);
        let named = self.named().chain(fallback).filter(|name| is_pods(name)).map(str::to_owned);
        let quotas = [Some(&self.quota), self.fallback.as_ref()];
        let shared = quotas.into_iter().flatten().any(|quota| self.divides(quota)).then(|| pods_of(subset));
        named.chain(shared).collect()
    }

    /// Whether the rate limit service must keep it.
    pub(super) fn is_global(&self) -> bool {
        self.strategy == Strategy::Global
    }

    /// What there may be one of at the same listeners.
    pub(super) fn alone(&self) -> Option<(Kind, Listeners)> {
        let kind = self.strategy.kind();
        matches!(kind, Kind::Adaptive | Kind::Connections).then_some((kind, self.place.listeners))
    }

    /// The metrics by which it is computed.
    pub(super) fn metrics(&self) -> BTreeSet<&str> {
        self.named().filter(|name| !is_pods(name)).collect()
    }

    fn named(&self) -> impl Iterator<Item = &str> {
        self.condition.material().into_iter().chain(self.quota.material())
    }

    /// Whether we divide a quota: not if the user has.
    fn divides(&self, quota: &Expression) -> bool {
        self.strategy == Strategy::Average && !quota.material().into_iter().any(is_pods)
    }

    /// Each pod's quota, as the expressions have it; none if the condition does not hold.
    pub(super) fn outcome(
        &self,
        subset: &str,
        material: &BTreeMap<String, Ratio>,
    ) -> Result<Option<Ratio>, Refusal> {
        if value("condition", &self.condition, material)?.is_zero() {
            return Ok(None);
        }
        self.share("action.quota", &self.quota, subset, material).map(Some)
    }

    /// Each pod's quota while metrics are not known, and the limit is to be in force: a condition that cannot be computed holds.
    pub(super) fn outcome_without(
        &self,
        subset: &str,
        pods: &BTreeMap<String, Ratio>,
    ) -> Result<Option<Ratio>, Refusal> {
        if self.condition.value(pods).is_ok_and(Ratio::is_zero) {
            return Ok(None);
        }
        match &self.fallback {
            Some(fallback) => self.share("action.fallbackQuota", fallback, subset, pods).map(Some),
            None => self.share("action.quota", &self.quota, subset, pods).map(Some),
        }
    }

    /// What each pod has of a quota.
    fn share(
        &self,
        what: &str,
        quota: &Expression,
        subset: &str,
        material: &BTreeMap<String, Ratio>,
    ) -> Result<Ratio, Refusal> {
        let all = value(what, quota, material)?;
        let pods = material.get(&pods_of(subset)).filter(|_| self.divides(quota));
        let share = pods.map_or(Some(all), |pods| all.over(*pods));
        share.ok_or_else(|| Refusal::invalid("the quota is too large or too small"))
    }

    /// Whether there is a quota of its own while metrics are not known.
    pub(super) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    /// The limit that lets this quota pass at each pod.
    pub(super) fn limit(&self, name: String, quota: Ratio) -> Result<Limit, Refusal> {
        let Descriptor { action, custom_key, custom_value, shadow, rate_limit_headers, .. } = self.descriptor;
        Ok(Limit {
            name,
            custom: custom(custom_key, custom_value),
            bucket: Bucket::of(quota, self.interval)?,
            matchers: self.matchers.clone(),
            place: self.place.clone(),
            headers: action.as_ref().map(|action| action.headers_to_add.clone()).unwrap_or_default(),
            shadow: *shadow,
            tells: *rate_limit_headers,
            kind: self.strategy.kind(),
        })
    }
}

fn value(what: &str, of: &Expression, material: &BTreeMap<String, Ratio>) -> Result<Ratio, Refusal> {
    of.value(material).map_err(|error| Refusal::invalid(format!("{what}: {error}")))
}

/// The name of the number of a subset's pods.
pub(super) fn pods_of(subset: &str) -> String {
    format!("{subset}.pod")
}

/// The entry that a user asks for: `generic_key` is what Envoy's key is called otherwise.
pub(super) fn custom(key: &str, value: &str) -> Option<(String, String)> {
    let key = if key.is_empty() { "generic_key" } else { key };
    (!value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

fn expression(what: &str, text: &str) -> Result<Expression, Refusal> {
    Expression::parse(text).map_err(|error| Refusal::invalid(format!("{what}: {error}")))
}

/// The quota while metrics are not known. It must not need any, and must be there if the quota does and there is to be a limit.
fn fallback(
    text: &str,
    quota: &Expression,
    missing: OnMissingMetrics,
) -> Result<Option<Expression>, Refusal> {
    let metric = |of: &Expression| of.material().into_iter().find(|name| !is_pods(name)).map(str::to_owned);
    let fallback = (!text.is_empty()).then(|| expression("action.fallbackQuota", text)).transpose()?;
    match (fallback.as_ref().and_then(metric), metric(quota)) {
        (Some(name), _) => {
            Err(Refusal::invalid(format!("action.fallbackQuota: {name} is a metric, and may be missing too")))
        }
        (None, Some(name)) if fallback.is_none() && missing == OnMissingMetrics::Limit => {
            Err(Refusal::invalid(format!(
                "onMissingMetrics: Limit needs action.fallbackQuota, because action.quota needs the metric {name}"
            )))
        }
        _ => Ok(fallback),
    }
}

/// How long metrics must say otherwise: at most a day.
fn hold(of: Option<Seconds>) -> Result<SignedDuration, Refusal> {
    let of = of.unwrap_or_default();
    let time = SignedDuration::from_secs(of.seconds).checked_add(SignedDuration::from_nanos(of.nanos.into()));
    let is_fine = |time: &SignedDuration| !time.is_negative() && *time <= SignedDuration::from_hours(24);
    time.filter(is_fine).ok_or_else(|| Refusal::invalid("for must be between nothing and a day"))
}

fn is_pods(name: &str) -> bool {
    name.strip_suffix(".pod").is_some_and(|subset| !subset.contains('.'))
}

fn check_names(headers: &[Header]) -> Result<(), Refusal> {
    let symbol = |c: char| c.is_ascii_alphanumeric() || "!#$&'*+-.^_|~`".contains(c);
    let is_name = |key: &str| !key.is_empty() && key.chars().all(symbol) && !key.eq_ignore_ascii_case("host");
    let is_wrong = |header: &&Header| !is_name(&header.key) || header.value.chars().any(char::is_control);
    match headers.iter().find(is_wrong) {
        None => Ok(()),
        Some(header) => {
            Err(Refusal::invalid(format!("action.headers_to_add: {:?} is no header", header.key)))
        }
    }
}
