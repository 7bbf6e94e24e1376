//! Make before break as istiod pushes it: what is written in steps must come to the proxies in steps.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::pace::Pace;
use super::{Egress, Scope, Timings};
use crate::graph::{Change, Debounce, Graph, ObjectKey};

const TIMINGS: Timings = Timings {
    settle: SignedDuration::from_millis(300),
    open_settle: SignedDuration::from_secs(1),
    drain: SignedDuration::from_secs(5),
    debounce: Debounce::DEFAULT,
};
/// The simulation's step, in milliseconds.
const TICK: i64 = 10;

fn at(millis: i64) -> Timestamp {
    "2026-11-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(millis)
}

fn hosts(names: &[&str]) -> Scope {
    names.iter().map(|name| format!("ns/{name}")).collect()
}

/// istiod's debounce, as in `pilot/pkg/xds/discovery.go` (1.31).
#[derive(Default)]
struct Istiod {
    /// The first and the last change since the last push.
    pending: Option<(i64, i64)>,
}

impl Istiod {
    fn hear(&mut self, now: i64) {
        self.pending = Some((self.pending.map_or(now, |(first, _)| first), now));
    }

    fn pushes(&mut self, now: i64) -> bool {
        let due = self.pending.is_some_and(|(first, last)| now - last >= 100 || now - first >= 10_000);
        if due {
            self.pending = None;
        }
        due
    }
}

/// A mesh of one fence, and of others who change something now and then.
struct Simulation {
    graph: Graph,
    istiod: Istiod,
    /// What is decided, and is written at the time with it.
    writing: Option<(i64, Egress)>,
    written: Egress,
    written_at: Option<Timestamp>,
    writes: usize,
    /// What was pushed and when, one state after the other.
    pushed: Vec<(i64, Egress)>,
    wake: Option<Timestamp>,
    /// Whether the status is written at once.
    noted: bool,
}

impl Simulation {
    fn new(noted: bool) -> Self {
        let fenced = Egress { route: hosts(&["a"]), diverted: true, ..Egress::open() };
        Self {
            graph: Graph::new("cluster.local"),
            istiod: Istiod::default(),
            writing: None,
            writes: 0,
            pushed: vec![(0, fenced.clone())],
            written: fenced,
            written_at: None,
            wake: None,
            noted,
        }
    }

    fn change(&mut self, now: i64) {
        self.istiod.hear(now);
        self.graph.note(&Change::ServiceGone(ObjectKey::new("ns", "z")), at(now));
    }

    /// Looks at the fence when the last look asked for it, and now and then as well; a write takes a while.
    fn look(&mut self, target: &Scope, now: i64, takes: i64) {
        let due = now % 170 == 0 || self.wake.is_some_and(|wake| wake <= at(now));
        if self.writing.is_some() || !due {
            return;
        }
        let pace = Pace {
            timings: &TIMINGS,
            pushes: self.graph.pushes(),
            written: self.written_at,
            noted: self.noted,
            now: at(now),
        };
        let step = self.written.advance(target, &pace);
        self.wake = step.wake;
        if step.egress != self.written {
            self.writing = Some((now + takes, step.egress));
        }
    }

    fn tick(&mut self, now: i64) {
        if let Some((_, egress)) = self.writing.take_if(|(due, _)| *due <= now) {
            self.written = egress;
            self.writes += 1;
            self.change(now);
            self.written_at = Some(at(now));
        }
        if self.istiod.pushes(now) {
            self.pushed.push((now, self.written.clone()));
        }
    }
}

fn run(others: &BTreeSet<i64>, targets: &[(i64, Scope)], takes: &[i64], noted: bool) -> Simulation {
    let mut simulation = Simulation::new(noted);
    let mut takes = takes.iter().cycle();
    for now in (0..60_000).step_by(10) {
        if others.range(now..now + TICK).next().is_some() {
            simulation.change(now);
        }
        simulation.tick(now);
        let target = targets.iter().rfind(|(from, _)| *from <= now).map(|(_, target)| target.clone());
        if let Some(target) = target {
            simulation.look(&target, now, takes.next().copied().unwrap_or(10));
        }
    }
    simulation
}

#[test]
fn where_there_is_never_a_pause_what_is_learned_one_by_one_is_routed_to_in_a_while_and_in_few_writes() {
    let others: BTreeSet<_> = (0..60_000).step_by(50).collect();
    let names: Vec<_> = (0..40).map(|number| format!("ns/h{number}")).collect();
    let learned = |count: usize| names[..count].iter().cloned().chain(["ns/a".to_owned()]).collect::<Scope>();
    let targets: Vec<_> =
        (0..=40).map(|count| (i64::try_from(count).unwrap() * 1_000, learned(count))).collect();
    let Simulation { pushed, writes, .. } = run(&others, &targets, &[20], true);
    let first = learned(1);
    let direct = pushed.iter().find(|(_, egress)| first.is_within(&egress.route));
    assert!(direct.is_some_and(|(at, _)| *at < 24_000), "{direct:?}");
    assert!(writes <= 15, "{writes} writes");
}

/// Times of changes: a few apart, or one after the other for a while.
fn others() -> impl Strategy<Value = BTreeSet<i64>> {
    let train = (0..40_000_i64, 10..250_i64, 1..400_i64)
        .prop_map(|(from, apart, count)| (0..count).map(|number| from + number * apart).collect::<Vec<_>>());
    prop::collection::vec(train, 0..6).prop_map(|trains| trains.into_iter().flatten().collect())
}

fn targets() -> impl Strategy<Value = Vec<(i64, Scope)>> {
    let names = prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4);
    prop::collection::vec((0..30_000_i64, names), 1..6).prop_map(|mut targets| {
        targets.sort_by_key(|(from, _)| *from);
        targets.into_iter().map(|(from, names)| (from, hosts(&names))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_push_brings_a_route_together_with_its_cluster_nor_takes_both(
        others in others(),
        targets in targets(),
        takes in prop::collection::vec(10..900_i64, 1..8),
        noted in any::<bool>(),
    ) {
        let pushed = run(&others, &targets, &takes, noted).pushed;
        for ((_, before), (_, after)) in pushed.iter().zip(&pushed[1..]) {
            prop_assert!(after.route.is_within(&before.clusters()), "brought: {before:?}\n{after:?}");
            prop_assert!(before.route.is_within(&after.clusters()), "taken: {before:?}\n{after:?}");
        }
        let last = &targets.last().expect("one at least").1;
        prop_assert_eq!(&pushed.last().expect("the first").1.route, last, "it never comes to an end");
    }
}
