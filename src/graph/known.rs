use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Caller, Few, Learning};
use crate::api::DependencySource;

/// A call that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Who called.
    pub caller: Caller,
    /// The host that it called, after routing.
    pub host: Arc<str>,
    /// Who saw it.
    pub source: DependencySource,
    /// When.
    pub seen: Timestamp,
}

/// A learned dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The namespaces that defined the host when it was learned. Kept, so that a Service that is replaced does
    /// not cost its callers a detour.
    pub namespaces: Few<Arc<str>>,
    /// Who saw calls to it.
    pub sources: Few<DependencySource>,
    /// When the first call was seen.
    pub first_seen: Timestamp,
    /// When the last call was seen, [`Learning::precision`] behind at most.
    pub last_seen: Timestamp,
}

impl Known {
    /// Whether a call at `now` is worth noting although the host is known.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp, precision: SignedDuration) -> bool {
        now.duration_since(self.last_seen) >= precision
    }

    /// Whether noting a call changes what is known, apart from the end of `last_seen`.
    pub(super) fn is_added_to_by(
        &self,
        call: &Observation,
        namespaces: &[Arc<str>],
        learning: &Learning,
    ) -> bool {
        self.is_stale(call.seen, learning.precision())
            || call.seen < self.first_seen
            || !self.sources.contains(&call.source)
            || namespaces.iter().any(|namespace| !self.namespaces.contains(namespace))
    }

    /// What both say together. Commutative and associative: the order in which facts come in is no matter.
    pub(super) fn merge(&mut self, other: &Known) {
        self.namespaces.extend(&other.namespaces);
        self.sources.extend(&other.sources);
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
    }
}

impl Observation {
    /// What the call alone would make known.
    pub(super) fn as_known(&self, namespaces: &[Arc<str>]) -> Known {
        Known {
            namespaces: namespaces.iter().cloned().collect(),
            sources: [self.source].into(),
            first_seen: self.seen,
            last_seen: self.seen,
        }
    }
}
