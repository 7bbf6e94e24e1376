use jiff::{SignedDuration, Timestamp};

use crate::graph::{Change, Debounce, Graph, Istiod, ObjectKey, Pod, Pushes};

fn at(millis: i64) -> Timestamp {
    "2026-11-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(millis)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

/// A mesh in which something changed at these times.
fn changing(times: impl IntoIterator<Item = i64>) -> Graph {
    let mut graph = Graph::new("cluster.local");
    for time in times {
        graph.note(&Change::ServiceGone(key("reviews")), at(time));
    }
    graph
}

/// When what was written at 1 s was, or will be, pushed, in milliseconds after that.
fn begun(pushes: &Pushes, now: i64) -> i64 {
    pushes
        .begun(at(1_000), at(now), &Debounce::DEFAULT)
        .duration_since(at(1_000))
        .as_millis()
        .try_into()
        .unwrap()
}

#[test]
fn what_is_written_is_pushed_in_the_first_pause_after_it_and_ten_seconds_later_at_the_latest() {
    let every = |apart: i64, until: i64| (0..until).filter(|time| time % apart == 0).collect::<Vec<_>>();
    for (what, changes, expected) in [
        ("nothing ever changed", vec![], 0),
        ("nothing changed since", vec![0, 500], 0),
        ("it was heard of a little later", vec![1_020], 20),
        ("the pause before it is of no use", vec![0, 1_040, 1_130, 1_200], 200),
        ("it was written in the middle of a long pause", vec![500, 2_000], 0),
        ("changes a little further apart than istiod waits for", every(120, 1_440), 440 - 120),
        ("the first pause counts", vec![1_010, 1_100, 1_300, 1_310], 100),
        ("changes for five seconds", every(40, 6_000), 4_960),
        ("changes for a minute", every(40, 60_000), 10_000),
    ] {
        assert_eq!(begun(changing(changes).pushes(), 70_000), expected, "{what}");
    }
}

#[test]
fn what_istiod_does_not_hear_of_delays_no_push() {
    let pod = |ready| Change::Pod(Pod { key: key("client-1"), ready, ..Pod::default() });
    let mut graph = changing([0]);
    graph.apply(pod(false));
    for (change, heard) in [
        (Change::FenceGone(key("client")), false),
        (Change::LimiterGone(key("client")), false),
        (Change::Forget(key("client"), Vec::new()), false),
        (pod(false), false),
        (pod(true), true),
        (Change::Endpoints, true),
        (Change::SidecarGone(key("client")), true),
        (Change::DestinationRuleGone(key("client")), true),
    ] {
        let mut graph = graph.clone();
        graph.note(&change, at(1_020));
        assert_eq!(begun(graph.pushes(), 2_000), if heard { 20 } else { 0 }, "{change:?}");
    }
}

#[test]
fn after_a_disturbance_proxies_and_istiod_are_given_time_to_come_back() {
    let istiod = |name: &str, ready, since| {
        Change::Istiod(key(name), Istiod { ready, since: at(since), address: None })
    };
    let flapping: Vec<_> = (-10..80).map(|second| istiod("a", second % 2 == 0, second * 1_000)).collect();
    let none = [istiod("a", false, -20_000), istiod("b", false, -20_000)];
    let old = [istiod("a", true, -90_000), istiod("b", true, -80_000)];
    for (what, more, expected) in [
        ("both are there for long", vec![], 0),
        ("one came back", vec![istiod("a", true, -9_000)], 20_000),
        ("one is not ready", vec![istiod("a", false, -9_000)], 20_000),
        ("one went", vec![Change::IstiodGone(key("b"), at(-9_000))], 20_000),
        ("one that was not known went", vec![Change::IstiodGone(key("c"), at(-9_000))], 0),
        ("one has come and gone all the time", flapping.clone(), 60_000),
        (
            "all are back for nine seconds",
            vec![none[0].clone(), none[1].clone(), istiod("a", true, -9_000)],
            20_000,
        ),
        (
            "all were back a minute after it was written",
            vec![none[0].clone(), none[1].clone(), istiod("a", true, 61_000)],
            90_000,
        ),
        ("none is there", vec![istiod("a", false, -9_000), istiod("b", false, 0)], 34_000),
        (
            "all went",
            vec![Change::IstiodGone(key("a"), at(-90_000)), Change::IstiodGone(key("b"), at(-80_000))],
            34_000,
        ),
        ("the API server could not be heard", vec![Change::Disturbed(at(-9_000))], 20_000),
        ("that was long ago", vec![Change::Disturbed(at(-40_000))], 0),
    ] {
        let mut graph = changing([0]);
        for change in old.iter().cloned().chain(more) {
            graph.apply(change);
        }
        assert_eq!(begun(graph.pushes(), 5_000), expected, "{what}");
    }
}
