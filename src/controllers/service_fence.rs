use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::Stream;
use jiff::Timestamp;
use kube::runtime::events::Reporter;
use kube::{Client, Resource, ResourceExt};
use tracing::{debug, info};

use super::error::Error;
use super::mesh::{Mesh, Message};
use super::metrics::Metrics;
use super::switch::Switch;
use super::watches::Caches;
use super::work_queue::{Again, Turn, work};
use super::write::{FINALIZER, Writer};
use crate::api::ServiceFence;
use crate::fence::{Input, MANAGER, Plan, Settings, SidecarAction, is_owned_by, may_force, plan};
use crate::graph::{Change, ObjectKey};
use crate::istio::Sidecar;
use crate::sources::proxy_metrics::Queue;

/// What the reconciler works with.
pub struct Context {
    mesh: Mesh,
    caches: Arc<Caches>,
    switch: Switch,
    settings: Settings,
    writer: Writer,
    metrics: Metrics,
    to_ask: Queue,
    /// When the API server had our latest writes of Sidecars of which the next step is to come.
    written: Mutex<HashMap<ObjectKey, Timestamp>>,
}

impl Context {
    /// What the reconciler works with, writing by `client` and naming `instance` in Events.
    #[must_use]
    pub fn new(
        client: Client,
        instance: Option<String>,
        mesh: Mesh,
        caches: Arc<Caches>,
        switch: Switch,
        settings: Settings,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter { controller: MANAGER.into(), instance };
        let writer = Writer { client, reporter, metrics: metrics.clone() };
        Self {
            mesh,
            caches,
            switch,
            settings,
            writer,
            metrics,
            to_ask: Queue::default(),
            written: Mutex::default(),
        }
    }

    /// The same, naming in `queue` the fences whose pods' proxies are to be asked what they have counted.
    #[must_use]
    pub fn asking(self, queue: Queue) -> Self {
        Self { to_ask: queue, ..self }
    }
}

impl Context {
    /// What holds for all fences.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the reconciler of automatic fences shares.
    pub(super) fn parts(&self) -> (Mesh, Arc<Caches>, Switch, Writer) {
        (self.mesh.clone(), self.caches.clone(), self.switch.clone(), self.writer.clone())
    }
}

/// Reconciles the fences that `keys` names, until that stream ends.
pub(super) async fn run(context: Arc<Context>, keys: impl Stream<Item = ObjectKey>) {
    work("a fence", keys, |key, turn| {
        let context = context.clone();
        async move {
            match context.caches.fences.get(&key) {
                Some(fence) => reconcile(fence, turn, context).await,
                // It was named by a change, and deleted meanwhile.
                None => Ok(None),
            }
        }
    })
    .await;
}

/// Brings one fence about, as it is known last: gathers, decides, writes. Tells when to look again, even if nothing
/// changes.
///
/// # Errors
/// If a write failed; what was written before stands, and the next try starts from there.
pub async fn reconcile(
    fence: Arc<ServiceFence>,
    turn: Turn,
    context: Arc<Context>,
) -> Result<Option<Again>, Error> {
    let started = Instant::now();
    let key = ObjectKey::of(fence.as_ref());
    let sidecar = context.caches.sidecars.get(&key);
    let plan = context.decide(&fence, sidecar.as_deref());
    if plan.ask {
        context.to_ask.add(&key);
    }
    let again = context.carry_out(&key, &fence, sidecar.as_deref(), &plan, turn).await?;
    if again.is_none() {
        context.written().remove(&key);
    }
    context.metrics.reconciled(started);
    Ok(again)
}

impl Context {
    fn decide(&self, fence: &ServiceFence, sidecar: Option<&Sidecar>) -> Plan {
        let now = Timestamp::now();
        plan(&Input {
            fence,
            sidecar,
            written: self.written().get(&ObjectKey::of(fence)).copied(),
            graph: &self.mesh.graph(),
            settings: &self.settings,
            open_all: self.switch.open_all(),
            since: self.mesh.synced_at().unwrap_or(now),
            now,
        })
    }

    fn written(&self) -> MutexGuard<'_, HashMap<ObjectKey, Timestamp>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the API server answered to a write of a Sidecar.
    fn wrote(&self, key: &ObjectKey, sidecar: Sidecar) {
        self.written().insert(key.clone(), Timestamp::now());
        self.caches.sidecars.wrote(key, sidecar);
    }

