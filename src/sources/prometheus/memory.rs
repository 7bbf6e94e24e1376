//! Since when Prometheus has looked itself: one that is new, or has lost its data, knows nothing of the time before.

use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::response::InstantVector;

/// In how many steps a time is searched whose begin Prometheus does not remember.
const STEPS: i64 = 12;

/// Asks for the time of the oldest sample of a metric within the last time, `back` long.
///
/// Most often there is one where that time begins, which costs one look. If not, a few more are taken: what they find
/// may be later than the oldest, never earlier.
pub(super) fn query(metric: &str, back: SignedDuration) -> String {
    let (back, step) = (back.as_secs(), (back.as_secs() / STEPS).max(1));
    format!(
        "min(timestamp({metric} offset {back}s)) \
         or min(min_over_time(timestamp({metric})[{back}s:{step}s])) \
         or min(timestamp({metric}))"
    )
}

/// The time that was answered; `None` if there is no sample.
pub(super) fn oldest(answer: &[InstantVector]) -> Option<Timestamp> {
    // Prometheus counts in milliseconds, which a float holds for longer than we live.
    #[allow(clippy::cast_possible_truncation, reason = "a time out of range is none")]
    let milliseconds = |series: &InstantVector| (series.sample().value() * 1000.0) as i64;
    answer.first().and_then(|series| Timestamp::from_millisecond(milliseconds(series)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_begin_of_the_time_is_asked_for_first_and_what_comes_after_in_steps() {
        assert_eq!(
            query("up", SignedDuration::from_mins(5)),
            "min(timestamp(up offset 300s)) or min(min_over_time(timestamp(up)[300s:25s])) or min(timestamp(up))"
        );
        assert!(query("up", SignedDuration::from_secs(10)).contains("[10s:1s]"));
    }

    #[test]
    fn only_a_time_is_one() {
        let of = |values: &[&str]| {
            let series = |value| serde_json::json!({ "metric": {}, "value": [0, value] });
            let all: Vec<_> = values.iter().map(series).collect();
            oldest(&serde_json::from_value::<Vec<InstantVector>>(serde_json::json!(all)).unwrap())
        };
        assert_eq!(of(&["1795623697.921"]), Timestamp::from_millisecond(1_795_623_697_921).ok());
        assert_eq!((of(&[]), of(&["+Inf"]), of(&["-1e300"])), (None, None, None));
    }
}
