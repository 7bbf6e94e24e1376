//! Who shares a quota, and which of Envoy's filters keeps it.

use super::bucket::interval;
use super::refusal::Refusal;
use super::target::{Context, Place};
use crate::api::{Descriptor, Seconds};

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
pub(super) enum Strategy {
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

/// When it is measured anew how fast answers can be, if nobody says: a minute.
const MEASURED_AFTER: i128 = 60_000;

impl Strategy {
    pub(super) fn of(word: &str) -> Result<Self, Refusal> {
        match word {
            "" | "single" => Ok(Self::Single),
            "average" => Ok(Self::Average),
            "global" => Ok(Self::Global),
            "adaptive" => Ok(Self::Adaptive),
            "connections" => Ok(Self::Connections),
            other => Err(Refusal::invalid(format!("there is no action.strategy {other}"))),
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Single | Self::Average => Kind::Local,
            Self::Global => Kind::Global,
            Self::Adaptive => Kind::Adaptive,
            Self::Connections => Kind::Connections,
        }
    }

    /// In milliseconds. What is no number in a time needs none.
    pub(super) fn interval(self, given: Option<Seconds>) -> Result<i128, Refusal> {
        match (self, given) {
            (Self::Adaptive | Self::Connections, None) => Ok(MEASURED_AFTER),
            (_, given) => interval(given),
        }
    }

    /// Envoy has fewer choices for what is no number of requests in a time.
    pub(super) fn check(self, descriptor: &Descriptor, place: &Place) -> Result<(), Refusal> {
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
