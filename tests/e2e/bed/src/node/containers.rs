//! The running containers of one Pod.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PodSpec;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    container::{Restart, Runner, Stop},
    context::PodContext,
    state::{Role, Slot, init_role},
};

/// Containers in the order of their start.
#[derive(Default)]
pub(super) struct Containers {
    running: Vec<Running>,
}

struct Running {
    role: Role,
    stop: watch::Sender<Option<Stop>>,
    task: JoinHandle<()>,
}

impl Containers {
    /// Starts a container's task.
    pub(super) fn launch(&mut self, context: &Arc<PodContext>, slot: Slot, spec: &PodSpec) {
        let Some(container) = context.container(slot) else { return };
        let role = match slot {
            Slot::Init(_) => init_role(&container),
            Slot::Main(_) => Role::Main,
        };
        let (stop, order) = watch::channel(None);
        let restart = restart(spec, role);
        let runner = Runner { context: Arc::clone(context), slot, container, restart, stop: order };
        self.running.push(Running { role, stop, task: tokio::spawn(runner.run()) });
    }

    /// Stops all containers within `grace`: all at once, but sidecars after everything else and in reverse
    /// order. When `gone` is cancelled they are killed.
    pub(super) async fn stop(&mut self, grace: Duration, gone: &CancellationToken) {
        tokio::select! {
            biased;
            () = gone.cancelled() => {}
            () = self.stop_in_order(grace) => {}
        }
        self.kill().await;
    }

    async fn stop_in_order(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut turns = Vec::new();
        for container in &self.running {
            let turn = CancellationToken::new();
            if container.role != Role::Sidecar {
                turn.cancel();
            }
            container.stop.send_replace(Some(Stop { deadline, turn: turn.clone() }));
            turns.push(turn);
        }
        for container in self.running.iter_mut().filter(|container| container.role != Role::Sidecar) {
            container.end().await;
        }
        for (container, turn) in self.running.iter_mut().zip(turns).rev() {
            turn.cancel();
            container.end().await;
        }
    }

    /// Kills what still runs.
    async fn kill(&mut self) {
        for mut container in self.running.drain(..) {
            container.task.abort();
            container.end().await;
        }
    }
}

impl Running {
    async fn end(&mut self) {
        // A task that has been waited for must not be waited for again.
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }
}

fn restart(spec: &PodSpec, role: Role) -> Restart {
    match (role, spec.restart_policy.as_deref()) {
        (Role::Sidecar, _) => Restart::Always,
        (_, Some("Never")) => Restart::Never,
        (_, Some("OnFailure")) | (Role::Init, _) => Restart::OnFailure,
        _ => Restart::Always,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_follow_the_policy() {
        for (policy, role, expected) in [
            (None, Role::Main, Restart::Always),
            (Some("Always"), Role::Main, Restart::Always),
            (Some("Always"), Role::Init, Restart::OnFailure),
            (Some("Never"), Role::Sidecar, Restart::Always),
            (Some("Never"), Role::Init, Restart::Never),
            (Some("Never"), Role::Main, Restart::Never),
            (Some("OnFailure"), Role::Main, Restart::OnFailure),
        ] {
            let spec = PodSpec { restart_policy: policy.map(str::to_owned), ..PodSpec::default() };
            assert_eq!(restart(&spec, role), expected, "{policy:?} {role:?}");
        }
    }
}
