use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::api::{Transition, reasons};
use crate::graph::{Debounce, Istiod, Proxy};
use crate::limiter::{Look, Proxies, ProxyState};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn look(second: i64, states: &[(&str, ProxyState)]) -> Look {
    let states = states.iter().map(|(pod, state)| (ObjectKey::new("shop", *pod), state.clone()));
    Look { at: at(second), proxies: states.collect::<HashMap<_, _>>(), ..Look::default() }
}

fn synced() -> [(&'static str, ProxyState); 3] {
    ["a", "b", "c"].map(|pod| (pod, ProxyState::Synced))
}

/// What comes of `limiter`, written long ago, at second 100.
fn looked(limiter: &SmartLimiter, look: Option<&Look>, written: Option<i64>) -> Plan {
    let graph = mesh();
    let filters: Vec<_> =
        planned(limiter, &[], &graph).apply.into_iter().map(|(filter, _)| filter.into()).collect();
    let proxies = Proxies { look, written: written.map(at), debounce: Debounce::DEFAULT, now: at(100) };
    let (settings, none, differing) = (MetricSettings::default(), BTreeMap::new(), BTreeMap::new());
    let metrics = Known { settings: &settings, readings: &none, differing: &differing, now: at(100) };
    plan(&Input { limiter, filters: &filters, graph: &graph, metrics, service: None, proxies: Some(proxies) })
}

fn planned(limiter: &SmartLimiter, filters: &[Arc<EnvoyFilter>], graph: &Graph) -> Plan {
    let (settings, none, differing) = (MetricSettings::default(), BTreeMap::new(), BTreeMap::new());
    let metrics = Known { settings: &settings, readings: &none, differing: &differing, now: at(100) };
    plan(&Input { limiter, filters, graph, metrics, service: None, proxies: None })
}

/// What `Programmed` says then, when istiod is asked next, and what Events tell.
fn told(limiter: &mut SmartLimiter, plan: Plan) -> (String, Option<i64>, Vec<Transition>) {
    let next = plan.look.map(Timestamp::as_second);
    let (status, transitions) = plan.report.status(limiter, at(100));
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Programmed");
    let said =
        condition.map_or_else(String::new, |it| format!("{} {}: {}", it.status, it.reason, it.message));
    limiter.status = Some(status);
    (said, next, transitions)
}

#[test]
fn proxies_have_taken_a_limit_when_istiod_says_so_of_all_of_them() {
    let rejected = |words: &str| ProxyState::Rejected(words.into());
    let failed =
        Look { failure: Some("istio-system/istiod-1: no answer in time".to_owned()), ..look(99, &[]) };
    let restricted = Look { restricted: true, ..look(99, &[]) };
    for (what, look, expected, next) in [
        ("all have", look(99, &synced()), "True Programmed: the proxies of all ready pods", 399),
        (
            "one refused",
            look(
                99,
                &[("a", ProxyState::Pending), ("b", rejected("no such field")), ("c", ProxyState::Synced)],
            ),
            "False Rejected: refused what istiod sends, from limits or from other resources: 1 of 3 proxies (b); the first says: \
             no such field",
            159,
        ),
        (
            "one has not answered",
            look(99, &[("a", ProxyState::Synced), ("b", ProxyState::Pending), ("c", ProxyState::Synced)]),
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
        ("istiod shows nobody else", restricted, "Unknown NotVisible: istiod does not show", 399),
        ("nobody looked for a while", look(10, &synced()), "True Programmed: ", 310),
        ("nobody looked since a pod came", look(10, &synced()[..2]), "Unknown Pending: istiod is asked", 100),
    ] {
        let mut limiter = one(&json!({}));
        let plan = looked(&limiter, Some(&look), None);
        let (said, asked, _) = told(&mut limiter, plan);
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!(asked, Some(next), "{what}");
    }
}

#[test]
fn a_look_tells_nothing_of_what_istiod_has_not_pushed_by_then() {
    for (what, written, second, expected, next) in [
        ("just pushed", Some(98), 99, "True Programmed", 399),
        ("pushed meanwhile", Some(98), 98, "Unknown Pending", 100),
        ("written just now", Some(100), 99, "Unknown Pending", 101),
        ("never looked", None, -1, "Unknown Pending", 100),
    ] {
        let mut limiter = one(&json!({}));
        let last = look(second, &synced());
        let plan = looked(&limiter, (second >= 0).then_some(&last), written);
        let (said, asked, _) = told(&mut limiter, plan);
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!(asked, Some(next), "{what}");
    }
}

#[test]
fn an_istiod_that_is_away_is_told_at_once() {
    let mut graph = mesh();
    let away = Istiod { ready: false, since: at(50), address: None };
    graph.apply(Change::Istiod(ObjectKey::new("istio-system", "istiod-1"), away));
    let look = Look { failure: Some("no istiod".to_owned()), ..look(100, &[]) };
    let proxies =
        Proxies { look: Some(&look), written: Some(at(99)), debounce: Debounce::DEFAULT, now: at(100) };
    let verdict = proxies.judge(&BTreeSet::from([ObjectKey::new("shop", "a")]), graph.pushes());
    assert_eq!(verdict.statement.unwrap().reason, reasons::ISTIOD_UNAVAILABLE);
}

#[test]
fn what_was_said_stands_until_there_is_a_look_that_tells_otherwise() {
    let mut limiter = one(&json!({}));
    let plan = looked(&limiter, Some(&look(99, &synced())), None);
    told(&mut limiter, plan);
    let before = limiter.status.clone();
    let plan = looked(&limiter, Some(&look(99, &synced())), Some(100));
    let (said, _, transitions) = told(&mut limiter, plan);
    assert!(said.starts_with("True Programmed"), "{said}");
    assert_eq!((&limiter.status, transitions), (&before, vec![]), "nothing is written");
    limiter.metadata.generation = Some(4);
    let plan = looked(&limiter, Some(&look(99, &synced())), Some(100));
    let (said, ..) = told(&mut limiter, plan);
    assert!(said.starts_with("Unknown Pending"), "of another spec: {said}");
}

#[test]
fn events_tell_when_proxies_refuse_and_when_they_do_no_more() {
    let refused =
        [("a", ProxyState::Rejected("no".into())), ("b", ProxyState::Synced), ("c", ProxyState::Synced)];
    let waits = [("a", ProxyState::Pending), ("b", ProxyState::Synced), ("c", ProxyState::Synced)];
    let mut limiter = one(&json!({}));
    for (states, expected) in [
        (&synced(), vec![(reasons::LIMITING, false)]),
        (&refused, vec![(reasons::REJECTED, true)]),
        (&refused, vec![]),
        (&waits, vec![]),
        (&synced(), vec![]),
        (&refused, vec![(reasons::REJECTED, true)]),
        (&synced(), vec![(reasons::PROGRAMMED, false)]),
        (&waits, vec![]),
        (&synced(), vec![]),
    ] {
        let plan = looked(&limiter, Some(&look(99, states)), None);
        let (_, _, transitions) = told(&mut limiter, plan);
        let told: Vec<_> = transitions.iter().map(|it| (it.reason, it.warning)).collect();
        assert_eq!(told, expected, "{states:?}");
    }
}

#[test]
fn where_there_is_no_limit_or_no_proxy_there_is_nothing_to_take() {
    let mut idle = one(&json!({ "condition": "false" }));
    let plan = looked(&idle, Some(&look(99, &synced())), None);
    assert_eq!(told(&mut idle, plan), (String::new(), None, vec![Transition::to(&idle_statement())]));

    let mut graph = mesh();
    for name in ["a", "b", "c"] {
        let labels = labels(&[("app", "web")]);
        let key = ObjectKey::new("shop", name);
        graph.apply(Change::Pod(Pod { key, labels, ready: true, proxy: Proxy::None, ..Pod::default() }));
    }
    assert!(planned(&one(&json!({})), &[], &graph).pods.is_empty());
    let of_all = planned(&one(&json!({})), &[], &mesh()).pods;
    assert_eq!(of_all.iter().map(|pod| &*pod.name).collect::<Vec<_>>(), ["a", "b", "c"], "ready ones");
}

fn idle_statement() -> crate::api::Statement {
    let message = "no limit has a condition that holds".to_owned();
    crate::api::Statement { condition: crate::api::READY, holds: Some(true), reason: reasons::IDLE, message }
}

#[test]
fn names_are_told_of_a_few_proxies() {
    let mut graph = mesh();
    let names: Vec<_> = (0..5).map(|number| format!("e{number}")).collect();
    for name in &names {
        graph.apply(pod(name, "3", true));
    }
    let states: Vec<_> = names.iter().map(|name| (&**name, ProxyState::Pending)).collect();
    let look = look(99, &[&synced()[..], &states].concat());
    let proxies = Proxies { look: Some(&look), written: None, debounce: Debounce::DEFAULT, now: at(100) };
    let pods = graph.proxied_pods("shop", &labels(&[("app", "web")])).cloned().collect();
    let verdict = proxies.judge(&pods, graph.pushes());
    assert_eq!(verdict.statement.unwrap().message, "not answered yet: 5 of 8 proxies (e0, e1, e2, …)");
    assert_eq!(verdict.look.duration_since(at(99)), SignedDuration::from_mins(1));
}
