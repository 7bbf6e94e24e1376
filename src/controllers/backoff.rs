use std::collections::HashMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::graph::ObjectKey;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_mins(1);

/// How often in a row each object failed: one object's trouble delays only itself.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<ObjectKey, usize>);

impl Failures {
    /// Counts a failure, and tells how long to wait before the next try.
    pub(super) fn count(&mut self, key: &ObjectKey) -> Duration {
        let attempt = self.0.entry(key.clone()).or_default();
        *attempt += 1;
        delay(*attempt)
    }

    /// Forgets the failures of an object that succeeded, or is gone.
    pub(super) fn clear(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }
}

/// How long to wait after so many failures in a row.
pub(super) fn delay(attempt: usize) -> Duration {
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build();
    delays.nth(attempt.clamp(1, 20) - 1).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_limit_and_start_anew_after_a_success() {
        let (mut failures, key) = (Failures::default(), ObjectKey::new("shop", "reviews"));
        let first = failures.count(&key);
        assert!(first >= FIRST && first <= FIRST * 2, "{first:?}");
        for _ in 0..40 {
            assert!(failures.count(&key) <= LONGEST * 2);
        }
        assert!(failures.count(&key) >= LONGEST / 2);
        failures.clear(&key);
        assert!(failures.count(&key) <= FIRST * 2);
    }
}
