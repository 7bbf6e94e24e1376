//! The rule of make-before-break, over any history of targets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::egress::Step;
use super::pace::Pace;
use super::{Egress, Scope, Timings};
use crate::graph::{Change, Debounce, Graph, ObjectKey, Pushes};

const TIMINGS: Timings = Timings {
    settle: SignedDuration::from_millis(300),
    open_settle: SignedDuration::from_secs(10),
    drain: SignedDuration::from_secs(50),
    debounce: Debounce::DEFAULT,
};
const ALL: [&str; 5] = ["ns/a", "ns/b", "ns/c", "ns/d", "ns/e"];

fn at(millis: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis)
}

/// In a mesh in which nothing else changes.
fn pace(now: Timestamp) -> Pace<'static> {
    static QUIET: LazyLock<Pushes> = LazyLock::new(Pushes::default);
    Pace { timings: &TIMINGS, pushes: &QUIET, written: None, noted: true, now }
}

fn hosts(names: &[&str]) -> Scope {
    names.iter().map(|name| format!("ns/{name}")).collect()
}

fn members(scope: &Scope) -> BTreeSet<&'static str> {
    let is_in = |host: &&str| Scope::from_hosts(&[(*host).to_owned()]).is_within(scope);
    ALL.into_iter().filter(is_in).collect()
}

/// Follows the steps to a target until nothing is left to do.
fn run_to(mut egress: Egress, target: &Scope, mut now: Timestamp) -> Vec<(Timestamp, Egress)> {
    let mut history = Vec::new();
    for _ in 0..10 {
        let Step { egress: next, wake } = egress.advance(target, &pace(now));
        if next != egress {
            history.push((now, next.clone()));
        }
        egress = next;
        match wake {
            Some(wake) => now = now.max(wake),
            None => return history,
        }
    }
    panic!("no end: {history:?}");
}

fn settled(route: &[&str]) -> Egress {
    Egress { route: hosts(route), diverted: true, ..Egress::open() }
}

/// A workload that was just trimmed for the first time, at 10 s.
fn fenced(route: &[&str]) -> Egress {
    let wide = Egress::open().advance(&hosts(route), &pace(at(0))).egress;
    wide.advance(&hosts(route), &pace(at(10_000))).egress
}

#[test]
fn a_live_workload_keeps_all_clusters_until_its_old_routes_have_drained() {
    let steps = run_to(Egress::open(), &hosts(&["a"]), at(0));
    let scopes: Vec<_> = steps.iter().map(|(time, e)| (*time, e.route.clone(), e.keep.clone())).collect();
    assert_eq!(
        scopes,
        [
            (at(0), Scope::Everything, Scope::nothing()),
            (at(10_000), hosts(&["a"]), Scope::Everything),
            (at(60_000), hosts(&["a"]), Scope::nothing())
        ]
    );
    assert!(steps.iter().all(|(_, egress)| egress.diverted));
}

#[test]
fn a_fence_that_is_given_up_before_it_was_trimmed_just_goes() {
    let wide = Egress::open().advance(&hosts(&["a"]), &pace(at(0))).egress;
    let steps = run_to(wide, &Scope::Everything, at(1_000));
    assert_eq!(steps, [(at(10_000), Egress::open())]);
}

#[test]
fn a_learned_host_gets_its_cluster_first_and_its_route_a_settle_time_later() {
    let steps = run_to(settled(&["a"]), &hosts(&["a", "b"]), at(0));
    let scopes: Vec<_> = steps.iter().map(|(time, e)| (*time, e.route.clone(), e.keep.clone())).collect();
    assert_eq!(
        scopes,
        [(at(0), hosts(&["a"]), hosts(&["b"])), (at(300), hosts(&["a", "b"]), Scope::nothing())]
    );
}

#[test]
fn a_burst_waits_for_the_host_that_settles_and_then_goes_in_one_write() {
    let warm = settled(&["a"]).advance(&hosts(&["a", "b"]), &pace(at(0))).egress;
    let busy = warm.advance(&hosts(&["a", "b", "c", "d"]), &pace(at(100)));
    assert_eq!((&busy.egress, busy.wake), (&warm, Some(at(300))));
    let next = warm.advance(&hosts(&["a", "b", "c", "d"]), &pace(at(300))).egress;
    assert_eq!((next.route, next.keep), (hosts(&["a", "b"]), hosts(&["c", "d"])));
}

