//! When learned hosts leave, and when not.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::api::{DependencySource, Retention, ServiceFence};
use crate::fence::expiry::{Expiry, FORGET_BEFORE, of};
use crate::graph::{
    Change, Coverage, Covered, Fence, Graph, Labels, Learning, ObjectKey, Observation, Pod, PodSelection,
    Service, Terms,
};

use DependencySource::{AccessLog, Prometheus};

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Of the tests, in hours; the precision is an eighth.
const RETENTION: i64 = 80;
const PRECISION: i64 = RETENTION / 8;

fn at(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

fn host(name: &str) -> String {
    format!("{name}.shop.svc.cluster.local")
}

fn key() -> ObjectKey {
    ObjectKey::new("shop", "client")
}

/// A fence with a pod, and services to call.
fn graph(retention: Retention) -> Graph {
    let mut graph = Graph::new("cluster.local").with_learning(Learning { retention, ..Learning::default() });
    for name in HOSTS {
        let key = ObjectKey::new("shop", name);
        graph.apply(Change::Service(Service { key, ..Service::default() }));
    }
    let labels = Labels::from(BTreeMap::from([("app".to_owned(), "client".to_owned())]));
    let (selection, wants, known) = (PodSelection::Labels(labels.clone()), Vec::new(), Vec::new());
    graph.apply(Change::Fence(Fence {
        key: key(),
        selection,
        wants,
        known,
        learning: None,
        terms: Terms::default(),
    }));
    let ips = vec![[10, 244, 0, 1].into()];
    graph.apply(Change::Pod(Pod { key: ObjectKey::new("shop", "client-1"), ips, labels, ..Pod::default() }));
    graph
}

fn call(name: &str, source: DependencySource, hour: i64) -> Change {
    let (caller, host) = ([10, 244, 0, 1].into(), host(name).as_str().into());
    Change::Call(Observation { caller, host, source, seen: at(hour) })
}

fn covered(since: i64, until: i64) -> Change {
    let time = Coverage { since: at(since), until: at(until) };
    Change::Covered(Covered { source: Prometheus, time })
}

fn expiry(graph: &Graph, now: i64) -> Expiry {
    of(&ServiceFence::default(), graph.fence(&key()).unwrap(), graph, at(now))
}

fn gone(graph: &Graph, now: i64) -> Vec<String> {
    expiry(graph, now).hosts.into_iter().map(|(host, _)| host.to_string()).collect()
}

/// `a` was called at hour 0; `b` goes on being called until hour 200.
fn used_and_unused() -> Graph {
    let mut graph = graph(Retention::new(SignedDuration::from_hours(RETENTION)));
    graph.apply(call("a", AccessLog, 0));
    for hour in (0..=200).step_by(5) {
        graph.apply(call("b", Prometheus, hour));
    }
    graph
}

#[test]
fn a_host_leaves_only_on_the_word_of_a_source_that_has_watched_all_the_time() {
    const DUE: i64 = RETENTION + PRECISION + 1;
    type Case = (&'static str, &'static [(i64, i64)], bool);
    let cases: [Case; 7] = [
        ("nobody watches", &[], false),
        ("watched since its last call, and for longer than its retention", &[(0, DUE)], true),
        ("watched since before", &[(-500, DUE)], true),
        ("its last call may be later than the one that was noted", &[(0, DUE - 1)], false),
        ("the source is younger than the retention", &[(DUE - RETENTION + 1, DUE)], false),
        ("watched for just the retention", &[(DUE - RETENTION, DUE)], true),
        ("with a gap", &[(0, 50), (51, DUE)], false),
    ];
    for (what, times, leaves) in cases {
        let mut graph = used_and_unused();
        for (since, until) in times {
            graph.apply(covered(*since, *until));
        }
        let expected = if leaves { vec![host("a")] } else { vec![] };
        assert_eq!(gone(&graph, 200), expected, "{what}");
    }
}

#[test]
fn while_its_source_is_down_no_time_passes_for_a_host() {
    let mut graph = used_and_unused();
    graph.apply(covered(0, 60));
    assert_eq!(gone(&graph, 1_000_000), [""; 0]);
}

/// A mesh whose Prometheus has looked until hour 100, and then is down for an hour; `a` was called at hour 90 last, and `b`
/// is called all the time. With it the hosts that left in that hour.
fn down_for_an_hour(retention: SignedDuration) -> (Graph, Vec<String>) {
    let mut graph = graph(Retention::new(retention));
    graph.apply(call("a", AccessLog, 90));
    graph.apply(call("b", Prometheus, 100));
    graph.apply(covered(0, 100));
    let minute = |minute| at(100) + SignedDuration::from_mins(minute);
    let facts = |graph: &Graph| graph.fence(&key()).unwrap().clone();
    let left = (0..60)
        .flat_map(|passed| of(&ServiceFence::default(), &facts(&graph), &graph, minute(passed)).hosts)
        .map(|(host, _)| host.to_string())
        .collect();
    (graph, left)
}

#[test]
fn in_an_hour_without_prometheus_no_host_leaves() {
    // It would be due half an hour after Prometheus has gone.
    let retention = SignedDuration::from_mins(560);
    for (what, since, leaves) in
        [("it comes back with its data", 0, vec![host("a")]), ("it comes back without", 101, vec![])]
    {
        let (mut graph, left) = down_for_an_hour(retention);
        assert_eq!(left, [""; 0], "while it is down");
        for hour in [101, 102] {
            graph.apply(call("b", Prometheus, hour));
            graph.apply(covered(since, hour));
        }
        assert_eq!(gone(&graph, 102), leaves, "{what}");
    }
}

#[test]
fn the_log_of_the_global_proxy_alone_lets_no_host_go() {
    let mut graph = used_and_unused();
    let time = Coverage { since: at(0), until: at(1_000) };
    graph.apply(Change::Covered(Covered { source: AccessLog, time }));
    assert_eq!(expiry(&graph, 1_000), Expiry::default());
}

#[test]
fn a_source_that_does_not_see_the_workload_has_no_say_about_it() {
    for (what, source, last, leaves) in [
        ("it never told of a call of it", AccessLog, 195, false),
        ("it has not told of one for long", Prometheus, 200 - 2 * PRECISION - 1, false),
        ("it told of one lately", Prometheus, 200 - 2 * PRECISION, true),
    ] {
        let mut graph = graph(Retention::new(SignedDuration::from_hours(RETENTION)));
        graph.apply(call("a", AccessLog, 0));
        graph.apply(call("b", source, last));
        graph.apply(covered(0, 200));
        assert_eq!(!gone(&graph, 200).is_empty(), leaves, "{what}");
    }
}

#[test]
fn a_retention_of_nothing_is_for_ever() {
    let mut graph = graph(Retention::FOR_EVER);
    graph.apply(call("a", AccessLog, 0));
    graph.apply(call("b", Prometheus, 99_999));
    graph.apply(covered(0, 100_000));
    assert_eq!(expiry(&graph, 100_000), Expiry::default());
}

#[test]
fn it_is_looked_at_again_when_the_next_host_may_be_due_and_never_at_once() {
    let mut graph = used_and_unused();
    graph.apply(covered(0, 89));
    let day = SignedDuration::from_hours(24);
    assert_eq!(expiry(&graph, 89).wake, Some(at(90) + SignedDuration::from_secs(1)));
    assert_eq!(expiry(&graph, 300).wake, Some(at(301) + SignedDuration::from_secs(1)), "it stays behind");
    graph.apply(covered(0, 90));
    assert_eq!(expiry(&graph, 90).wake, Some(at(90) + SignedDuration::from_mins(1)), "a second is too soon");
    graph.apply(covered(0, 91));
    assert_eq!(expiry(&graph, 91).wake, Some(at(91) + day), "what is far off is looked at daily");
}

/// What happens, in hours.
#[derive(Clone, Debug)]
enum Happening {
    /// A call that Prometheus sees, if it is up.
    Call(usize),
    /// A call over the global proxy.
    Detour(usize),
    /// A pass that looks back so far.
    Pass(i64),
    Pause(i64),
    /// The operator starts anew from what statuses say.
    Restart,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        4 => (0..HOSTS.len()).prop_map(Happening::Call),
        1 => (0..HOSTS.len()).prop_map(Happening::Detour),
        4 => (1i64..40).prop_map(Happening::Pass),
        4 => (1i64..30).prop_map(Happening::Pause),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(happening, 1..80)
}

/// A mesh with a Prometheus that remembers every direct call, and tells of it when it is asked.
struct Mesh {
    graph: Graph,
    now: i64,
    /// The direct calls that were made, and until when each has been told.
    calls: Vec<(usize, i64)>,
    seen: BTreeMap<usize, i64>,
}

impl Mesh {
    fn befall(&mut self, happening: &Happening) {
        match *happening {
            Happening::Pause(hours) => self.now += hours,
            Happening::Call(host) => self.calls.push((host, self.now)),
            Happening::Detour(host) => self.see(host, AccessLog, self.now),
            Happening::Pass(window) => self.pass(self.now - window),
            Happening::Restart => self.restart(),
        }
    }

    fn see(&mut self, host: usize, source: DependencySource, hour: i64) {
        self.graph.apply(call(HOSTS[host], source, hour));
        let last = self.seen.entry(host).or_insert(hour);
        *last = hour.max(*last);
    }

    fn pass(&mut self, since: i64) {
        for (host, hour) in self.calls.clone().into_iter().filter(|(_, hour)| *hour >= since) {
            self.see(host, Prometheus, hour);
        }
        self.graph.apply(covered(since, self.now));
    }

    fn restart(&mut self) {
        let known = self.graph.fence(&key()).unwrap().known.clone();
        let coverage = self.graph.coverage().clone();
        self.graph = graph(Retention::new(SignedDuration::from_hours(RETENTION)));
        for (source, time) in coverage {
            self.graph.apply(Change::Covered(Covered { source, time }));
        }
        let labels = Labels::from(BTreeMap::from([("app".to_owned(), "client".to_owned())]));
        let (selection, wants) = (PodSelection::Labels(labels), Vec::new());
        let known = known.into_iter().collect();
        self.graph.apply(Change::Fence(Fence {
            key: key(),
            selection,
            wants,
            known,
            learning: None,
            terms: Terms::default(),
        }));
    }

    /// Lets go what is due, and tells which hosts that were.
    fn let_go(&mut self) -> Vec<Arc<str>> {
        let expired = expiry(&self.graph, self.now).hosts;
        self.graph.apply(Change::Forget(key(), expired.clone()));
        expired.into_iter().map(|(host, _)| host).collect()
    }
}

proptest! {
    #[test]
    fn no_host_leaves_that_a_source_saw_within_the_retention(happenings in happenings()) {
        let graph = graph(Retention::new(SignedDuration::from_hours(RETENTION)));
        let mut mesh = Mesh { graph, now: 0, calls: Vec::new(), seen: BTreeMap::new() };
        for happening in happenings {
            mesh.befall(&happening);
            let gone = mesh.let_go();
            for (number, last) in mesh.seen.clone() {
                if gone.iter().any(|gone| **gone == *host(HOSTS[number])) {
                    prop_assert!(last + RETENTION <= mesh.now, "{} seen at {last}, now {}", HOSTS[number], mesh.now);
                    let coverage = mesh.graph.coverage()[&Prometheus];
                    prop_assert!(coverage.until.duration_since(coverage.since) >= SignedDuration::from_hours(RETENTION));
                }
            }
        }
    }
}

#[test]
fn a_host_that_nobody_calls_leaves_in_the_end() {
    let graph = graph(Retention::new(SignedDuration::from_hours(RETENTION)));
    let mut mesh = Mesh { graph, now: 0, calls: Vec::new(), seen: BTreeMap::new() };
    mesh.befall(&Happening::Detour(0));
    let left = (0..200).find(|_| {
        for happening in [Happening::Call(1), Happening::Pass(1), Happening::Pause(1)] {
            mesh.befall(&happening);
        }
        !mesh.let_go().is_empty()
    });
    assert_eq!(left, Some(RETENTION + PRECISION + 1));
}

#[test]
fn a_fence_forgets_what_it_is_told_to() {
    let graph = used_and_unused();
    for (annotation, forgotten) in [
        (at(1).to_string(), vec!["a"]),
        (at(0).to_string(), vec![]),
        (at(200).to_string(), vec!["a"]),
        (at(201).to_string(), vec!["a", "b"]),
        (at(203).to_string(), vec![]),
        ("yesterday".to_owned(), vec![]),
    ] {
        let mut fence = ServiceFence::default();
        fence.metadata.annotations = Some([(FORGET_BEFORE.to_owned(), annotation.clone())].into());
        let expiry = of(&fence, graph.fence(&key()).unwrap(), &graph, at(202));
        let hosts: Vec<_> = expiry.hosts.iter().map(|(host, _)| &**host).collect();
        let forgotten: Vec<_> = forgotten.into_iter().map(host).collect();
        assert_eq!(hosts, forgotten, "{annotation}");
        let ahead = annotation.parse().is_ok_and(|before: Timestamp| before > at(202));
        assert!(!ahead || expiry.wake == annotation.parse().ok(), "it is looked at again then");
    }
}
