//! Callers that are named otherwise than by an address, and what was told of their past.

use super::*;

fn of_workload(name: &str, ips: &[u8], with: &str, workload: &str) -> Change {
    let Change::Pod(pod) = pod(name, ips, with) else { unreachable!() };
    Change::Pod(Pod { workload: workload.into(), ..pod })
}

fn told(graph: &Graph) -> Vec<String> {
    let told = |key: &&ObjectKey| graph.fence(key).is_some_and(|facts| facts.history_told);
    let told: BTreeSet<_> = graph.fence_keys().filter(told).map(ToString::to_string).collect();
    told.into_iter().collect()
}

fn untold(graph: &Graph) -> Vec<String> {
    graph.without_history().map(ToString::to_string).collect()
}

#[test]
fn a_call_is_learned_for_whoever_the_caller_is_named_as() {
    let workload = |name| Caller::Workload(key(name));
    let of_pod = |name| Caller::Pod(key(name));
    for (caller, judged) in [
        (Caller::from(ip(1)), Judgement::New),
        (of_pod("shop/p"), Judgement::New),
        (workload("shop/web"), Judgement::New),
        (workload("shop/plain"), Judgement::Unfenced),
        (of_pod("shop/web"), Judgement::UnknownCaller),
        (workload("shop/p"), Judgement::UnknownCaller),
        (workload("other/web"), Judgement::UnknownCaller),
    ] {
        let mut graph = graph([
            service("shop/reviews", "app=reviews"),
            selecting("shop/client", "app=client"),
            of_workload("shop/p", &[1], "app=client", "web"),
            of_workload("shop/q", &[2], "app=plain", "plain"),
        ]);
        assert_eq!(graph.judge(&caller, REVIEWS, at(0)), judged, "{caller:?}");
        let source = DependencySource::Prometheus;
        let call = Observation { caller, host: REVIEWS.into(), source, seen: at(0) };
        let learned = touched(&mut graph, Change::Call(call)) == ["shop/client"];
        assert_eq!(learned, judged == Judgement::New);
        assert_eq!(known_hosts(&graph, "shop/client").len(), usize::from(learned));
    }
}

#[test]
fn a_workload_is_in_the_fences_of_all_its_pods_while_it_has_them() {
    let mut graph = graph([
        selecting("shop/v1", "version=v1"),
        selecting("shop/v2", "version=v2"),
        of_workload("shop/p", &[1], "version=v1", "web"),
        of_workload("shop/q", &[2], "version=v1", "web"),
        of_workload("shop/r", &[3], "version=v2", "web"),
    ]);
    let fences = |graph: &Graph| {
        let web = graph.workloads().fences_of(&Caller::Workload(key("shop/web")))?.map(ToString::to_string);
        Some(web.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
    };
    assert_eq!(fences(&graph), in_fences(&["shop/v1", "shop/v2"]));
    graph.apply(Change::PodGone(key("shop/p")));
    assert_eq!(fences(&graph), in_fences(&["shop/v1", "shop/v2"]));
    graph.apply(Change::PodGone(key("shop/q")));
    assert_eq!(fences(&graph), in_fences(&["shop/v2"]));
    graph.apply(of_workload("shop/r", &[3], "version=v2", "renamed"));
    assert_eq!(fences(&graph), None);
}

#[test]
fn a_fence_has_its_history_told_once_for_the_pods_that_it_selects() {
    let mut graph = graph([selecting("shop/client", "app=client"), of_service("shop/later")]);
    assert_eq!(untold(&graph), ["shop/client"], "the other one selects nothing yet");
    assert_eq!(
        touched(&mut graph, Change::HistoryTold(vec![key("shop/client"), key("shop/gone")])),
        ["shop/client"]
    );
    assert!(touched(&mut graph, Change::HistoryTold(vec![key("shop/client")])).is_empty(), "it is no news");
    graph.apply(selecting("shop/client", "app=client"));
    assert_eq!(
        (told(&graph), untold(&graph)),
        (vec!["shop/client".to_owned()], vec![]),
        "its status was written"
    );

    graph.apply(service("shop/later", "app=later"));
    graph.apply(selecting("shop/client", "app=other"));
    assert_eq!((told(&graph), untold(&graph).join(" ")), (vec![], "shop/client shop/later".to_owned()));
    graph.apply(Change::HistoryTold(vec![key("shop/client"), key("shop/later")]));
    graph.apply(service("shop/later", "app=moved"));
    assert_eq!(untold(&graph), ["shop/later"], "a selector that changed selects other pods");
    graph.apply(Change::ServiceGone(key("shop/later")));
    graph.apply(Change::FenceGone(key("shop/client")));
    graph.apply(selecting("shop/client", "app=other"));
    assert_eq!(
        (told(&graph), untold(&graph).join(" ")),
        (vec![], "shop/client".to_owned()),
        "it was made anew"
    );
}
