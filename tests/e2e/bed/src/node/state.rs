//! What the node knows of one Pod's containers, shared between the tasks that run them.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio::sync::watch;

/// How a container's last process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    /// The process's exit code; 128 + signal when a signal ended it.
    pub(super) exit_code: i32,
    /// Kubernetes' word for it: `Completed` or `Error`.
    pub(super) reason: &'static str,
    /// More, if there is more to say.
    pub(super) message: Option<String>,
    /// When the process began.
    pub(super) started: Timestamp,
    /// When it ended.
    pub(super) finished: Timestamp,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Not running; with Kubernetes' reason and a message.
    Waiting(String, Option<String>),
    /// Running since then.
    Running(Timestamp),
    /// Ended, for good or until its restart.
    Terminated(Termination),
}

/// What a container is for its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Ends before the next container starts.
    Init,
    /// An init container that keeps running (`restartPolicy: Always`).
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerState {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) role: Role,
    pub(super) activity: Activity,
    /// How it ended before the present activity.
    pub(super) last: Option<Termination>,
    pub(super) restarts: i32,
    /// Its start-up probe and postStart hook have succeeded.
    pub(super) started: bool,
    pub(super) ready: bool,
    /// The first start is over, successful or not: the next container may start.
    pub(super) settled: bool,
}

/// One Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodState {
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) since: Timestamp,
    pub(super) init: Vec<ContainerState>,
    pub(super) main: Vec<ContainerState>,
    /// The Pod has ended, whatever its containers say (an init container failed for good).
    pub(super) failure: Option<String>,
}

/// Names one container of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// By its place in `spec.initContainers`.
    Init(usize),
    /// By its place in `spec.containers`.
    Main(usize),
}

impl PodState {
    pub(super) fn new(pod: &Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let init: Vec<_> =
            init_containers(spec).iter().map(|c| ContainerState::new(c, init_role(c))).collect();
        let reason = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let mut main: Vec<_> = spec.containers.iter().map(|c| ContainerState::new(c, Role::Main)).collect();
        for container in &mut main {
            container.activity = Activity::Waiting(reason.to_owned(), None);
        }
        Self { ip: None, since: Timestamp::now(), init, main, failure: None }
    }

    pub(super) fn container(&self, slot: Slot) -> Option<&ContainerState> {
        match slot {
            Slot::Init(index) => self.init.get(index),
            Slot::Main(index) => self.main.get(index),
        }
    }

    /// Containers that run for the Pod's whole life.
    pub(super) fn lasting(&self) -> impl Iterator<Item = &ContainerState> {
        self.main.iter().chain(self.init.iter().filter(|container| container.role == Role::Sidecar))
    }
}

impl ContainerState {
    fn new(container: &Container, role: Role) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            role,
            activity: Activity::Waiting("PodInitializing".to_owned(), None),
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            settled: false,
        }
    }

    /// Ended with exit code 0.
    pub(super) fn succeeded(&self) -> bool {
        matches!(&self.activity, Activity::Terminated(end) if end.exit_code == 0)
    }
}

/// The Pod's init containers; empty when it has none.
pub(super) fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// An init container's role.
pub(super) fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// The Pod's state, written by its containers' tasks and watched by its reporter.
#[derive(Clone, Debug)]
pub(super) struct Board {
    state: watch::Sender<PodState>,
}

impl Board {
    pub(super) fn new(pod: &Pod) -> Self {
        Self { state: watch::Sender::new(PodState::new(pod)) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<PodState> {
        self.state.subscribe()
    }

    /// Changes the Pod's state; wakes its watchers only if something changed.
    pub(super) fn change(&self, edit: impl FnOnce(&mut PodState)) {
        self.state.send_if_modified(|state| {
            let before = state.clone();
            edit(state);
            *state != before
        });
    }

    /// Changes one container's state.
    pub(super) fn update(&self, slot: Slot, edit: impl FnOnce(&mut ContainerState)) {
        self.change(|state| {
            let container = match slot {
                Slot::Init(index) => state.init.get_mut(index),
                Slot::Main(index) => state.main.get_mut(index),
            };
            if let Some(container) = container {
                edit(container);
            }
        });
    }

    /// Reads something of one container; `None` when the Pod has no such container.
    pub(super) fn read<T>(&self, slot: Slot, get: impl FnOnce(&ContainerState) -> T) -> Option<T> {
        self.state.borrow().container(slot).map(get)
    }

    /// Returns when the state satisfies `condition`.
    pub(super) async fn until(&self, condition: impl FnMut(&PodState) -> bool) {
        // The sender is ours, so the channel cannot be closed.
        let _ = self.subscribe().wait_for(condition).await;
    }
}
