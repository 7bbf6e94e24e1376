//! A mesh that stays: started by one command, stopped by another.

use std::{
    env,
    fs::File,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cli::MeshOptions,
    process,
    progress::{Step, answer},
    sandbox::StopSignals,
    state::{BedDir, Logs},
    wait,
};
use tokio::process::{Child, Command};

const START_LIMIT: Duration = Duration::from_mins(4);
/// Longer than the owner takes before it kills.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Starts a mesh that stays unless one runs already, waits until it is ready, and tells how to use it.
///
/// # Errors
/// When the mesh does not come up; with the end of its log.
pub async fn up(bed: &BedDir, options: &MeshOptions) -> Result<u8> {
    let mut signals = StopSignals::new()?;
    if bed.owner().is_none() {
        let step = Step::start("starting the mesh");
        let mut started = start(bed, options)?;
        tokio::select! {
            status = started.wait() => {
                bail!("the mesh has not come up ({}); {}", status?, process::tail(&bed.log("bed")));
            }
            up = ready(bed) => if let Err(error) = up {
                give_up(started).await?;
                return Err(error);
            },
            () = signals.received() => {
                give_up(started).await?;
                bail!("the mesh has been stopped while it was starting");
            }
        }
        step.done();
    } else {
        ready(bed).await?;
    }
    answer(&describe(bed));
    Ok(0)
}

async fn give_up(mut started: Child) -> Result<()> {
    if let Some(id) = started.id() {
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
    }
    tokio::time::timeout(STOP_LIMIT, started.wait()).await.context("the mesh does not end")??;
    Ok(())
}

async fn ready(bed: &BedDir) -> Result<()> {
    wait::until("the mesh is up", START_LIMIT, async || {
        ensure!(bed.is_ready(), "{}", describe(bed));
        Ok(())
    })
    .await
}

/// Starts the owner of a mesh in a session of its own, so that it outlives this terminal.
fn start(bed: &BedDir, options: &MeshOptions) -> Result<Child> {
    drop(bed.claim(Logs::Delete)?);
    let path = bed.log("bed");
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let log = File::create(path)?;
    let mut command = Command::new("setsid");
    command.arg(env::current_exe()?).arg("run").arg("--detached").arg("--dir").arg(bed.path());
    command.args(["--drain", &options.drain]);
    if options.raise_limits {
        command.arg("--raise-limits");
    }
    if let Some(file) = &options.mesh_config {
        command.arg("--mesh-config").arg(std::path::absolute(file)?);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot start the mesh's owner with setsid")
}

/// Stops the running mesh, if one runs, and waits until it is gone.
///
/// # Errors
/// When it does not end.
pub fn down(bed: &BedDir) -> Result<u8> {
    let Some(owner) = bed.owner().map(Pid::from_raw) else {
        answer(&describe(bed));
        return Ok(0);
    };
    let step = Step::start("stopping the mesh");
    kill(owner, Signal::SIGTERM).context("cannot stop the bed's owner")?;
    let began = Instant::now();
    // Its last act is to delete the directory.
    while kill(owner, None).is_ok() {
        ensure!(began.elapsed() < STOP_LIMIT, "the bed has not ended; its owner is process {owner}");
        thread::sleep(PAUSE);
    }
    step.done();
    Ok(0)
}

/// Whether a mesh runs, and how to use it.
#[must_use]
pub fn describe(bed: &BedDir) -> String {
    let dir = bed.path().display();
    let Some(owner) = bed.owner() else { return format!("no bed runs in {dir}") };
    if !bed.is_ready() {
        return format!("a bed is starting in {dir} (process {owner})");
    }
    let select = if *bed == BedDir::standard() { String::new() } else { format!("export BED_DIR={dir}\n") };
    format!(
        "a mesh runs in {dir} (process {owner})\n\
         {select}export KUBECONFIG={}\n\
         bed shell                          a shell inside, with kubectl, istioctl and helm\n\
         bed enter -- kubectl get pods -A   one command inside (the API server answers there only)\n\
         bed exec NS/POD -- curl …          a command in a pod's network\n\
         bed envoy NS/POD /clusters         what its sidecar says\n\
         bed down                           the end",
        bed.kubeconfig().display()
    )
}
