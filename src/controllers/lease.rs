use std::time::Duration;

use backon::{BackoffBuilder, ConstantBuilder};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::error::Error;
use super::leadership::Leadership;
use crate::graph::ObjectKey;

/// How long others leave a lease alone that is not renewed. It, and the two below, are client-go's for
/// Kubernetes' own components.
const DURATION: Duration = Duration::from_secs(15);
/// How long the leader may write after it last renewed: less than [`DURATION`], so that it has stopped before
/// anybody else begins, however different the clocks' speeds.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// The shortest pause between two attempts; the longest is twice that.
const PAUSE: Duration = Duration::from_millis(1500);
/// How long the API server has to answer an attempt: two fit into [`DEADLINE`].
const TIMEOUT: Duration = Duration::from_secs(3);

/// Decides by a `Lease` which replica leads.
///
/// Clocks of different machines are never compared: a lease has expired for us when we have seen no change of it
/// for [`DURATION`] by our own clock. Each write of it is made on the version that was read, so of two who take it,
/// one fails.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    leadership: Leadership,
    /// The version of another's lease, and since when it has been the same.
    seen: Option<(String, Instant)>,
}

impl Election {
    /// The election by the lease `key`. `identity` is the pod's name: a container that is started again in its pod
    /// goes on with what its dead predecessor had, and no two pods of a Deployment have the same.
    #[must_use]
    pub fn new(client: Client, key: &ObjectKey, identity: String, leadership: Leadership) -> Self {
        let (api, name) = (Api::namespaced(client, &key.namespace), key.name.to_string());
        Self { api, name, identity, leadership, seen: None }
    }

    /// Waits until this replica leads.
    pub async fn won(&mut self) {
        while !self.attempt().await.unwrap_or_else(|error| failed(&error)) {
            sleep(pause()).await;
        }
        info!(lease = self.name, "this replica leads");
    }

    /// Keeps the lead until another replica has it. While the lease cannot be renewed nothing can be written, and
    /// nothing is given up: if nobody else has taken it, all goes on when the API server is back.
    pub async fn lost(&mut self) {
        loop {
            sleep(pause()).await;
            match self.attempt().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    failed(&error);
                }
            }
        }
        self.leadership.end();
        warn!(lease = self.name, "another replica leads");
    }

    /// Lets another replica lead at once. To be called when nothing more is to be written.
    pub async fn release(&mut self) {
        self.leadership.end();
        let release = async {
            let lease = self.api.get(&self.name).await?;
            match holder(&lease) {
                Some(holder) if *holder == self.identity => {
                    let free = LeaseSpec { holder_identity: None, ..lease.spec.clone().unwrap_or_default() };
                    let free = Lease { spec: Some(free), ..lease };
                    self.api.replace(&self.name, &PostParams::default(), &free).await.map(drop)
                }
                _ => Ok(()),
            }
        };
        match answered("release the lease", release).await {
            Ok(()) => info!(lease = self.name, "released"),
            Err(error) => warn!(%error, "the next leader has to wait for the lease to expire"),
        }
    }

    /// Takes or renews the lease, and tells whether this replica has it.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let started = Instant::now();
        let api = self.api.clone();
        let current = answered("read the lease", api.get_opt(&self.name)).await?;
        if !current.as_ref().is_none_or(|lease| self.may_take(lease)) {
            return Ok(false);
        }
        let has = answered("take the lease", self.write(current)).await?;
        if has {
            self.leadership.hold_until(started + DEADLINE);
        }
        Ok(has)
    }

    /// Writes the lease as ours. `false`: somebody else was faster.
    async fn write(&self, current: Option<Lease>) -> kube::Result<bool> {
        let params = PostParams::default();
        let result = match current {
            Some(lease) => self.api.replace(&self.name, &params, &self.claim(lease)).await,
            None => self.api.create(&params, &self.claim(Lease::default())).await,
        };
        match result {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        let free = holder(lease).is_none_or(|holder| *holder == self.identity);
        if free {
            return true;
        }
        let version = lease.resource_version().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    /// The lease, held by us from now on.
    fn claim(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let same = holder(&lease) == Some(&self.identity);
        lease.metadata.name = Some(self.name.clone());
        let spec = lease.spec.get_or_insert_default();
        if !same {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

async fn answered<T>(action: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(TIMEOUT, call).await {
        Ok(result) => result.map_err(|source| Error::Api { action, source: Box::new(source) }),
        Err(_) => Err(Error::Timeout { action, time: TIMEOUT }),
    }
}

fn failed(error: &Error) -> bool {
    warn!(%error, "the election goes on");
    false
}

fn pause() -> Duration {
    ConstantBuilder::default().with_delay(PAUSE).with_jitter().build().next().unwrap_or(PAUSE)
}
