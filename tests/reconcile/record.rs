//! How far sources have looked, in a ConfigMap.

use std::collections::BTreeMap;
use std::pin::pin;

use http::{Method, Response};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use palisade::api::DependencySource;
use palisade::controllers::{Mesh, Record};
use palisade::graph::{Coverage, ObjectKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_test::mock::pair;

/// Answers the requests of `work` in turn, and gives back what they were.
async fn serve(answers: Vec<(u16, Value)>, work: impl AsyncFnOnce(Record)) -> Vec<(Method, String, Value)> {
    let (service, mut handle) = pair::<http::Request<Body>, _>();
    let record = Record::new(Client::new(service, "default"), &ObjectKey::new("system", "sources"));
    let (mut work, mut calls, mut answers) = (pin!(work(record)), Vec::new(), answers.into_iter());
    loop {
        tokio::select! {
            biased;
            Some((request, answer)) = handle.next_request() => {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                calls.push((parts.method, parts.uri.to_string(), serde_json::from_slice(&body).unwrap_or_default()));
                let (code, body) = answers.next().expect("no more requests");
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                answer.send_response(Response::builder().status(code).body(body).unwrap());
            }
            () = &mut work => return calls,
        }
    }
}

fn mesh() -> (Mesh, impl Drop) {
    let (mesh, owner, triggers) = Mesh::new("cluster.local");
    let stop = CancellationToken::new();
    tokio::spawn(owner.run(stop.clone()));
    std::mem::forget(triggers);
    (mesh, stop.drop_guard())
}

fn time() -> Coverage {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    Coverage { since: now - SignedDuration::from_hours(800), until: now - SignedDuration::from_hours(1) }
}

#[tokio::test]
async fn what_was_written_is_restored() {
    let (mesh, _alive) = mesh();
    let coverage = BTreeMap::from([(DependencySource::Prometheus, time())]);
    let written = serve(vec![(200, json!({}))], async |record| record.write(&coverage).await.unwrap()).await;
    let (method, path, body) = &written[0];
    assert_eq!(*method, Method::PATCH);
    assert_eq!(path, "/api/v1/namespaces/system/configmaps/sources?&fieldManager=palisade", "never by force");
    serve(vec![(500, status(500)), (200, body.clone())], async |record| record.restore(&mesh).await).await;
    assert_eq!(*mesh.graph().coverage(), coverage, "a failure is tried again");
}

#[tokio::test]
async fn without_a_record_sources_begin_anew() {
    for code in [404, 403] {
        let (mesh, _alive) = mesh();
        let calls = serve(vec![(code, status(code))], async |record| record.restore(&mesh).await).await;
        assert_eq!((calls.len(), mesh.graph().coverage().len()), (1, 0), "{code}");
    }
}

fn status(code: u16) -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": code, "message": "no",
        "reason": if code == 404 { "NotFound" } else { "no" } })
}
