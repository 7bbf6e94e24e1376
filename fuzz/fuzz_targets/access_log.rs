//! Any bytes as a message of an access log stream: nothing panics, nothing that is handed on could not stand in
//! a `Sidecar`, and the next call is learned as if nothing had been.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use palisade::graph::{Caller, Change, Fence, Graph, Labels, ObjectKey, Observation, Pod, PodSelection, Service, Terms};
use palisade::sources::Observer;
use palisade::sources::access_log::{Ingest, Message, Metrics};
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio::sync::mpsc;

const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 1));
const HOST: &str = "reviews.shop.svc.cluster.local";

static GRAPH: LazyLock<Graph> = LazyLock::new(|| {
    let (key, labels) =
        (ObjectKey::new("shop", "client"), Labels::from(BTreeMap::from([("app".into(), "client".into())])));
    let selection = PodSelection::Labels(labels.clone());
    let mut graph = Graph::new("cluster.local");
    let service = ObjectKey::new("shop", "reviews");
    graph.apply(Change::Service(Service { key: service, ..Service::default() }));
    graph.apply(Change::Fence(Fence { key: key.clone(), selection, wants: Vec::new(), known: Vec::new(), learning: None, terms: Terms::default() }));
    graph.apply(Change::Pod(Pod { key, ips: vec![CALLER], labels, ..Pod::default() }));
    graph
});

/// The message of one call that is to be learned.
static CALL: LazyLock<Bytes> = LazyLock::new(|| {
    let address = field(2, &field(1, &field(2, CALLER.to_string().as_bytes())));
    let cluster = field(15, format!("outbound|9080||{HOST}").as_bytes());
    field(2, &field(1, &field(1, &[address, cluster].concat()))).into()
});

fn field(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(tag, &value.to_vec(), &mut bytes);
    bytes
}

fn read(ingest: &Ingest, bytes: Bytes) -> bool {
    Message::decode(bytes).is_ok_and(|message| ingest.message(message, Timestamp::UNIX_EPOCH).is_ok())
}

fn is_the_call(observation: &Observation) -> bool {
    (&observation.caller, observation.host.as_ref()) == (&Caller::Address(CALLER), HOST)
}

fuzz_target!(|data: &[u8]| {
    let (queue, mut owner) = mpsc::channel(64);
    let observer = Observer::new(Arc::new(ArcSwap::from_pointee(GRAPH.clone())), queue);
    let ingest = Ingest::new(observer, Metrics::register(&mut Registry::default()));

    read(&ingest, Bytes::copy_from_slice(data));
    while let Ok(batch) = owner.try_recv() {
        assert!(batch.iter().all(is_the_call), "only the one service of the mesh can be news");
    }

    assert!(read(&ingest, CALL.clone()));
    assert!(owner.try_recv().is_ok_and(|batch| batch.len() == 1 && is_the_call(&batch[0])));
});
