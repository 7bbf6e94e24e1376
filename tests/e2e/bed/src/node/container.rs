//! One container: started, watched, restarted and stopped.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    context::PodContext,
    hooks,
    image::Program,
    launch::{self, Process},
    probes::{self, Target},
    state::{Activity, Role, Slot, Termination},
};
use crate::state::BedDir;

/// Shorter than the kubelet's 10 s to 5 min: tests wait for restarts.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A container that ran this long begins again with the first back-off.
const HEALTHY_AFTER: Duration = Duration::from_mins(1);
/// Mounting and entering takes milliseconds; on a drowned machine, seconds.
const START_LIMIT: Duration = Duration::from_mins(1);
const POST_START_LIMIT: Duration = Duration::from_mins(5);
/// What a process gets between TERM and KILL even when the Pod's grace period is over.
const SHORTEST_GRACE: Duration = Duration::from_secs(2);

/// When a container is restarted after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    /// Whatever its exit code.
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    Never,
}

/// The order to stop a container for good.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// When it is killed if it has not ended.
    pub(super) deadline: Instant,
    /// It is not told to end before this: sidecars wait for those that need them.
    pub(super) turn: CancellationToken,
}

/// Runs one container of a Pod.
pub(super) struct Runner {
    pub(super) context: Arc<PodContext>,
    pub(super) slot: Slot,
    pub(super) container: Container,
    pub(super) restart: Restart,
    pub(super) stop: watch::Receiver<Option<Stop>>,
}

