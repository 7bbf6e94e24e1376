//! The token buckets, each as one time. PURE: the time is given.
//!
//! A bucket is kept as the time at which it is full again (GCRA's theoretical arrival time). That says all about it for
//! whatever limit is asked next, so that a limit may change between two requests; and a bucket whose time has passed is
//! full, as is one that nobody knows.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

use super::limit::Limit;

/// What a bucket costs besides its key: the map's slot, the key's length, and what the allocator adds. An upper estimate.
const OVERHEAD: usize = 96;
/// The fewest buckets among which full ones are looked for.
const FEW: usize = 1024;
/// The shortest time between two looks when all buckets are in use.
const AGAIN: Duration = Duration::from_millis(100);

/// There is no room for one more bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What a bucket says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) passes: bool,
    /// How many more requests would pass now.
    pub(super) remaining: u32,
    /// Until the bucket is full, if the request passes; else until it would.
    pub(super) reset: Duration,
}

/// All buckets. Times are since a moment of the owner's choice.
#[derive(Debug)]
pub(super) struct Buckets<S> {
    full_at: HashMap<Box<[u8]>, Duration, S>,
    /// Of all keys and what they cost besides, in bytes.
    size: usize,
    most: usize,
    /// At how many buckets full ones are looked for.
    look_at: usize,
    /// When that may be done next.
    look_after: Duration,
}

