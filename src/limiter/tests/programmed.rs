use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::api::{Statement, Transition, reasons};
use crate::graph::{Debounce, Istiod, Proxy};
use crate::limiter::{Look, Proxies, ProxyState, first_look};

/// The time.
const NOW: i64 = 100;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn look(second: i64, states: &[(&str, ProxyState)]) -> Look {
    let proxies = states.iter().map(|(pod, state)| (key(pod), state.clone())).collect();
    Look { at: at(second), until: at(second), proxies, ..Look::default() }
}

fn synced() -> [(&'static str, ProxyState); 3] {
    ["a", "b", "c"].map(|pod| (pod, ProxyState::Synced))
}

/// All have taken them but for `b`.
fn but(state: ProxyState) -> [(&'static str, ProxyState); 3] {
    [("a", ProxyState::Synced), ("b", state), ("c", ProxyState::Synced)]
}

fn rejected(words: &str) -> ProxyState {
    ProxyState::Rejected(words.into())
}

/// What is planned when all `EnvoyFilter`s stand.
fn looked(limiter: &SmartLimiter, look: Option<&Look>, written: Option<i64>, graph: &Graph) -> Plan {
    let settings = MetricSettings::default();
    let (none, differing) = (BTreeMap::new(), BTreeMap::new());
    let metrics = Known { settings: &settings, readings: &none, differing: &differing, now: at(NOW) };
    let mut input = Input { limiter, filters: &[], graph, metrics, service: None, proxies: None };
    let filters: Vec<_> = plan(&input).apply.into_iter().map(|(filter, _)| filter.into()).collect();
    let proxies = Proxies { look, written: written.map(at), debounce: Debounce::DEFAULT };
    (input.filters, input.proxies) = (&filters, Some(proxies));
    plan(&input)
}

/// What `Programmed` says then, when istiod is asked next, and what Events tell.
fn told(limiter: &mut SmartLimiter, mut plan: Plan) -> (String, i64, Vec<Transition>) {
    let verdict = plan.programmed.unwrap();
    plan.report.programmed(limiter, verdict.statement);
    let (status, transitions) = plan.report.status(limiter, at(NOW));
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Programmed");
    let said =
        condition.map_or_else(String::new, |it| format!("{} {}: {}", it.status, it.reason, it.message));
    limiter.status = Some(status);
    (said, verdict.look.as_second(), transitions)
}

#[test]
fn proxies_have_taken_a_limit_when_istiod_says_so_of_all_of_them() {
    let failed =
        Look { failure: Some("istio-system/istiod-1: no answer in time".to_owned()), ..look(99, &[]) };
    let slow = Look { at: at(85), until: at(NOW), ..failed.clone() };
    let restricted = Look { restricted: true, ..look(99, &[]) };
    let refused =
        "False Rejected: refused, for limits or for other resources: 1 of 3 proxies (b); the first says: no";
    let waits = |since| but(ProxyState::Pending(at(since)));
    let awaited = "Unknown Pending: istiod is asked";
    for (what, look, expected, next) in [
        ("all have", look(99, &synced()), "True Programmed: the proxies of all ready pods", 399),
        ("one refused", look(99, &but(rejected("no"))), refused, 159),
        ("one has just been asked", look(99, &waits(99)), awaited, 104),
        (
            "one does not answer",
            look(99, &waits(80)),
            "False Pending: not answered yet: 1 of 3 proxies (b)",
            159,
        ),
        (
            "one is not connected",
            look(99, &synced()[..2]),
            "False Pending: not connected to istiod: 1 of 3 proxies (c)",
            159,
        ),
        (
            "istiod does not answer",
            failed,
            "Unknown IstiodUnavailable: istio-system/istiod-1: no answer",
            159,
        ),
        ("it was waited for", slow, "Unknown IstiodUnavailable: istio-system/istiod-1: no answer", 145),
        ("istiod shows nobody else", restricted, "Unknown NotVisible: istiod does not show", 399),
        ("nobody looked for a while", look(10, &synced()), "True Programmed: ", 310),
        ("nobody looked since a pod came", look(10, &synced()[..2]), awaited, NOW),
    ] {
        let mut limiter = one(&json!({}));
        let plan = looked(&limiter, Some(&look), None, &mesh());
        let (said, asked, _) = told(&mut limiter, plan);
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!(asked, next, "{what}");
    }
}

#[test]
fn a_look_tells_nothing_of_what_istiod_has_not_pushed_by_then() {
    let (yes, awaited, refused) = ("True Programmed", "Unknown Pending", "False Rejected");
    let (well, ill) = (synced(), but(rejected("no")));
    // What is written is pushed after 100 ms, and answered within a second.
    for (what, written, second, states, expected, next) in [
        ("it was pushed, and is looked at once more soon", Some(97), 99, &well, yes, 159),
        ("it was pushed long ago", Some(30), 99, &well, yes, 399),
        ("it is being pushed", Some(98), 99, &well, awaited, NOW),
        ("it was written since", Some(100), 99, &well, awaited, 101),
        ("a refusal is told at once", Some(98), 99, &ill, refused, 159),
        ("a refusal of something older is not", Some(100), 99, &ill, awaited, 101),
    ] {
        let mut limiter = one(&json!({}));
        let plan = looked(&limiter, Some(&look(second, states)), written.map(i64::from), &mesh());
        let (said, asked, _) = told(&mut limiter, plan);
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!(asked, next, "{what}");
    }
    let mut limiter = one(&json!({}));
    let plan = looked(&limiter, None, None, &mesh());
    let (said, asked, _) = told(&mut limiter, plan);
    assert!(said.starts_with(awaited), "{said}");
    assert_eq!(asked, NOW, "nobody has looked");
}

#[test]
fn while_proxies_come_back_to_istiod_none_is_missed() {
    let istiod = |ready, since| {
        let istiod = Istiod { ready, since: at(since), address: None };
        let mut graph = mesh();
        graph.apply(Change::Istiod(ObjectKey::new("istio-system", "istiod-1"), istiod));
        graph
    };
    let away = Look { failure: Some("no istiod".to_owned()), ..look(99, &[]) };
    let back = Look { restricted: true, ..look(99, &[]) };
    let awaited = "Unknown Pending";
    for (what, graph, look, written, expected, next) in [
        ("nobody is there", istiod(false, 50), &away, None, awaited, 130),
        ("it came back just now", istiod(true, 80), &back, None, awaited, 110),
        ("it came back a while ago", istiod(true, 60), &back, None, "Unknown NotVisible", 399),
        ("nobody pushes", istiod(false, 50), &look(99, &synced()), Some(98), awaited, 131),
        ("all are there", istiod(true, 99), &look(99, &synced()), None, "True Programmed", 399),
    ] {
        let mut limiter = one(&json!({}));
        let plan = looked(&limiter, Some(look), written, &graph);
        let (said, asked, _) = told(&mut limiter, plan);
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!(asked, next, "{what}");
    }
}

#[test]
fn what_was_said_stands_until_there_is_a_look_that_tells_otherwise() {
    let mut limiter = one(&json!({}));
    let (graph, last) = (mesh(), look(99, &synced()));
    let plan = looked(&limiter, Some(&last), None, &graph);
    told(&mut limiter, plan);
    let before = limiter.status.clone();
    for (states, written) in [(synced(), Some(100)), (but(ProxyState::Pending(at(99))), None)] {
        let plan = looked(&limiter, Some(&look(99, &states)), written, &graph);
        let (said, _, transitions) = told(&mut limiter, plan);
        assert!(said.starts_with("True Programmed"), "{said}");
        assert_eq!((&limiter.status, transitions), (&before, vec![]), "nothing is written");
    }
    limiter.metadata.generation = Some(4);
    let plan = looked(&limiter, Some(&last), Some(100), &graph);
    let (said, ..) = told(&mut limiter, plan);
    assert!(said.starts_with("Unknown Pending"), "of another spec: {said}");
}

#[test]
fn events_tell_when_proxies_refuse_and_when_they_do_no_more() {
    let (well, refused, waits) = (synced(), but(rejected("no")), but(ProxyState::Pending(at(50))));
    let mut limiter = one(&json!({}));
    for (states, expected) in [
        (&well, vec![(reasons::LIMITING, false)]),
        (&refused, vec![(reasons::REJECTED, true)]),
        (&refused, vec![]),
        (&waits, vec![]),
        (&well, vec![]),
        (&refused, vec![(reasons::REJECTED, true)]),
        (&well, vec![(reasons::PROGRAMMED, false)]),
        (&waits, vec![]),
        (&well, vec![]),
    ] {
        let plan = looked(&limiter, Some(&look(99, states)), None, &mesh());
        let (_, _, transitions) = told(&mut limiter, plan);
        let told: Vec<_> = transitions.iter().map(|it| (it.reason, it.warning)).collect();
        assert_eq!(told, expected, "{states:?}");
    }
}

#[test]
fn where_there_is_no_limit_or_no_proxy_there_is_nothing_to_take() {
    let mut idle = one(&json!({ "condition": "false" }));
    let plan = looked(&idle, Some(&look(99, &synced())), None, &mesh());
    let (said, _, transitions) = told(&mut idle, plan);
    let message = "no limit has a condition that holds".to_owned();
    let ready = Statement { condition: crate::api::READY, holds: Some(true), reason: reasons::IDLE, message };
    assert_eq!((said, transitions), (String::new(), vec![Transition::to(&ready)]));

    let mut graph = mesh();
    let pods = |graph: &Graph| looked(&one(&json!({})), None, None, graph).pods;
    let names: Vec<_> = pods(&graph).iter().map(|pod| pod.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"], "those that are ready");
    for name in ["a", "b", "c"] {
        let (key, labels) = (key(name), labels(&[("app", "web")]));
        graph.apply(Change::Pod(Pod { key, labels, ready: true, proxy: Proxy::None, ..Pod::default() }));
    }
    assert_eq!(pods(&graph), BTreeSet::new());
    let mut limiter = one(&json!({}));
    let plan = looked(&limiter, Some(&look(99, &synced())), None, &graph);
    let (said, ..) = told(&mut limiter, plan);
    assert!(said.starts_with("False NoProxies"), "{said}");
}

#[test]
fn a_few_proxies_are_told_by_name() {
    let mut graph = mesh();
    let names: Vec<_> = (0..5).map(|number| format!("e{number}")).collect();
    for name in &names {
        graph.apply(pod(name, "3", true));
    }
    let states: Vec<_> = names.iter().map(|name| (&**name, ProxyState::Pending(at(50)))).collect();
    let look = look(99, &[&synced()[..], &states].concat());
    let mut limiter = one(&json!({}));
    let plan = looked(&limiter, Some(&look), None, &graph);
    let (said, ..) = told(&mut limiter, plan);
    assert_eq!(said, "False Pending: not answered yet: 5 of 8 proxies (e0, e1, e2, …)");
}

#[test]
fn what_is_written_is_looked_at_when_istiod_has_pushed_it_and_proxies_have_answered() {
    let debounce = Debounce { after: SignedDuration::from_secs(3), ..Debounce::DEFAULT };
    assert_eq!(first_look(at(10), &debounce), at(14));
    assert_eq!(first_look(Timestamp::MAX, &debounce), Timestamp::MAX);
}
