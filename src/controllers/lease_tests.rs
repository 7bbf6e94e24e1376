use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use k8s_openapi::api::coordination::v1::Lease;
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep, timeout};

use super::error::Error;
use super::leadership::Leadership;
use super::lease::{DEADLINE, Election};
use crate::graph::ObjectKey;

const LONG: Duration = Duration::from_mins(5);
/// What an election may take beyond the time that the lease has to be left alone: a pause and an attempt.
const SLACK: Duration = Duration::from_secs(4);
const EXPIRY: Duration = Duration::from_secs(15);

/// An API server that holds one Lease.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    version: u64,
    down: bool,
    requests: usize,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { Ok::<_, kube::Error>(server.answer(request).await) }
            }),
            "default",
        )
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let down = {
            let mut state = self.0.lock().unwrap();
            state.requests += 1;
            state.down
        };
        if down {
            sleep(LONG).await;
        }
        let (code, answer) = self.0.lock().unwrap().carry_out(&parts.method, &body);
        Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap()
    }

    fn set_down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    fn requests(&self) -> usize {
        self.0.lock().unwrap().requests
    }

    fn holder(&self) -> Option<String> {
        self.0.lock().unwrap().lease.as_ref()?.spec.as_ref()?.holder_identity.clone()
    }

    fn transitions(&self) -> Option<i32> {
        self.0.lock().unwrap().lease.as_ref()?.spec.as_ref()?.lease_transitions
    }

    fn replica(&self, name: &str) -> (Election, Leadership) {
        let leadership = Leadership::register(&mut Registry::default());
        let key = ObjectKey::new("palisade-system", "palisade");
        (Election::new(self.client(), &key, name.to_owned(), leadership.clone()), leadership)
    }
}

impl State {
    fn carry_out(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        let refuse = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "message": "", "reason": reason}),
            )
        };
        let current = self.lease.as_ref().and_then(ResourceExt::resource_version);
        match (method, &self.lease) {
            (&Method::GET, None) => return refuse(404),
            (&Method::GET, Some(lease)) => return (200, json!(lease)),
            (&Method::POST, Some(_)) => return refuse(409),
            _ => {}
        }
        let mut lease: Lease = serde_json::from_slice(body).unwrap();
        if *method == Method::PUT && lease.resource_version() != current {
            return refuse(409);
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        (200, json!(self.lease))
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_has_is_taken_at_once_and_one_that_is_renewed_never() {
    let server = Server::default();
    let (mut first, first_leads) = server.replica("palisade-a");
    let (mut second, second_leads) = server.replica("palisade-b");
    timeout(SLACK, first.won()).await.unwrap();
    assert!(first_leads.is_held());
    assert_eq!(server.holder().as_deref(), Some("palisade-a"));
    tokio::select! {
        () = first.lost() => panic!("it was lost"),
        () = second.won() => panic!("two lead"),
        () = sleep(LONG) => {}
    }
    assert!(first_leads.is_held() && !second_leads.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaders_lease_is_taken_when_it_has_expired_and_not_before() {
    let server = Server::default();
    let (mut first, first_leads) = server.replica("palisade-a");
    timeout(SLACK, first.won()).await.unwrap();
    let (mut second, _) = server.replica("palisade-b");
    let began = Instant::now();
    timeout(EXPIRY + SLACK, second.won()).await.unwrap();
    assert!(began.elapsed() >= EXPIRY, "after {:?}", began.elapsed());
    assert!(!first_leads.is_held());
    assert_eq!(server.transitions(), Some(1));
    // What stood still finds out when it goes on.
    timeout(SLACK, first.lost()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_started_again_goes_on_with_what_it_had() {
    let server = Server::default();
    timeout(SLACK, server.replica("palisade-a").0.won()).await.unwrap();
    let (mut again, leads) = server.replica("palisade-a");
    timeout(SLACK, again.won()).await.unwrap();
    assert!(leads.is_held());
    assert_eq!(server.transitions(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn while_the_lease_cannot_be_renewed_nothing_may_be_written_and_afterwards_it_may() {
    let server = Server::default();
    let (mut election, leads) = server.replica("palisade-a");
    timeout(SLACK, election.won()).await.unwrap();
    server.set_down(true);
    let still = tokio::select! {
        () = election.lost() => false,
        () = sleep(DEADLINE) => true,
    };
    assert!(still && !leads.is_held());
    server.set_down(false);
    let still = tokio::select! {
        () = election.lost() => false,
        () = sleep(2 * SLACK) => true,
    };
    assert!(still && leads.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_once_and_only_its_holder_releases_it() {
    let server = Server::default();
    let (mut first, first_leads) = server.replica("palisade-a");
    let (mut second, _) = server.replica("palisade-b");
    timeout(SLACK, first.won()).await.unwrap();
    second.release().await;
    assert_eq!(server.holder().as_deref(), Some("palisade-a"));
    first.release().await;
    assert!(!first_leads.is_held());
    timeout(SLACK, second.won()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes_and_everybody_reads() {
    let server = Server::default();
    let (mut election, leads) = server.replica("palisade-a");
    let guarded: Api<Lease> = Api::namespaced(leads.guard(server.client()), "palisade-system");
    let lease = Lease::default();
    let write = async || guarded.create(&kube::api::PostParams::default(), &lease).await;
    let category = |source| Error::Api { action: "write", source: Box::new(source) }.category();

    assert_eq!(category(write().await.unwrap_err()), "not_leading");
    assert_eq!(server.requests(), 0);
    assert!(guarded.get_opt("palisade").await.unwrap().is_none());
    timeout(SLACK, election.won()).await.unwrap();
    assert_eq!(category(write().await.unwrap_err()), "conflict", "the server is asked");
    // A write that takes its time ends with the right to it.
    server.set_down(true);
    let won = Instant::now();
    assert_eq!(category(write().await.unwrap_err()), "not_leading");
    assert!(won.elapsed() <= DEADLINE, "{:?}", won.elapsed());
    server.set_down(false);
    timeout(SLACK, election.won()).await.unwrap();
    // The process stands still, and goes on just where it was.
    advance(DEADLINE).await;
    assert_eq!(category(write().await.unwrap_err()), "not_leading");
}

/// What stands still.
const FIRST: usize = 0;
const SECOND: usize = 1;
const SERVER: usize = 2;
const NOTHING: usize = 3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Replicas stand still, and the API server does not answer, for any time and in any order.
    #[test]
    fn there_are_never_two_leaders(steps in prop::collection::vec((0..3usize, 1..40u64), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let server = Server::default();
            let (mut first, first_leads) = server.replica("palisade-a");
            let (mut second, second_leads) = server.replica("palisade-b");
            // At last everybody is there again.
            for (what, seconds) in steps.into_iter().chain([(NOTHING, 30)]) {
                server.set_down(what == SERVER);
                let end = Instant::now() + Duration::from_secs(seconds);
                while Instant::now() < end {
                    tokio::select! {
                        () = live(&mut first), if what != FIRST => {}
                        () = live(&mut second), if what != SECOND => {}
                        () = sleep(Duration::from_secs(1)) => {}
                    }
                    assert!(!(first_leads.is_held() && second_leads.is_held()));
                }
            }
            assert!(first_leads.is_held() || second_leads.is_held());
        });
    }
}

async fn live(election: &mut Election) {
    election.won().await;
    election.lost().await;
}
