//! One descriptor, understood and computed.

use std::collections::{BTreeMap, BTreeSet};

use super::bucket::{Bucket, interval};
use super::expression::Expression;
use super::matcher::Matchers;
use super::ratio::Ratio;
use super::refusal::Refusal;
use super::target::{Context, Listeners, Place};
use crate::api::{Descriptor, Header, Seconds, Target};

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

/// Which of Envoy's filters limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Requests in a time, by each pod.
    Local,
    /// Requests in a time, by the rate limit service.
    Global,
    /// Requests that are under way, by each pod.
    Adaptive,
    /// Connections that are open, by each pod.
    Connections,
}

/// Who shares a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// Nobody: each pod has it.
    Single,
    /// All pods, by a part for each.
    Average,
    /// All pods, by the rate limit service.
    Global,
    /// Nobody: it is of requests that are under way.
    Adaptive,
    /// Nobody: it is of connections.
    Connections,
}

/// A descriptor that was understood.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    descriptor: &'a Descriptor,
    condition: Expression,
    quota: Expression,
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
        Ok(Self {
            descriptor,
            condition: expression("condition", &descriptor.condition)?,
            quota: expression("action.quota", &action.quota)?,
            interval: strategy.interval(action.fill_interval)?,
            strategy,
            matchers: Matchers::of(&descriptor.matches)?,
            place,
        })
    }

    /// The pods (`_base.pod`) by which it is computed, those of `subset` among them if they share the quota.
    pub(super) fn material(&self, subset: &str) -> BTreeSet<String> {
        let named = self.condition.material().into_iter().chain(self.quota.material()).map(str::to_owned);
        let shared = self.is_divided().then(|| pods_of(subset));
        named.chain(shared).collect()
    }

    /// Whether we divide the quota: not if the user has.
    fn is_divided(&self) -> bool {
        self.strategy == Strategy::Average && !self.quota.material().into_iter().any(is_pods)
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

    /// The limit as it is now; none if its condition does not hold.
    pub(super) fn limit(
        &self,
        subset: &str,
        name: String,
        material: &BTreeMap<String, Ratio>,
    ) -> Result<Option<Limit>, Refusal> {
        let value = |what: &str, of: &Expression| {
            of.value(material).map_err(|error| Refusal::invalid(format!("{what}: {error}")))
        };
        if value("condition", &self.condition)?.is_zero() {
            return Ok(None);
        }
        let quota = value("action.quota", &self.quota)?;
        let shared = material.get(&pods_of(subset)).filter(|_| self.is_divided());
        let quota = shared.map_or(Some(quota), |pods| quota.over(*pods));
        let quota = quota.ok_or_else(|| Refusal::invalid("the quota is too large or too small"))?;
        let Descriptor { action, custom_key, custom_value, shadow, rate_limit_headers, .. } = self.descriptor;
        Ok(Some(Limit {
            name,
            custom: custom(custom_key, custom_value),
            bucket: Bucket::of(quota, self.interval)?,
            matchers: self.matchers.clone(),
            place: self.place.clone(),
            headers: action.as_ref().map(|action| action.headers_to_add.clone()).unwrap_or_default(),
            shadow: *shadow,
            tells: *rate_limit_headers,
            kind: self.strategy.kind(),
        }))
    }
}

/// When it is measured anew how fast answers can be, if nobody says: a minute.
const MEASURED_AFTER: i128 = 60_000;

/// The name of the number of a subset's pods.
pub(super) fn pods_of(subset: &str) -> String {
    format!("{subset}.pod")
}

/// The entry that a user asks for: `generic_key` is what Envoy's key is called otherwise.
pub(super) fn custom(key: &str, value: &str) -> Option<(String, String)> {
    let key = if key.is_empty() { "generic_key" } else { key };
    (!value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

impl Strategy {
    fn of(word: &str) -> Result<Self, Refusal> {
        match word {
            "" | "single" => Ok(Self::Single),
            "average" => Ok(Self::Average),
            "global" => Ok(Self::Global),
            "adaptive" => Ok(Self::Adaptive),
            "connections" => Ok(Self::Connections),
            other => Err(Refusal::invalid(format!("there is no action.strategy {other}"))),
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Single | Self::Average => Kind::Local,
            Self::Global => Kind::Global,
            Self::Adaptive => Kind::Adaptive,
            Self::Connections => Kind::Connections,
        }
    }

    /// In milliseconds. What is no number in a time needs none.
    fn interval(self, given: Option<Seconds>) -> Result<i128, Refusal> {
        match (self, given) {
            (Self::Adaptive | Self::Connections, None) => Ok(MEASURED_AFTER),
            (_, given) => interval(given),
        }
    }

    /// Envoy has fewer choices for what is no number of requests in a time.
    fn check(self, descriptor: &Descriptor, place: &Place) -> Result<(), Refusal> {
        if !matches!(self, Self::Adaptive | Self::Connections) {
            return Ok(());
        }
        let headers = descriptor.action.as_ref().is_some_and(|action| !action.headers_to_add.is_empty());
        let more = !descriptor.matches.is_empty() || !descriptor.custom_value.is_empty();
        if more || headers || descriptor.shadow || descriptor.rate_limit_headers || place.routes.is_some() {
            return Err(Refusal::invalid(
                "this action.strategy is for all of a port: no match, custom_value, headers, shadow, target.host or target.route",
            ));
        }
        let inbound = place.listeners.context == Context::Inbound && place.listeners.port.is_some();
        if self == Self::Connections && !inbound {
            return Err(Refusal::invalid(
                "action.strategy connections needs a target.port, and direction inbound",
            ));
        }
        Ok(())
    }
}

/// An expression of what is known: the numbers of pods.
fn expression(what: &str, text: &str) -> Result<Expression, Refusal> {
    let read = Expression::parse(text).map_err(|error| Refusal::invalid(format!("{what}: {error}")))?;
    let metric = read.material().into_iter().find(|name| !is_pods(name)).map(str::to_owned);
    match metric {
        None => Ok(read),
        Some(name) => {
            Err(Refusal::not_supported(format!("{what}: metrics such as {name} are not supported yet")))
        }
    }
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
