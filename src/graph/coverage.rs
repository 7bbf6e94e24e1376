use jiff::Timestamp;

use crate::api::DependencySource;

/// The time for which a source has seen every direct call, without a gap, as far as it has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Its begin.
    pub since: Timestamp,
    /// How far it has looked.
    pub until: Timestamp,
}

/// A source says that it has looked at all direct calls from one time to another. It says so after it has handed
/// over what it saw, and only if all of that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Who looked.
    pub source: DependencySource,
    /// At what time.
    pub time: Coverage,
}

impl Coverage {
    /// Takes in what was looked at besides, and tells whether that began anew: times that meet are one; of two
    /// with a gap between them the later one counts.
    pub(super) fn extend(&mut self, other: Self) -> bool {
        if other.since > other.until || other.until < self.since {
            return false;
        }
        let gap = other.since > self.until;
        self.since = if gap { other.since } else { self.since.min(other.since) };
        self.until = self.until.max(other.until);
        gap
    }
}