/// Why a container's process is not running any more.
enum Ended {
    /// It could not be started: reason and message.
    NotStarted(&'static str, String),
    /// It ended by itself or by the node, with more to say than its exit code.
    Exited(ExitStatus, Option<String>),
}

impl Runner {
    /// Runs the container until it ended for good, or was told to stop and did.
    pub(super) async fn run(mut self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let begun = Timestamp::now();
            let since = Instant::now();
            let ended = self.run_once().await;
            let failed = self.record(ended, begun);
            if self.is_stopping() || !self.restarts(failed) {
                self.context.board.update(self.slot, |state| state.settled = true);
                return;
            }
            if since.elapsed() > HEALTHY_AFTER {
                back_off = FIRST_BACK_OFF;
            }
            self.wait_for_restart(back_off).await;
            if self.is_stopping() {
                return;
            }
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    fn restarts(&self, failed: bool) -> bool {
        match self.restart {
            Restart::Always => true,
            Restart::OnFailure => failed,
            Restart::Never => false,
        }
    }

    /// Shows the back-off for as long as it lasts.
    async fn wait_for_restart(&mut self, pause: Duration) {
        self.context.board.update(self.slot, |state| {
            state.settled = true;
            if let Activity::Terminated(end) = &state.activity {
                state.last = Some(end.clone());
                let message = format!("back-off {}s restarting failed container", pause.as_secs());
                state.activity = Activity::Waiting("CrashLoopBackOff".to_owned(), Some(message));
                state.restarts += 1;
            }
        });
        let stopped = self.stop.wait_for(Option::is_some);
        tokio::select! {
            _ = stopped => {}
            () = sleep(pause) => {}
        }
    }

    /// Writes down how a start or a run ended; tells whether it failed.
    fn record(&self, ended: Ended, begun: Timestamp) -> bool {
        let (activity, failed) = match ended {
            Ended::NotStarted(reason, message) => {
                let waiting = Activity::Waiting(reason.to_owned(), Some(message.clone()));
                if self.context.board.read(self.slot, |state| state.activity != waiting) == Some(true) {
                    let (pod, container) = (self.context.label(), &self.container.name);
                    tracing::warn!(pod, container, reason, message, "container not started");
                }
                (waiting, true)
            }
            Ended::Exited(status, message) => {
                let code = exit_code(status);
                let reason = if code == 0 { "Completed" } else { "Error" };
                let end = Termination {
                    exit_code: code,
                    reason,
                    message,
                    started: begun,
                    finished: Timestamp::now(),
                };
                (Activity::Terminated(end), code != 0)
            }
        };
        self.context.board.update(self.slot, |state| {
            // An init container that did its work counts as ready; nothing else that ended does.
            state.ready = !failed && state.role == Role::Init;
            state.started = false;
            state.activity = activity;
        });
        failed
    }

    async fn run_once(&mut self) -> Ended {
        let program = Program::of(self.container.image.as_deref().unwrap_or_default());
        if program == Program::NotInjected {
            return Ended::NotStarted(
                "InvalidImageName",
                "\"auto\" was not replaced by injection".to_owned(),
            );
        }
        let init = matches!(self.slot, Slot::Init(_)) && self.restart != Restart::Always;
        if launch::ends_at_once(&self.context.pod(), &self.container, program, init) {
            return Ended::Exited(ExitStatus::from_raw(0), Some("stood in for".to_owned()));
        }
        if let Err(error) = self.pull(program).await {
            return Ended::NotStarted("ErrImagePull", format!("{error:#}"));
        }
        let starting = timeout(START_LIMIT, launch::start(&self.context, &self.container, program));
        match starting.await {
            Ok(Ok(process)) => self.attend(process, program).await,
            Ok(Err(error)) => Ended::NotStarted("CreateContainerConfigError", format!("{error:#}")),
            Err(_) => {
                Ended::NotStarted("CreateContainerError", format!("not started within {START_LIMIT:?}"))
            }
        }
    }

    /// Has what stands for the image fetched, if it has to be.
    async fn pull(&self, program: Program) -> anyhow::Result<()> {
        let Some(program) = program.fetched() else { return Ok(()) };
        let settings = &self.context.settings;
        settings.tools.fetch(&BedDir::new(settings.bed_dir.clone()), program).await.map(drop)
    }

    /// Stays with a running process until it ends.
    async fn attend(&mut self, mut process: Process, program: Program) -> Ended {
        self.context.board.update(self.slot, |state| state.activity = Activity::Running(Timestamp::now()));
        let label = format!("{} {}", self.context.label(), self.container.name);
        let entry = process.entry.clone();
        let mut stop = self.stop.clone();
        let unhealthy = async {
            if let Err(reason) = self.post_start(&entry, program).await {
                return reason;
            }
            self.context.board.update(self.slot, |state| state.settled = true);
            let target = Target {
                ip: self.context.ip,
                container: &self.container,
                program,
                entry: &entry,
                label: &label,
            };
            probes::watch(&target, &self.container, &self.context.board, self.slot).await
        };
        let (message, order) = tokio::select! {
            status = process.child.wait() => {
                process.clear();
                return Ended::of(status, None);
            }
            reason = unhealthy => (Some(reason), None),
            order = stop.wait_for(Option::is_some) => (None, order.ok().and_then(|order| order.clone())),
        };
        if let Some(reason) = &message {
            tracing::info!(container = label, reason, "container is restarted");
        }
        let order = order.unwrap_or_else(|| self.own_order());
        let status = self.end(&mut process, &order).await;
        process.clear();
        Ended::of(status, message)
    }

    /// The order by which the node itself ends a container that it will restart.
    fn own_order(&self) -> Stop {
        let pod = self.context.pod();
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let turn = CancellationToken::new();
        turn.cancel();
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        Stop { deadline: Instant::now() + grace, turn }
    }

    async fn post_start(&self, entry: &launch::Entry, program: Program) -> Result<(), String> {
        let handler = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(handler) = handler else { return Ok(()) };
        let outcome = timeout(POST_START_LIMIT, hooks::run(&self.context, self.slot, entry, handler)).await;
        match outcome.unwrap_or_else(|_| Err(format!("not done within {POST_START_LIMIT:?}"))) {
            Err(reason) if program.is_real() => Err(format!("PostStartHook failed: {reason}")),
            _ => Ok(()),
        }
    }

    /// preStop, the container's turn, TERM, and KILL at the deadline.
    async fn end(&self, process: &mut Process, order: &Stop) -> std::io::Result<ExitStatus> {
        let lifecycle = self.container.lifecycle.as_ref();
        if let Some(handler) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref())
            && let Some(status) = self.pre_stop(process, handler, order.deadline).await
        {
            return status;
        }
        let waiting = timeout_at(order.deadline, order.turn.cancelled());
        tokio::select! {
            status = process.child.wait() => return status,
            _ = waiting => {}
        }
        process.signal(Signal::SIGTERM);
        let limit = order.deadline.max(Instant::now() + SHORTEST_GRACE);
        if let Ok(status) = timeout_at(limit, process.child.wait()).await {
            return status;
        }
        process.clear();
        process.child.wait().await
    }

    /// Runs preStop; returns early with the status when the process ends meanwhile.
    async fn pre_stop(
        &self,
        process: &mut Process,
        handler: &LifecycleHandler,
        deadline: Instant,
    ) -> Option<std::io::Result<ExitStatus>> {
        let entry = process.entry.clone();
        let hook = timeout_at(deadline, hooks::run(&self.context, self.slot, &entry, handler));
        tokio::select! {
            status = process.child.wait() => Some(status),
            outcome = hook => {
                if let Ok(Err(reason)) = outcome {
                    tracing::debug!(pod = self.context.label(), reason, "preStop hook failed");
                }
                None
            }
        }
    }
}

impl Ended {
    fn of(status: std::io::Result<ExitStatus>, message: Option<String>) -> Self {
        match status {
            Ok(status) => Self::Exited(status, message),
            Err(error) => Self::NotStarted("ContainerStatusUnknown", error.to_string()),
        }
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        // The process may have ended by itself.
        let _ = kill(Pid::from_raw(self.pid), signal);
    }

    /// Kills what is left of the container's processes.
    fn clear(&self) {
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.clear();
        let _ = std::fs::remove_file(&self.pid_file);
    }
}

/// The exit code as container runtimes tell it: 128 + number for a process that a signal ended.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        for (raw, expected) in [(0, 0), (1 << 8, 1), (143 << 8, 143), (9, 137), (15, 143)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), expected);
        }
    }
}