impl<S: BuildHasher + Default> Buckets<S> {
    /// None, in no more than `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { full_at: HashMap::default(), size: 0, most, look_at: FEW, look_after: Duration::ZERO }
    }

    pub(super) fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Takes `hits` tokens of each of these buckets, or, if one that is no shadow lacks them, of none but shadows.
    pub(super) fn take(
        &mut self,
        asked: &[(Vec<u8>, Limit)],
        hits: u32,
        now: Duration,
    ) -> Result<Vec<Answer>, Full> {
        self.make_room(asked, now)?;
        let answers: Vec<_> = asked.iter().map(|(key, limit)| self.answer(key, *limit, hits, now)).collect();
        let refused =
            asked.iter().zip(&answers).any(|((_, limit), (answer, _))| !answer.passes && !limit.shadow);
        for ((key, limit), (answer, full_at)) in asked.iter().zip(&answers) {
            if answer.passes && (!refused || limit.shadow) {
                self.keep(key, *full_at);
            }
        }
        Ok(answers.into_iter().map(|(answer, _)| answer).collect())
    }

    /// What a bucket says, and when it is full again if the request takes its tokens.
    fn answer(&self, key: &[u8], limit: Limit, hits: u32, now: Duration) -> (Answer, Duration) {
        let full_at = self.full_at.get(key).copied().unwrap_or(now).max(now);
        let after = full_at.saturating_add(limit.time_of(hits));
        let (missing, interval) = (after.saturating_sub(now), limit.interval());
        let passes = missing <= interval;
        let (left, reset) = if passes {
            (interval.saturating_sub(missing), missing)
        } else {
            (interval.saturating_sub(full_at.saturating_sub(now)), missing.saturating_sub(interval))
        };
        (Answer { passes, remaining: limit.tokens_in(left), reset }, after)
    }

    fn keep(&mut self, key: &[u8], full_at: Duration) {
        if let Some(time) = self.full_at.get_mut(key) {
            *time = full_at;
            return;
        }
        self.size += key.len() + OVERHEAD;
        self.full_at.insert(key.into(), full_at);
    }

    /// Drops full buckets once there are twice as many buckets as the last look left, or no room for these.
    fn make_room(&mut self, asked: &[(Vec<u8>, Limit)], now: Duration) -> Result<(), Full> {
        let new = asked.iter().filter(|(key, _)| !self.full_at.contains_key(&**key));
        let needed: usize = new.map(|(key, _)| key.len() + OVERHEAD).sum();
        let due = self.full_at.len() >= self.look_at || self.size + needed > self.most;
        if needed > 0 && due && now >= self.look_after {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.size = self.full_at.keys().map(|key| key.len() + OVERHEAD).sum();
            self.look_at = FEW.max(2 * self.full_at.len());
            self.look_after = now + AGAIN;
        }
        if needed == 0 || self.size + needed <= self.most { Ok(()) } else { Err(Full) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Tested = Buckets<foldhash::fast::RandomState>;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    fn ask(buckets: &mut Tested, asked: &[(&str, &str)], now: u64) -> Vec<bool> {
        let asked: Vec<_> = asked.iter().map(|(key, of)| (key.as_bytes().to_vec(), limit(of))).collect();
        let answers = buckets.take(&asked, 1, Duration::from_millis(now)).unwrap();
        answers.iter().map(|answer| answer.passes).collect()
    }

    #[test]
    fn a_bucket_begins_full_and_is_filled_evenly() {
        let mut buckets = Tested::new(1 << 20);
        let of = [("a", "3/3000")];
        let passed: Vec<_> =
            [0, 0, 0, 0, 999, 1000, 1000, 1999, 2000, 3000].map(|now| ask(&mut buckets, &of, now)[0]).into();
        assert_eq!(passed, [true, true, true, false, false, true, false, false, true, true]);
    }

    #[test]
    fn an_answer_tells_what_remains_and_when_there_is_more() {
        let mut buckets = Tested::new(1 << 20);
        let asked = [(b"a".to_vec(), limit("2/2000"))];
        let mut next = || buckets.take(&asked, 1, Duration::ZERO).unwrap()[0];
        let answer =
            |passes, remaining, seconds| Answer { passes, remaining, reset: Duration::from_secs(seconds) };
        assert_eq!([next(), next(), next()], [answer(true, 1, 1), answer(true, 0, 2), answer(false, 0, 1)]);
    }

    #[test]
    fn who_is_refused_by_one_bucket_takes_nothing_of_another() {
        let mut buckets = Tested::new(1 << 20);
        assert_eq!(ask(&mut buckets, &[("a", "1/1000"), ("b", "2/1000")], 0), [true, true]);
        assert_eq!(ask(&mut buckets, &[("a", "1/1000"), ("b", "2/1000")], 0), [false, true]);
        assert_eq!(ask(&mut buckets, &[("b", "2/1000")], 0), [true]);
        assert_eq!(ask(&mut buckets, &[("b", "2/1000")], 0), [false]);
    }

    #[test]
    fn a_shadow_keeps_nothing_back_and_counts_what_is_refused() {
        let mut buckets = Tested::new(1 << 20);
        assert_eq!(ask(&mut buckets, &[("a", "1/1000/shadow"), ("b", "2/1000")], 0), [true, true]);
        assert_eq!(ask(&mut buckets, &[("a", "1/1000/shadow"), ("b", "2/1000")], 0), [false, true]);
        assert_eq!(ask(&mut buckets, &[("b", "2/1000")], 0), [false]);
    }

    #[test]
    fn a_limit_that_changes_holds_at_once() {
        let mut buckets = Tested::new(1 << 20);
        assert_eq!([0; 4].map(|now| ask(&mut buckets, &[("a", "4/1000")], now)[0]), [true; 4]);
        assert!(!ask(&mut buckets, &[("a", "2/1000")], 499)[0]);
        assert!(ask(&mut buckets, &[("a", "2/1000")], 500)[0]);
        assert!(ask(&mut buckets, &[("a", "100/1000")], 510)[0]);
    }

    #[test]
    fn a_full_store_refuses_new_buckets_until_old_ones_are_full() {
        let mut buckets = Tested::new(2 * (OVERHEAD + 1));
        assert_eq!(ask(&mut buckets, &[("a", "1/1000")], 0), [true]);
        assert_eq!(ask(&mut buckets, &[("b", "1/1000")], 0), [true]);
        let third = [(b"c".to_vec(), limit("1/1000"))];
        assert_eq!(buckets.take(&third, 1, Duration::from_millis(999)), Err(Full));
        assert_eq!(ask(&mut buckets, &[("b", "1/1000")], 1000), [true], "one that is known goes on");
        assert!(buckets.take(&third, 1, Duration::from_millis(1100)).is_ok());
        assert_eq!(buckets.len(), 2, "a has gone");
    }

    #[test]
    fn full_buckets_are_dropped_as_others_come() {
        let mut buckets = Tested::new(1 << 24);
        for number in 0..100_000_u64 {
            ask(&mut buckets, &[(&number.to_string(), "1/100")], number);
        }
        assert!(buckets.len() <= 2 * FEW, "{}", buckets.len());
    }

    proptest! {
        /// No more pass in any time than the quota for it and a bucket; and who asks often enough gets the quota.
        #[test]
        fn a_bucket_lets_its_quota_pass(
            tokens in 1_u32..50, interval in 50_u64..5000, gaps in prop::collection::vec(0_u64..40, 1..400),
        ) {
            let (mut buckets, mut now, mut passed) = (Tested::new(1 << 20), 0, 0_u64);
            let of = format!("{tokens}/{interval}");
            for gap in gaps {
                now += gap;
                passed += u64::from(ask(&mut buckets, &[("a", &of)], now)[0]);
                prop_assert!(passed <= u64::from(tokens) + now * u64::from(tokens) / interval);
            }
        }
    }
}
