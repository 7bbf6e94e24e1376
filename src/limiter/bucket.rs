use super::ratio::Ratio;
use super::refusal::Refusal;
use crate::api::Seconds;

/// The shortest time in which Envoy refills a bucket.
const SHORTEST: i128 = 50;
/// The longest time that a limit may be for: a day.
const LONGEST: i128 = 24 * 60 * 60 * 1000;

/// No bucket takes so long, in milliseconds. What Protocol Buffers call a duration ends at some ten thousand years; a hundred are
/// enough.
pub const LONGEST_INTERVAL: u64 = 100 * 365 * 86_400_000;

/// An Envoy token bucket: it begins full, and gets as many tokens in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// At least one.
    pub(super) tokens: u32,
    /// In milliseconds, as Envoy reads it.
    pub(super) interval: u64,
}

impl Bucket {
    /// The bucket that lets `quota` requests pass in `interval` milliseconds, and never more in the long run: a quota
    /// between whole numbers is rounded down, and one below one is a single token in a longer time.
    pub(super) fn of(quota: Ratio, interval: i128) -> Result<Self, Refusal> {
        if !quota.is_positive() {
            return Err(Refusal::invalid("the quota is not above zero"));
        }
        let large = || Refusal::invalid("the quota is too large or too small");
        let tokens = quota.floor().max(1);
        let interval = if quota.floor() >= 1 {
            interval
        } else {
            Ratio::of(interval).over(quota).and_then(Ratio::ceil).ok_or_else(large)?
        };
        let interval = u64::try_from(interval).ok().filter(|interval| *interval < LONGEST_INTERVAL);
        Ok(Self {
            tokens: u32::try_from(tokens).map_err(|_| large())?,
            interval: interval.ok_or_else(large)?,
        })
    }
}

/// An action's interval in milliseconds.
pub(super) fn interval(of: Option<Seconds>) -> Result<i128, Refusal> {
    let of = of.ok_or_else(|| Refusal::invalid("action.fill_interval is missing"))?;
    let nanoseconds = i128::from(of.seconds) * 1_000_000_000 + i128::from(of.nanos);
    let milliseconds = nanoseconds.div_euclid(1_000_000) + i128::from(nanoseconds.rem_euclid(1_000_000) > 0);
    if (SHORTEST..=LONGEST).contains(&milliseconds) {
        Ok(milliseconds)
    } else {
        Err(Refusal::invalid("action.fill_interval must be between 50 ms and a day"))
    }
}
