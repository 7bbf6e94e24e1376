//! The bed's first process: PID 1 of its PID namespace, to which every orphan falls.

use std::{
    env,
    process::{Child, Command},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::Plan;

/// Starts the process that runs the mesh, reaps orphans until it ends, and gives its exit code.
///
/// Ctrl-C on the terminal is the main process's business: the kernel keeps signals without a handler away from
/// a namespace's first process. It is a process of its own because reaping "any child" would take exit codes away from a runtime that
/// waits for its own children.
///
/// # Errors
/// When the process cannot be started.
pub async fn run(plan: &Plan) -> Result<u8> {
    let mut children = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let main = spawn(plan)?;
    let main = Pid::from_raw(i32::try_from(main.id())?);
    loop {
        tokio::select! {
            _ = children.recv() => if let Some(code) = reap(main) { return Ok(code) },
            _ = terminate.recv() => kill(main, Signal::SIGTERM)?,
        }
    }
}

fn spawn(plan: &Plan) -> Result<Child> {
    Command::new(env::current_exe()?)
        .args(plan.arguments("main-process"))
        .spawn()
        .context("cannot start the bed's main process")
}

/// Takes every ended child; gives the main process's exit code if it was among them.
fn reap(main: Pid) -> Option<u8> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => ended = Some(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                ended = Some(u8::try_from(128 + signal as i32).unwrap_or(1));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ended.or(Some(1)),
        }
    }
}
