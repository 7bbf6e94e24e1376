//! What becomes of a limit whose metrics are not known, or are none.

use super::*;

#[test]
fn without_metrics_a_limit_is_as_the_user_chose() {
    let fallback = json!({ "action": { "fallback_quota": "30/{{._base.pod}}" } });
    for (choice, more, expected) in [
        ("Keep", json!({}), Some(200)),
        ("Keep", fallback.clone(), Some(200)),
        ("Limit", fallback, Some(10)),
        ("DoNotLimit", json!({}), None),
    ] {
        let mut descriptor = by_quota();
        super::super::merge(&mut descriptor, &more);
        descriptor["on_missing_metrics"] = json!(choice);
        let mut bench = Bench::new(&descriptor);
        bench.answer(60.0);
        let plan = bench.after(60).fail();
        assert_eq!((bench.tokens(), bench.ready().0), (Some(200), "Limiting"), "{choice}: not for long yet");
        assert_eq!(plan.wake, Some(bench.now + seconds(30)), "{choice}");
        bench.after(30).look();
        assert_eq!((bench.tokens(), bench.ready().0), (expected, "MetricsMissing"), "{choice}");
        assert!(bench.ready().1.contains("sets._base.descriptor[0]: _base.cpu.sum: no answer in time"));
        let writes = bench.writes;
        bench.after(30).fail();
        assert_eq!(bench.writes, writes, "{choice}");
        bench.readings.clear();
        bench.after(1).look();
        bench.after(1).fail();
        assert_eq!(bench.writes, writes, "{choice}: a restart");
        bench.after(30).answer(90.0);
        assert_eq!((bench.tokens(), bench.ready().0), (Some(300), "Limiting"), "{choice}");
    }
}

#[test]
fn where_there_is_nothing_to_keep_the_fallback_is_the_limit_if_there_is_one() {
    for (more, expected) in
        [(json!({}), None), (json!({ "fallbackQuota": "30", "fill_interval": { "seconds": 1 } }), Some(10))]
    {
        let mut descriptor = by_quota();
        super::super::merge(&mut descriptor, &json!({ "action": more }));
        let mut bench = Bench::new(&descriptor);
        assert_eq!(bench.ready().0, "AwaitingMetrics");
        bench.fail();
        assert_eq!((bench.tokens(), bench.ready().0), (expected, "MetricsMissing"));
    }
    let mut bench = Bench::new(&json!({ "condition": "{{.nothing}} > 1", "on_missing_metrics": "Limit" }));
    bench.look();
    assert_eq!((bench.tokens(), bench.ready().0), (Some(10), "MetricsMissing"));
    assert!(bench.ready().1.contains("nothing: the operator's configuration has no such metric"));
}

#[test]
fn a_fallback_must_do_without_metrics() {
    let limit = |quota: &str, fallback: &str| {
        let action = json!({ "quota": quota, "fallback_quota": fallback });
        let bench = Bench::new(&json!({ "action": action, "on_missing_metrics": "Limit" }));
        (bench.ready().0.to_owned(), bench.ready().1.to_owned())
    };
    for (quota, fallback, expected) in [
        ("{{.rt}}", "", "needs action.fallbackQuota"),
        ("{{.rt}}", "{{.rt}}/2", "may be missing too"),
        ("10", "ten", "action.fallbackQuota: "),
    ] {
        let (reason, message) = limit(quota, fallback);
        assert_eq!(reason, "InvalidDescriptor", "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(limit("10", "").0, "Limiting");
}

#[test]
fn a_quota_that_would_be_none_leaves_the_limit_as_it_was() {
    let quota = format!("100-{{{{.{CPU}}}}}");
    let mut bench = Bench::new(&json!({ "action": { "quota": quota } }));
    bench.answer(40.0);
    assert_eq!(bench.tokens(), Some(60));
    bench.after(30).answer(100.0);
    assert_eq!((bench.tokens(), bench.ready().0), (Some(60), "InvalidDescriptor"));
    let writes = bench.writes;
    bench.after(30).answer(120.0);
    assert_eq!(bench.writes, writes);
    bench.after(30).answer(60.0);
    assert_eq!((bench.tokens(), bench.ready().0), (Some(40), "Limiting"));
    // There never was one.
    let quota = format!("-{{{{.{CPU}}}}}");
    let mut bench = Bench::new(&json!({ "action": { "quota": quota } }));
    bench.answer(1.0);
    let writes = bench.writes;
    bench.after(30).answer(2.0);
    assert_eq!((bench.tokens(), bench.ready().0, bench.writes), (None, "InvalidDescriptor", writes));
}

#[test]
fn what_is_no_number_is_missing() {
    for value in [f64::NAN, f64::INFINITY, 1e30] {
        let mut bench = Bench::new(&by_condition());
        bench.answer(value);
        assert_eq!(bench.ready().0, "MetricsMissing", "{value}");
        assert!(bench.ready().1.contains("no number"), "{}", bench.ready().1);
    }
}

#[test]
fn a_time_that_cannot_be_is_told() {
    for time in [json!({ "seconds": -1 }), json!({ "seconds": 86401 }), json!({ "seconds": i64::MAX })] {
        let bench = Bench::new(&json!({ "for": time }));
        assert_eq!(bench.ready().0, "InvalidDescriptor");
    }
}