#[test]
fn while_istiod_has_no_pause_to_push_in_others_join_the_host_that_settles() {
    let (all, mut graph) = (hosts(&["a", "b", "c", "d"]), Graph::new("cluster.local"));
    let mut look = |egress: &Egress, target: &Scope, now: i64| {
        for change in (0..now).step_by(50) {
            graph.note(&Change::ServiceGone(ObjectKey::new("ns", "z")), at(change));
        }
        egress.advance(target, &Pace { pushes: graph.pushes(), ..pace(at(now)) })
    };
    let warm = settled(&["a"]).advance(&hosts(&["a", "b"]), &pace(at(0))).egress;
    let soon = look(&warm, &hosts(&["a", "b", "c"]), 50);
    assert_eq!((&soon.egress, soon.wake), (&warm, Some(at(100))));
    let joined = look(&warm, &hosts(&["a", "b", "c"]), 100).egress;
    assert_eq!((&joined.route, &joined.keep), (&hosts(&["a"]), &hosts(&["b", "c"])));
    let again = look(&joined, &all, 250);
    assert_eq!(
        (&again.egress, again.wake),
        (&joined, Some(at(300))),
        "each time it takes three times as long"
    );
    let again = look(&joined, &all, 300).egress;
    assert_eq!(again.keep, hosts(&["b", "c", "d"]));
}

#[test]
fn others_join_hosts_that_have_settled_and_wait_for_the_status_but_not_for_ever() {
    let (more, all) = (hosts(&["a", "b", "c"]), hosts(&["a", "b", "c", "d"]));
    let warm = settled(&["a"]).advance(&hosts(&["a", "b"]), &pace(at(0))).egress;
    let look = |egress: &Egress, target: &Scope, now: i64| {
        egress.advance(target, &Pace { noted: false, ..pace(at(now)) }).egress
    };
    assert_eq!(look(&warm, &hosts(&["a", "b"]), 1_000).route, hosts(&["a", "b"]), "nobody else is there");
    let joined = look(&warm, &more, 1_000);
    assert_eq!((&joined.route, &joined.keep), (&hosts(&["a"]), &hosts(&["b", "c"])));
    let joined = look(&joined, &all, 3_000);
    assert_eq!((&joined.route, &joined.keep), (&hosts(&["a"]), &hosts(&["b", "c", "d"])));
    assert_eq!(look(&joined, &hosts(&["a", "b", "c", "d", "e"]), 10_000).route, all);
}

#[test]
fn nobody_joins_hosts_that_are_about_to_be_routed_to() {
    let warm = settled(&["a"]).advance(&hosts(&["a", "b"]), &pace(at(0))).egress;
    let mut graph = Graph::new("cluster.local");
    graph.note(&Change::ServiceGone(ObjectKey::new("ns", "z")), at(100));
    let step = warm.advance(&hosts(&["a", "b", "c"]), &Pace { pushes: graph.pushes(), ..pace(at(310)) });
    assert_eq!((&step.egress, step.wake), (&warm, Some(at(400))));
}

#[test]
fn a_host_that_leaves_loses_its_route_first_and_its_cluster_after_the_drain() {
    let steps = run_to(settled(&["a", "b"]), &hosts(&["a"]), at(0));
    let scopes: Vec<_> = steps.iter().map(|(time, e)| (*time, e.route.clone(), e.keep.clone())).collect();
    assert_eq!(
        scopes,
        [(at(0), hosts(&["a"]), hosts(&["b"])), (at(50_000), hosts(&["a"]), Scope::nothing())]
    );
}

