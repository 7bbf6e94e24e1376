//! How long metrics stay in use, and when others come.

use super::*;

#[test]
fn a_limit_comes_and_goes_with_a_metric() {
    let mut bench = Bench::new(&by_condition());
    assert_eq!((bench.tokens(), bench.ready().0), (None, "AwaitingMetrics"));
    let asked: Vec<_> = bench.readings.keys().cloned().collect();
    let pods = Some(super::super::labels(&[("app", "web")]));
    assert_eq!(asked, [Metric { source: Source::Handler("cpu.sum".into()), pods }]);
    bench.answer(5.0);
    assert_eq!((bench.tokens(), bench.ready().0), (None, "Idle"));
    bench.after(30).answer(10.5);
    assert_eq!((bench.tokens(), bench.ready().0), (Some(10), "Limiting"));
    assert_eq!(bench.status().metric_status[CPU], "10.5");
    assert_eq!(bench.status().metrics_in_use["_base/0"].values[CPU], "10.5");
    bench.after(30).answer(9.0);
    assert_eq!((bench.tokens(), bench.ready().0), (None, "Idle"));
}

#[test]
fn a_metric_that_jitters_writes_nothing() {
    let mut bench = Bench::new(&by_quota());
    bench.answer(60.0);
    assert_eq!(bench.tokens(), Some(200));
    bench.writes = (0, 0);
    for value in [61.0, 59.0, 62.9, 57.1, 60.0] {
        bench.after(30).answer(value);
    }
    assert_eq!((bench.tokens(), bench.writes), (Some(200), (0, 0)));
    bench.after(30).answer(63.0);
    assert_eq!((bench.tokens(), bench.writes), (Some(210), (1, 1)));
}

#[test]
fn a_limit_stays_for_the_least_interval_and_then_changes_by_itself() {
    let mut bench = Bench::new(&by_condition());
    bench.answer(20.0);
    let changed = bench.now;
    assert_eq!(bench.after(3).answer(5.0).wake, Some(changed + seconds(10)));
    assert_eq!(bench.tokens(), Some(10));
    bench.after(7).look();
    assert_eq!(bench.tokens(), None);
}

#[test]
fn a_condition_must_hold_or_not_hold_for_its_time() {
    let mut more = by_condition();
    more["for"] = json!({ "seconds": 60 });
    let mut bench = Bench::new(&more);
    bench.answer(5.0);
    let writes = bench.writes;
    bench.after(30).answer(20.0);
    bench.after(30).answer(5.0);
    let since = bench.after(30).now;
    assert_eq!(bench.answer(20.0).wake, Some(since + seconds(60)));
    bench.after(59).answer(21.0);
    assert_eq!((bench.tokens(), bench.writes), (None, writes));
    bench.after(1).look();
    assert_eq!(bench.tokens(), Some(10));
    bench.after(30).answer(5.0);
    assert_eq!(bench.tokens(), Some(10));
    bench.after(60).answer(5.0);
    assert_eq!(bench.tokens(), None);
}

#[test]
fn pods_change_a_limit_at_once_although_its_metrics_are_held() {
    let mut bench = Bench::new(&by_quota());
    bench.answer(60.0);
    bench.after(300).fail();
    bench.graph.apply(Change::PodGone(ObjectKey::new("shop", "a")));
    bench.after(1).look();
    assert_eq!((bench.tokens(), bench.ready().0), (Some(300), "MetricsMissing"));
    bench.graph.apply(super::super::pod("a", "1", true));
    bench.after(1).look();
    assert_eq!(bench.tokens(), Some(200));
}

#[test]
fn a_restart_changes_nothing_and_an_edit_finds_what_was_known() {
    let mut bench = Bench::new(&by_quota());
    bench.answer(60.0);
    let writes = bench.writes;
    bench.readings.clear();
    bench.after(1).look();
    assert_eq!(bench.writes, writes, "nobody was asked yet");
    bench.fail();
    assert_eq!(bench.writes, writes, "and not in vain for long");
    let mut edited = by_quota();
    edited["action"]["quota"] = json!(format!("{{{{.{CPU}}}}}*20"));
    let status = bench.limiter.status.take();
    bench.limiter = one(&edited);
    bench.limiter.status = status;
    bench.look();
    assert_eq!(bench.tokens(), Some(400));
}

#[test]
fn a_limit_stands_until_the_metrics_that_it_gets_were_asked_for() {
    let mut bench = Bench::new(&json!({}));
    assert_eq!(bench.tokens(), Some(10));
    let writes = bench.writes;
    let status = bench.limiter.status.take();
    bench.limiter = one(&by_condition());
    bench.limiter.status = status;
    let plan = bench.look();
    assert_eq!((bench.tokens(), bench.writes), (Some(10), writes));
    assert_eq!(plan.wake, Some(bench.now + seconds(90)), "should nobody ask");
    bench.answer(5.0);
    assert_eq!((bench.tokens(), bench.ready().0), (None, "Idle"));
}

proptest! {
    /// However metrics go, a limit follows them within the least change and the least interval, and changes no more often.
    #[test]
    fn limits_follow_metrics_and_change_no_more_often_than_they_may(
        steps in prop::collection::vec((1..40_i64, prop::option::of(1..1000_u32)), 1..60),
    ) {
        let mut bench = Bench::new(&by_quota());
        let (mut last, mut changed) = (None, None);
        for (time, value) in steps {
            bench.after(time);
            let before = bench.writes.0;
            match value {
                Some(value) => {
                    last = Some((value, bench.now));
                    bench.answer(f64::from(value));
                }
                None => drop(bench.fail()),
            }
            if bench.writes.0 > before {
                if let Some(changed) = changed {
                    prop_assert!(bench.now >= changed + seconds(10));
                }
                changed = Some(bench.now);
            }
            // Nobody has chosen anything else: once there is a limit, it stays.
            prop_assert_eq!(bench.tokens().is_some(), last.is_some());
            if let (Some((value, _)), Some(changed)) = (last, changed) && bench.now >= changed + seconds(10) {
                let (wanted, tokens) = (u64::from(value) * 10, bench.tokens().unwrap() * 3);
                prop_assert!(wanted.abs_diff(tokens) * 100 <= wanted.max(tokens) * 5 + 300, "{wanted} {tokens}");
            }
        }
    }
}