    /// Writes what was decided. Knowledge goes before routes: what a Sidecar routes to is already durable in the
    /// status. Clusters need not wait for it; if we end between the two writes, the next call brings the host again.
    /// Nor needs a fence's first Sidecar, which routes to everything, a status or, yet, the finalizer. A status that no
    /// route waits for is written when no fence waits for its Sidecar: it takes the API server far longer than one.
    async fn carry_out(
        &self,
        key: &ObjectKey,
        fence: &ServiceFence,
        sidecar: Option<&Sidecar>,
        plan: &Plan,
        turn: Turn,
    ) -> Result<Option<Again>, Error> {
        let begins = sidecar.is_none() && matches!(plan.sidecar, SidecarAction::Apply(_));
        let early = begins || matches!(plan.sidecar, SidecarAction::Warm(_));
        let written = if early { self.apply(key, fence, sidecar, plan).await } else { Ok(()) };
        if early && written.is_ok() {
            return Ok(Some(Again::WhenIdle(plan.wake)));
        }
        let held = fence.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        let going = fence.meta().deletion_timestamp.is_some();
        let news = !going && fence.status.as_ref() != Some(&plan.status);
        if news && plan.sidecar == SidecarAction::Leave && turn == Turn::Prompt {
            return Ok(Some(Again::WhenIdle(plan.wake)));
        }
        if plan.hold && !held && !going {
            self.caches.fences.wrote(key, self.writer.hold(fence, true).await?);
        }
        if news {
            self.caches.fences.wrote(key, self.writer.status(fence, &plan.status).await?);
            for transition in &plan.transitions {
                self.writer.event(fence, transition).await;
            }
        }
        self.forget(key, plan).await;
        written?;
        if !early {
            self.apply(key, fence, sidecar, plan).await?;
        }
        if held && !plan.hold {
            match self.writer.hold(fence, false).await {
                // It went with its last finalizer, and this look came before the watch said so.
                Err(error) if going && error.is_gone() => {}
                result => self.caches.fences.wrote(key, result?),
            }
        }
        Ok(plan.wake.map(Again::At))
    }

    /// Has the graph forget what has expired, now that the status has.
    async fn forget(&self, key: &ObjectKey, plan: &Plan) {
        if !plan.expired.is_empty() {
            debug!(fence = %key, hosts = ?plan.expired, "hosts leave that nobody has used for long");
            self.mesh.tell(Message::Change(Change::Forget(key.clone(), plan.expired.clone()))).await;
            self.metrics.expired(plan.expired.len());
        }
    }

    /// When the first calls to the hosts were seen that a fence learns: its `Sidecar` lists them now and did not before, and
    /// its status does not know them from earlier.
    fn first_calls(&self, fence: &ServiceFence, before: Option<&Sidecar>, now: &Sidecar) -> Vec<Timestamp> {
        let noted =
            |host: &str| fence.status.as_ref().is_some_and(|status| status.domains.contains_key(host));
        let (before, graph) = (before.map(listed).unwrap_or_default(), self.mesh.graph());
        let new: HashSet<_> = listed(now).difference(&before).copied().collect();
        let known = graph.fence(&ObjectKey::of(fence)).into_iter().flat_map(|facts| &facts.known);
        let learned = known.filter(|(host, _)| new.contains(&***host) && !noted(host));
        learned.map(|(_, known)| known.first_seen).collect()
    }

    async fn apply(
        &self,
        key: &ObjectKey,
        fence: &ServiceFence,
        current: Option<&Sidecar>,
        plan: &Plan,
    ) -> Result<(), Error> {
        match (&plan.sidecar, current) {
            (SidecarAction::Warm(desired) | SidecarAction::Apply(desired), _) => {
                let force = |current: &Sidecar| is_owned_by(current, fence) && may_force(current);
                let applied = self.writer.sidecar(desired, current.is_some_and(force)).await?;
                self.metrics.learned(self.first_calls(fence, current, &applied));
                self.wrote(key, applied);
                debug!(fence = %key, "Sidecar applied");
            }
            (SidecarAction::Adopt(desired), _) => {
                self.wrote(key, self.writer.sidecar(desired, true).await?);
                info!(fence = %key, "the Sidecar of the fence's name was taken over, as it asks for");
            }
            (SidecarAction::GiveBack(desired), _) => {
                self.wrote(key, self.writer.sidecar(desired, false).await?);
                info!(fence = %key, "the Sidecar is as it was before it was taken over");
            }
            (SidecarAction::Delete, Some(current)) => {
                self.writer.delete(current).await?;
                self.caches.sidecars.deleted(key, current);
                info!(fence = %key, "the workload has its full configuration back");
            }
            _ => {}
        }
        Ok(())
    }
}

/// The hosts that a `Sidecar` lists, by whatever namespace.
fn listed(sidecar: &Sidecar) -> HashSet<&str> {
    let hosts = sidecar.spec.egress.iter().flat_map(|listener| &listener.hosts);
    hosts.filter_map(|listed| Some(listed.split_once('/')?.1)).collect()
}
