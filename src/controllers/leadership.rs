use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

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
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// A client by which only the leader can write. Each request asks anew: a process that stood still for a while
    /// must not go on writing where it stopped.
    #[must_use]
    pub fn guard(&self, client: Client) -> Client {
        let (leadership, namespace) = (self.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let allowed = *request.method() == Method::GET || leadership.is_held();
            let client = client.clone();
            async move {
                if allowed {
                    client.send(request).await
                } else {
                    Err(kube::Error::Service(NotLeading.into()))
                }
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