#[test]
fn opening_brings_every_cluster_before_any_route() {
    let steps = run_to(settled(&["a"]), &Scope::Everything, at(0));
    let scopes: Vec<_> = steps.iter().map(|(time, e)| (*time, e.route.clone(), e.keep.clone())).collect();
    assert_eq!(
        scopes,
        [
            (at(0), hosts(&["a"]), Scope::Everything),
            (at(10_000), Scope::Everything, Scope::nothing()),
            (at(20_000), Scope::Everything, Scope::nothing())
        ]
    );
    assert_eq!(steps.iter().map(|(_, egress)| egress.diverted).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn a_host_learned_while_the_first_fencing_drains_is_routed_at_once() {
    let step = fenced(&["a"]).advance(&hosts(&["a", "b"]), &pace(at(11_000)));
    assert_eq!(step.egress.route, hosts(&["a", "b"]));
    assert_eq!(step.wake, Some(at(60_000)), "growing does not prolong the drain");
}

#[test]
fn a_burst_while_the_first_fencing_drains_goes_in_one_write_a_settle_time() {
    let first = fenced(&["a"]).advance(&hosts(&["a", "b"]), &pace(at(11_000))).egress;
    let busy = first.advance(&hosts(&["a", "b", "c"]), &pace(at(11_100)));
    assert_eq!((&busy.egress, busy.wake), (&first, Some(at(11_300))));
    let next = first.advance(&hosts(&["a", "b", "c", "d"]), &pace(at(11_300))).egress;
    assert_eq!((&next.route, &next.keep), (&hosts(&["a", "b", "c", "d"]), &Scope::Everything));
    let last = next.advance(&hosts(&["a", "b", "c", "d"]), &pace(at(60_000))).egress;
    assert_eq!((last.keep.is_nothing(), last.routes_added), (true, None));
}

fn target() -> impl Strategy<Value = Scope> {
    let some = prop::sample::subsequence(ALL.to_vec(), 0..=ALL.len());
    prop_oneof![1 => Just(Scope::Everything), 5 => some.prop_map(|hosts| hosts.into_iter().map(str::to_owned).collect())]
}

fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![0i64..400, Just(300), 5_000i64..12_000, 40_000i64..60_000]
}

/// What a proxy went through: since when each host has a cluster, and since when it has no route.
#[derive(Default)]
struct Proxy {
    clusters: BTreeMap<&'static str, Timestamp>,
    routes: BTreeSet<&'static str>,
    unrouted: BTreeMap<&'static str, Timestamp>,
    diverted: bool,
    /// Since when everything is routed and the catch-all is on the global proxy.
    widened: Option<Timestamp>,
}

impl Proxy {
    fn open() -> Self {
        let long_ago = at(-1_000_000);
        Self {
            clusters: ALL.iter().map(|host| (*host, long_ago)).collect(),
            routes: ALL.into(),
            unrouted: BTreeMap::new(),
            ..Self::default()
        }
    }

    fn take(&mut self, egress: &Egress, now: Timestamp) -> Result<(), TestCaseError> {
        let (clusters, routes) = (members(&egress.clusters()), members(&egress.route));
        let turned = self.widened.is_some_and(|since| now >= since + TIMINGS.open_settle);
        let wide = egress.route == Scope::Everything;
        prop_assert!(wide || self.diverted, "the catch-all turns in the step in which listeners go");
        prop_assert!(
            wide || self.widened.is_none() || turned,
            "listeners go before the catch-all has turned"
        );
        prop_assert!(egress.diverted || !self.diverted || turned, "the catch-all turns back too early");
        self.widened = (wide && egress.diverted).then(|| self.widened.unwrap_or(now));
        self.diverted = egress.diverted;
        for host in routes.difference(&self.routes) {
            let since = self.clusters.get(host).copied();
            prop_assert!(
                since.is_some_and(|s| now >= s + TIMINGS.settle),
                "{host} is routed to before it is warm"
            );
        }
        if routes != self.routes {
            let had: BTreeSet<_> = self.clusters.keys().copied().collect();
            prop_assert!(had.is_subset(&clusters), "clusters go in the step in which routes change");
        }
        for host in self.clusters.keys().filter(|host| !clusters.contains(*host)) {
            let since = self.unrouted.get(host).copied();
            prop_assert!(
                since.is_none_or(|s| now >= s + TIMINGS.drain) && !self.routes.contains(host),
                "{host} loses its cluster before its routes have drained"
            );
        }
        for host in self.routes.difference(&routes) {
            self.unrouted.insert(host, now);
        }
        self.clusters.retain(|host, _| clusters.contains(host));
        for host in clusters {
            self.clusters.entry(host).or_insert(now);
        }
        self.routes = routes;
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_history_of_targets_ever_breaks_a_call(history in prop::collection::vec((target(), pause()), 1..30)) {
        let (mut egress, mut proxy, mut now) = (Egress::open(), Proxy::open(), at(0));
        for (target, pause) in history {
            now += SignedDuration::from_millis(pause);
            egress = egress.advance(&target, &pace(now)).egress;
            proxy.take(&egress, now)?;
        }
    }

    #[test]
    fn every_target_is_reached_and_then_nothing_is_left_to_do(
        history in prop::collection::vec((target(), pause()), 0..10),
        goal in target(),
    ) {
        let (mut egress, mut now) = (Egress::open(), at(0));
        for (target, pause) in history {
            now += SignedDuration::from_millis(pause);
            egress = egress.advance(&target, &pace(now)).egress;
        }
        let steps = run_to(egress.clone(), &goal, now);
        let last = steps.last().map_or(&egress, |(_, last)| last);
        prop_assert_eq!((&last.route, last.keep.is_nothing()), (&goal, true));
        prop_assert!(steps.len() <= 7, "{} steps", steps.len());
    }

    #[test]
    fn a_step_taken_twice_at_one_time_is_taken_once(
        history in prop::collection::vec((target(), pause()), 1..10),
    ) {
        let (mut egress, mut now) = (Egress::open(), at(0));
        for (target, pause) in history {
            now += SignedDuration::from_millis(pause);
            let step = egress.advance(&target, &pace(now));
            let again = step.egress.advance(&target, &pace(now));
            prop_assert!(again.egress == step.egress || step.wake.is_some_and(|wake| wake <= now));
            egress = step.egress;
        }
    }
}
