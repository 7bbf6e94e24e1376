//! One Pod, from its binding to this node to its end.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    containers::Containers,
    context::PodContext,
    reporter,
    state::{Activity, PodState, Role, Slot, init_containers, init_role},
    status, volumes,
};

/// How long one starting Pod may keep others from starting.
const START_SHARE: Duration = Duration::from_secs(20);
/// The kubelet's own period for what it cannot watch.
const REFRESH: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(4);

/// Why a Pod's containers are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The Pod is being deleted; this long may it take.
    Deleted(Duration),
    /// The Pod object is gone, or the node stops: at once, and nobody is told.
    Gone,
}

/// Runs one Pod.
pub(super) struct Worker {
    pub(super) context: Arc<PodContext>,
    /// Cancelled when the Pod object is gone.
    pub(super) gone: CancellationToken,
    /// Bounds how many Pods start at once.
    pub(super) starts: Arc<Semaphore>,
}

impl Worker {
    /// Runs the Pod until it is gone, and cleans up after it.
    pub(super) async fn run(self) {
        let reporting = tokio::spawn(reporter::report(Arc::clone(&self.context)));
        let mut containers = Containers::default();
        let mut end = tokio::select! {
            end = self.ended() => Some(end),
            () = self.live(&mut containers) => None,
        };
        if end.is_none() {
            // A Pod whose work is done needs neither its sidecars nor its network.
            containers.stop(grace(&self.context.pod()), &self.gone).await;
            self.remove_network().await;
            end = Some(self.ended().await);
        }
        if let Some(End::Deleted(grace)) = end {
            containers.stop(grace, &self.gone).await;
        } else {
            containers.stop(Duration::ZERO, &self.gone).await;
        }
        self.clean_up().await;
        reporting.abort();
        if !self.gone.is_cancelled() {
            reporter::report_once(&self.context).await;
            reporter::remove(&self.context).await;
        }
    }

    /// Waits for the Pod's deletion.
    async fn ended(&self) -> End {
        let mut latest = self.context.latest.clone();
        let deleted = latest.wait_for(|pod| pod.metadata.deletion_timestamp.is_some());
        tokio::select! {
            biased;
            () = self.gone.cancelled() => End::Gone,
            pod = deleted => match pod {
                Ok(pod) => End::Deleted(grace(&pod)),
                Err(_) => End::Gone,
            },
        }
    }

    /// Starts everything, and stays until the Pod's work is done; for most Pods that is never.
    async fn live(&self, containers: &mut Containers) {
        self.retry("FailedCreatePodSandBox", || self.make_network()).await;
        self.context.board.change(|state| state.ip = Some(self.context.ip));
        self.retry("FailedMount", || volumes::prepare(&self.context)).await;
        let _place = self.take_place().await;
        self.start(containers).await;
        let pod = self.context.pod();
        let done = self.context.board.until(|state| status::work_is_done(&pod, state));
        tokio::select! {
            never = self.refresh() => match never {},
            () = done => {}
        }
    }

    async fn make_network(&self) -> Result<()> {
        let Some(namespace) = &self.context.namespace else { return Ok(()) };
        let pod = self.context.pod();
        let security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let sysctls: Vec<(String, String)> = security
            .into_iter()
            .flat_map(|security| security.sysctls.iter().flatten())
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect();
        namespace.create(self.context.ip, &sysctls).await
    }

    /// Tries until it works, showing the reason why it did not yet.
    async fn retry<F: Future<Output = Result<()>>>(&self, what: &str, attempt: impl Fn() -> F) {
        let mut pause = RETRY;
        let mut said = String::new();
        while let Err(error) = attempt().await {
            let message = format!("{what}: {error:#}");
            if message != said {
                tracing::info!(pod = self.context.label(), reason = message, "Pod has to wait");
                said.clone_from(&message);
            }
            self.show_waiting(Some(&message));
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
        self.show_waiting(None);
    }

    fn show_waiting(&self, text: Option<&str>) {
        self.context.board.change(|state| {
            for container in state.init.iter_mut().chain(&mut state.main) {
                if let Activity::Waiting(_, message) = &mut container.activity {
                    *message = text.map(str::to_owned);
                }
            }
        });
    }

    /// Waits for one of the node's places for starting Pods, and holds it until the Pod is up or obviously waits
    /// for something.
    async fn take_place(&self) -> AbortOnDropHandle<()> {
        let place = Arc::clone(&self.starts).acquire_owned().await;
        let board = self.context.board.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let up = board.until(|state| state.lasting().all(|container| container.ready));
            let _ = timeout(START_SHARE, up).await;
            drop(place);
        }))
    }

    /// Starts the containers in their order.
    async fn start(&self, containers: &mut Containers) {
        let pod = self.context.pod();
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        for (index, container) in init_containers(spec).iter().enumerate() {
            let slot = Slot::Init(index);
            containers.launch(&self.context, slot, spec);
            let sidecar = init_role(container) == Role::Sidecar;
            if !self.init_done(slot, sidecar, spec).await {
                return;
            }
        }
        for index in 0..spec.containers.len() {
            let slot = Slot::Main(index);
            containers.launch(&self.context, slot, spec);
            self.context.board.until(|state| state.container(slot).is_none_or(|c| c.settled)).await;
        }
    }

    /// Waits until the next container may start; `false` when the Pod has failed for good.
    async fn init_done(&self, slot: Slot, sidecar: bool, spec: &PodSpec) -> bool {
        let final_failure = spec.restart_policy.as_deref() == Some("Never") && !sidecar;
        let failed = |state: &PodState| {
            final_failure
                && state
                    .container(slot)
                    .is_some_and(|c| matches!(&c.activity, Activity::Terminated(end) if end.exit_code != 0))
        };
        let done = |state: &PodState| {
            state.container(slot).is_none_or(|c| if sidecar { c.started } else { c.succeeded() })
        };
        self.context.board.until(|state| done(state) || failed(state)).await;
        if self.context.board.read(slot, |c| sidecar || c.succeeded()).unwrap_or(true) {
            return true;
        }
        self.context.board.change(|state| state.failure = Some("an init container failed".to_owned()));
        false
    }

    /// Keeps volumes up to date with the objects that they show.
    async fn refresh(&self) -> std::convert::Infallible {
        let mut latest = self.context.latest.clone();
        let own = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let mut seen = own(&latest.borrow());
        loop {
            let changed = latest.wait_for(|pod| own(pod) != seen);
            // Elapsed, or the Pod's own labels or annotations changed; a closed channel means that it ends.
            let _ = timeout(REFRESH, changed).await.map(|pod| pod.map(drop));
            if self.gone.is_cancelled() {
                return std::future::pending().await;
            }
            seen = own(&latest.borrow());
            if let Err(error) = volumes::prepare(&self.context).await {
                tracing::debug!(
                    pod = self.context.label(),
                    error = format!("{error:#}"),
                    "volumes not refreshed"
                );
            }
        }
    }

    async fn remove_network(&self) {
        if let Some(namespace) = &self.context.namespace {
            namespace.delete().await;
        }
    }

    /// Removes everything of the Pod but its containers' logs.
    async fn clean_up(&self) {
        self.remove_network().await;
        for part in ["rootfs", "volumes"] {
            if let Err(error) = remove_directory(&self.context.dir.join(part)).await {
                tracing::warn!(
                    pod = self.context.label(),
                    error = format!("{error:#}"),
                    "Pod not cleaned up"
                );
            }
        }
    }
}

async fn remove_directory(path: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or_else(|| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds));
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
}

/// Whether the Pod uses the node's network.
pub(super) fn uses_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}
