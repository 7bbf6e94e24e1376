//! The process outside the bed that starts it and ends it.

use std::{env, fs, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::Plan;
use crate::{
    state::{BedDir, Claim},
    tools,
};

/// How long the bed may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Runs the bed until it ends, and gives its command's exit code. INT, TERM and HUP stop it.
///
/// # Errors
/// When the namespaces cannot be made, or signals not be received.
pub async fn own(plan: &Plan, claim: &Claim) -> Result<u8> {
    let mut stop = StopSignals::new()?;
    let mut unshare = spawn(plan)?;
    let Some(first) = first_process(&mut unshare).await? else {
        return Ok(code(unshare.wait().await?));
    };
    claim.record_sandbox(first.as_raw())?;
    tokio::select! {
        status = unshare.wait() => return Ok(code(status?)),
        () = stop.received() => {}
        never = tools::deliver(BedDir::new(plan.dir.clone())) => match never {},
    }
    stop_sandbox(&mut unshare, first, &mut stop).await
}

/// `setpriv` and `--kill-child` chain the lives: the owner's death is `unshare`'s, and that the bed's.
fn spawn(plan: &Plan) -> Result<Child> {
    let exe = env::current_exe().context("cannot tell where the bed's executable is")?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc"])
        .arg(exe)
        .args(plan.arguments("first-process"))
        .kill_on_drop(true)
        .spawn()
        .context("cannot make the bed's namespaces (root and util-linux are needed)")
}

/// The process that `unshare` has forked, or none if `unshare` ended before.
async fn first_process(unshare: &mut Child) -> Result<Option<Pid>> {
    let Some(id) = unshare.id() else { return Ok(None) };
    for _ in 0..500 {
        if unshare.try_wait()?.is_some() {
            return Ok(None);
        }
        if let Some(child) = only_child(id) {
            return Ok(Some(Pid::from_raw(child)));
        }
        sleep(Duration::from_millis(10)).await;
    }
    bail!("unshare has not started the bed's first process within 5 s")
}

fn only_child(parent: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Asks again and again: a first process that has not yet installed its handlers never sees a signal.
async fn stop_sandbox(unshare: &mut Child, first: Pid, again: &mut StopSignals) -> Result<u8> {
    let deadline = Instant::now() + STOP_LIMIT;
    let mut ask = interval(Duration::from_millis(500));
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = unshare.wait() => return Ok(code(status?)),
            _ = ask.tick() => {
                // It may have ended just now, which is what is wanted.
                let _ = kill(first, Signal::SIGTERM);
                if Instant::now() >= deadline {
                    unshare.kill().await?;
                }
            }
            // Asked twice: now.
            () = again.received() => unshare.kill().await?,
        }
    }
}

/// The exit code as a shell gives it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The signals by which users and their tools end a program.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl StopSignals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
