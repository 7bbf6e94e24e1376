//! A Sidecar of somebody else that asks to be taken over.

use palisade::api::SidecarPolicy;
use palisade::fence::{ADOPT, consent, standing};
use palisade::graph::{self, Origin};
use palisade::istio::{EgressListener, SidecarSpec, WorkloadSelector};

use super::*;

fn theirs() -> Sidecar {
    let listener = EgressListener { hosts: vec!["./*".to_owned()], ..EgressListener::default() };
    let spec = SidecarSpec {
        workload_selector: Some(WorkloadSelector { labels: labels() }),
        egress: vec![listener],
        ..SidecarSpec::default()
    };
    let mut sidecar = Sidecar::new("client", spec);
    sidecar.metadata.namespace = Some("shop".to_owned());
    sidecar.metadata.uid = Some("uid-of-theirs".to_owned());
    sidecar.metadata.resource_version = Some("1".to_owned());
    sidecar.metadata.annotations = Some(BTreeMap::from([(ADOPT.to_owned(), "true".to_owned())]));
    sidecar
}

async fn told(bench: &Bench, origin: Origin) {
    bench.tell(Change::Sidecar(graph::Sidecar { key: key(), created: None, revision: None, origin })).await;
}

#[tokio::test]
async fn it_is_taken_by_force_once_just_as_it_was_looked_at_and_given_back_without() {
    let mut adopting = fence();
    adopting.spec.sidecar_policy = Some(SidecarPolicy::Adopt);
    let mut bench = Bench::with(adopting).await;
    bench.server.sidecar = Some(theirs());
    told(&bench, Origin::Other(Arc::new(theirs().spec), consent(&theirs()))).await;
    bench.watches_catch_up().await;
    assert_eq!(bench.lines().await, [FINALIZER, STATUS, SIDECAR]);
    let metadata = &bench.noted_one(SIDECAR).body["metadata"];
    assert_eq!([&metadata["uid"], &metadata["resourceVersion"]], [&json!("uid-of-theirs"), &json!("1")]);

    told(&bench, Origin::Fence(standing(bench.server.sidecar.as_ref().unwrap()))).await;
    assert_eq!(bench.lines().await, NOTHING, "the global proxy's cluster has to settle");
    for _ in 0..3 {
        bench.an_hour_later().await;
        assert_eq!(bench.lines().await[..1], [NEW_SIDECAR], "nothing is taken from others any more");
    }
    bench.edit(|fence| fence.spec.enable = false).await;
    for _ in 0..4 {
        let lines = bench.lines().await;
        assert!(lines.contains(&NEW_SIDECAR.to_owned()), "{lines:?}");
        bench.an_hour_later().await;
    }
    let back = bench.server.sidecar.clone().unwrap();
    assert_eq!((back.spec, back.metadata.owner_references), (theirs().spec, None));
    told(&bench, Origin::Other(Arc::new(theirs().spec), consent(&theirs()))).await;
    assert_eq!(bench.lines().await.last().map(String::as_str), Some(EVENT), "it tells that it is open");
    assert_eq!(bench.lines().await, NOTHING);
    assert_eq!(bench.reason(), reasons::OPEN);
}
