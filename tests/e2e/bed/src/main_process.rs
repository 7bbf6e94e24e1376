//! The process inside the bed that runs the mesh and the user's command.

use std::{
    env, fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::{ControlPlane, IstioOptions},
    node,
    progress::Step,
    sandbox::{self, Plan, StopSignals},
    state::BedDir,
    tools::Tools,
};

/// How long the user's command may take to end once the bed is told to stop.
const COMMAND_GRACE: Duration = Duration::from_secs(10);
/// The exit code of what was stopped by a signal from outside, as shells give it for TERM.
const STOPPED: u8 = 143;

/// Brings the mesh up, runs the plan's command, and gives its exit code.
///
/// Nothing is taken down here: with the end of this process the kernel ends everything in the bed.
///
/// # Errors
/// When the mesh does not come up, or a part of it ends while the command runs.
pub async fn run(plan: Plan, tools: Tools) -> Result<u8> {
    let mut stop = StopSignals::new()?;
    let bed = BedDir::new(plan.dir.clone());
    sandbox::prepare(&bed).context("cannot prepare the bed's namespaces")?;
    link_tools(&bed, &tools)?;
    let mut mesh = tokio::select! {
        mesh = Mesh::start(&bed, &tools, &plan) => mesh?,
        () = stop.received() => return Ok(STOPPED),
    };
    fs::write(bed.ready(), "")?;
    tokio::select! {
        code = command(&bed, &plan, &mut stop) => code,
        error = mesh.failure() => Err(error),
    }
}

struct Mesh {
    control_plane: ControlPlane,
    node: JoinHandle<Result<()>>,
}

impl Mesh {
    async fn start(bed: &BedDir, tools: &Tools, plan: &Plan) -> Result<Self> {
        let step = Step::start("starting the API server");
        let control_plane = ControlPlane::start(bed, tools).await?;
        step.done();
        let settings = node::Settings {
            bed_dir: bed.path().to_path_buf(),
            tools: tools.clone(),
            bed_exe: env::current_exe()?,
            palisade_exe: palisade()?,
        };
        let node = tokio::spawn(node::run(control_plane.client(), settings, CancellationToken::new()));
        let mut mesh = Self { control_plane, node };
        let step = Step::start("starting Istio");
        let options = IstioOptions { drain: plan.drain.clone(), mesh_config: plan.mesh_config.clone() };
        tokio::select! {
            done = mesh.control_plane.complete(&options) => done?,
            end = &mut mesh.node => return Err(unwanted(end)),
        }
        step.done();
        Ok(mesh)
    }

    async fn failure(&mut self) -> Error {
        tokio::select! {
            error = self.control_plane.failure() => error,
            end = &mut self.node => unwanted(end),
        }
    }
}

fn unwanted(end: Result<Result<()>, tokio::task::JoinError>) -> Error {
    match end {
        Ok(Ok(())) => anyhow!("the node ended"),
        Ok(Err(error)) => error.context("the node failed"),
        Err(error) => Error::new(error).context("the node failed"),
    }
}

/// The operator's executable: `BED_PALISADE_BIN`, else `palisade` beside this executable. It need not exist
/// before a Pod asks for it.
fn palisade() -> Result<PathBuf> {
    env::var_os("BED_PALISADE_BIN")
        .map_or_else(|| Ok(env::current_exe()?.with_file_name("palisade")), |path| Ok(PathBuf::from(path)))
}

/// Gives the bed's tools a folder for PATH.
fn link_tools(bed: &BedDir, tools: &Tools) -> Result<()> {
    fs::create_dir_all(bed.bin())?;
    let links = [
        ("kubectl", tools.kubectl()),
        ("istioctl", tools.istioctl()),
        ("helm", tools.helm()),
        ("envoy", tools.envoy()),
        ("pilot-agent", tools.pilot_agent()),
        ("bed", env::current_exe()?),
    ];
    Ok(links.iter().try_for_each(|(name, target)| symlink(target, bed.bin().join(name)))?)
}

/// Runs the user's command with the terminal until it ends or the bed is told to stop.
async fn command(bed: &BedDir, plan: &Plan, stop: &mut StopSignals) -> Result<u8> {
    let Some((program, arguments)) = plan.command.split_first() else {
        stop.received().await;
        return Ok(0);
    };
    let mut child = Command::new(program)
        .args(arguments)
        .envs(sandbox::environment(bed))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    tokio::select! {
        status = child.wait() => {
            let status = status?;
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            Ok(u8::try_from(code).unwrap_or(1))
        }
        () = stop.received() => {
            if let Some(id) = child.id() {
                kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
            }
            // Whatever it does with the time: the bed ends after it.
            let _ = tokio::time::timeout(COMMAND_GRACE, child.wait()).await;
            Ok(STOPPED)
        }
    }
}
