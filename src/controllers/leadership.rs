use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Whether this replica may write, and until when.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Sender<Option<Instant>>,
    leader: Gauge,
}

/// A write was refused, because another replica may lead by now.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this replica does not lead")]
pub(super) struct NotLeading;

impl Leadership {
    /// Nobody's yet.
    pub fn register(registry: &mut Registry) -> Self {
        let leader = Gauge::default();
        registry.register("palisade_leader", "1 on the replica that leads, 0 on the others", leader.clone());
        Self { until: watch::Sender::new(None), leader }
    }

    /// Whether this replica may write now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held_until().is_some()
    }

    fn held_until(&self) -> Option<Instant> {
        self.until.borrow().filter(|until| Instant::now() < *until)
    }

    /// A client by which only the leader can write, and for as long as it leads. Each request asks anew: a process that
    /// stood still for a while must not go on writing where it stopped. So `client` must not send anything twice by itself.
    #[must_use]
    pub fn guard(&self, client: Client) -> Client {
        let (leadership, namespace) = (self.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (reads, held_until) = (*request.method() == Method::GET, leadership.held_until());
            let client = client.clone();
            async move {
                if reads {
                    return client.send(request).await;
                }
                let refused = || kube::Error::Service(NotLeading.into());
                let sent = timeout_at(held_until.ok_or_else(refused)?, client.send(request));
                sent.await.unwrap_or_else(|_| Err(refused()))
            }
        });
        Client::new(service, namespace)
    }

    pub(super) fn hold_until(&self, until: Instant) {
        self.until.send_replace(Some(until));
        self.leader.set(1);
    }

    pub(super) fn end(&self) {
        self.until.send_replace(None);
        self.leader.set(0);
    }
}
