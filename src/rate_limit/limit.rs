use std::str::FromStr;
use std::time::Duration;

use crate::limiter::LONGEST_INTERVAL;

/// A limit, as the entry of a descriptor says it: `<requests>/<milliseconds>`, with `/shadow` after it if it is to refuse
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// At least one.
    tokens: u32,
    /// In milliseconds, at least one.
    interval: u64,
    pub(super) shadow: bool,
}

impl Limit {
    pub(super) fn tokens(self) -> u32 {
        self.tokens
    }

    pub(super) fn interval(self) -> Duration {
        Duration::from_millis(self.interval)
    }

    /// In what time a bucket gets so many tokens; rounded up, so that a quota is never exceeded.
    pub(super) fn time_of(self, tokens: u32) -> Duration {
        let nanoseconds = u128::from(self.interval) * 1_000_000 * u128::from(tokens);
        let nanoseconds = nanoseconds.div_ceil(u128::from(self.tokens));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How many tokens a bucket gets in a time, no more than it holds.
    pub(super) fn tokens_in(self, time: Duration) -> u32 {
        let tokens = time.as_nanos() * u128::from(self.tokens) / (u128::from(self.interval) * 1_000_000);
        u32::try_from(tokens).unwrap_or(u32::MAX).min(self.tokens)
    }

    /// Envoy's number for the interval (`RateLimitResponse.RateLimit.Unit`); 0 if it has none.
    pub(super) fn unit(self) -> i32 {
        match self.interval {
            1_000 => 1,
            60_000 => 2,
            3_600_000 => 3,
            86_400_000 => 4,
            _ => 0,
        }
    }
}

impl FromStr for Limit {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split('/');
        let (tokens, interval) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let shadow = match (words.next(), words.next()) {
            (None, _) => false,
            (Some("shadow"), None) => true,
            _ => return Err(()),
        };
        let tokens = tokens.parse().ok().filter(|tokens| *tokens > 0).ok_or(())?;
        let interval =
            interval.parse().ok().filter(|interval| (1..=LONGEST_INTERVAL).contains(interval)).ok_or(())?;
        Ok(Self { tokens, interval, shadow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_limit_is_refused() {
        for wrong in [
            "",
            "1",
            "0/1",
            "1/0",
            "-1/1",
            "1/1/",
            "1/1/light",
            "1/1/shadow/x",
            "4294967296/1",
            "1/99999999999999",
        ] {
            assert_eq!(wrong.parse::<Limit>(), Err(()), "{wrong}");
        }
        assert_eq!("5/1500/shadow".parse(), Ok(Limit { tokens: 5, interval: 1500, shadow: true }));
    }

    #[test]
    fn time_and_tokens_are_never_in_favour_of_the_caller() {
        let limit = Limit { tokens: 3, interval: 1000, shadow: false };
        assert_eq!(limit.time_of(1), Duration::from_nanos(333_333_334));
        assert_eq!(limit.tokens_in(Duration::from_nanos(333_333_333)), 0);
        assert_eq!(limit.tokens_in(Duration::from_secs(9)), 3);
    }
}
