//! Requests of Envoys → answers. The clock is given.

use std::time::Duration;

use foldhash::fast::RandomState;

use super::buckets::{Answer, Buckets, Full};
use super::limit::Limit;
use super::metrics::Outcome;
use super::wire::{
    self, Code, CurrentLimit, Descriptor, DescriptorStatus, RateLimitRequest, RateLimitResponse,
};
use crate::limiter::{DOMAIN, LIMIT_KEY};

/// How many descriptors a request may have: a filter has the limits of one limiter.
const DESCRIPTORS: usize = 4096;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the domain is not {DOMAIN}")]
    Domain,
    #[error("a descriptor has no entry {LIMIT_KEY} that is a limit")]
    NoLimit,
    #[error("there are too many descriptors")]
    TooMany,
    #[error("there is no room for more buckets")]
    Full,
}

/// Answers a request, and tells what became of it.
pub(super) fn answer(
    buckets: &mut Buckets<RandomState>,
    request: RateLimitRequest,
    now: Duration,
) -> Result<(RateLimitResponse, Outcome), Refused> {
    if request.domain != DOMAIN {
        return Err(Refused::Domain);
    }
    if request.descriptors.len() > DESCRIPTORS {
        return Err(Refused::TooMany);
    }
    let asked: Vec<_> = request.descriptors.into_iter().map(read).collect::<Result<_, _>>()?;
    let answers = buckets.take(&asked, request.hits_addend.max(1), now).map_err(|Full| Refused::Full)?;
    let limits = || asked.iter().map(|(_, limit)| *limit).zip(&answers);
    let refused = limits().any(|(limit, answer)| !answer.passes && !limit.shadow);
    let shadowed = limits().any(|(limit, answer)| !answer.passes && limit.shadow);
    let response = RateLimitResponse {
        overall_code: code(!refused).into(),
        statuses: limits().map(|(limit, answer)| status(limit, *answer)).collect(),
    };
    let outcome = match (refused, shadowed) {
        (true, _) => Outcome::OverLimit,
        (false, true) => Outcome::Shadowed,
        (false, false) => Outcome::Ok,
    };
    Ok((response, outcome))
}

/// The key of a descriptor's bucket, and its limit: that is no part of the key, so that a bucket stays when its limit changes.
fn read(descriptor: Descriptor) -> Result<(Vec<u8>, Limit), Refused> {
    let (mut key, mut limit) = (Vec::new(), None);
    for entry in descriptor.entries {
        if entry.key == LIMIT_KEY {
            limit = limit.or(entry.value.parse().ok());
            continue;
        }
        for text in [entry.key, entry.value] {
            // With its length, so that no two descriptors have one key.
            key.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            key.extend(text.into_bytes());
        }
    }
    Ok((key, limit.ok_or(Refused::NoLimit)?))
}

fn status(limit: Limit, answer: Answer) -> DescriptorStatus {
    DescriptorStatus {
        code: code(answer.passes || limit.shadow).into(),
        current_limit: Some(CurrentLimit { requests_per_unit: limit.tokens(), unit: limit.unit() }),
        limit_remaining: answer.remaining,
        duration_until_reset: Some(wire::Duration {
            seconds: i64::try_from(answer.reset.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(answer.reset.subsec_nanos()).unwrap_or_default(),
        }),
    }
}

fn code(passes: bool) -> Code {
    if passes { Code::Ok } else { Code::OverLimit }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Entry;
    use super::*;

    fn request(descriptors: &[&[(&str, &str)]]) -> RateLimitRequest {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        let descriptors = descriptors.iter().map(|of| Descriptor { entries: of.iter().map(entry).collect() });
        RateLimitRequest { domain: DOMAIN.into(), descriptors: descriptors.collect(), hits_addend: 0 }
    }

    fn overall(buckets: &mut Buckets<RandomState>, of: &[&[(&str, &str)]]) -> i32 {
        answer(buckets, request(of), Duration::ZERO).unwrap().0.overall_code
    }

    #[test]
    fn a_bucket_is_told_by_all_entries_but_its_limit() {
        let mut buckets = Buckets::new(1 << 20);
        let (ok, over) = (i32::from(Code::Ok), i32::from(Code::OverLimit));
        assert_eq!(overall(&mut buckets, &[&[("a", "x"), (LIMIT_KEY, "1/1000")]]), ok);
        assert_eq!(overall(&mut buckets, &[&[("a", "x"), (LIMIT_KEY, "1/2000")]]), over);
        assert_eq!(overall(&mut buckets, &[&[("a", "y"), (LIMIT_KEY, "1/1000")]]), ok);
        assert_eq!(overall(&mut buckets, &[&[("ax", ""), (LIMIT_KEY, "1/1000")]]), ok);
    }

    #[test]
    fn a_shadow_lets_pass_and_is_told() {
        let mut buckets = Buckets::new(1 << 20);
        let of: &[(&str, &str)] = &[("a", "x"), (LIMIT_KEY, "1/1000/shadow")];
        let outcomes = [(); 2].map(|()| answer(&mut buckets, request(&[of]), Duration::ZERO).unwrap());
        assert!(matches!(outcomes[0].1, Outcome::Ok) && matches!(outcomes[1].1, Outcome::Shadowed));
        assert_eq!(outcomes[1].0.overall_code, i32::from(Code::Ok));
    }

    #[test]
    fn what_is_none_of_ours_has_no_answer() {
        let mut buckets = Buckets::new(1 << 20);
        let mut other = request(&[&[(LIMIT_KEY, "1/1000")]]);
        other.domain = "envoy".into();
        assert_eq!(answer(&mut buckets, other, Duration::ZERO).unwrap_err(), Refused::Domain);
        let without = request(&[&[("a", "x")]]);
        assert_eq!(answer(&mut buckets, without, Duration::ZERO).unwrap_err(), Refused::NoLimit);
        assert_eq!(buckets.len(), 0);
    }
}
