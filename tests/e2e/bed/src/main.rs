//! `bed`: starts and inspects a real Istio mesh on one machine.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use bed::{
    app,
    cli::{Cli, Command, Exec, Inner, Logs, MeshOptions, Rest, Run},
    daemon, inspect, main_process,
    progress::answer,
    sandbox::{self, Plan},
    state::{self, BedDir},
    tools::Tools,
};
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,bed=info,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Another library may have installed one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match dispatch(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("bed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    let bed = cli.bed()?;
    match cli.command {
        Command::Tools => tools(),
        Command::Run(arguments) => run(cli.dir.map(|_| bed), arguments),
        Command::Up(options) => {
            Tools::ensure()?;
            block_on(daemon::up(&bed, &options))
        }
        Command::Down => daemon::down(&bed),
        Command::Status => status(&bed),
        Command::Shell => become_inside(&bed, &[shell()]),
        Command::Enter(Rest { command }) => become_inside(&bed, &command),
        Command::Exec(arguments) => exec(&bed, &arguments),
        Command::Envoy(arguments) => inside(&bed, inspect::envoy(&bed, &arguments.pod, &arguments.path)),
        Command::Logs(Logs { pod, container }) => {
            inside(&bed, inspect::logs(&bed, &pod, container.as_deref()))
        }
        Command::Metrics { component } => inside(&bed, inspect::metrics(&bed, component)),
        Command::App(command) => block_on(app::run(command)).map(|()| 0),
        Command::FirstProcess(inner) => block_on(sandbox::run_first_process(&plan(&bed, inner)?)),
        Command::MainProcess(inner) => {
            let tools = Tools::ensure()?;
            block_on(main_process::run(plan(&bed, inner)?, tools))
        }
    }
}

fn tools() -> Result<u8> {
    for (name, path) in Tools::ensure()?.all() {
        answer(&format!("{name:<24} {}", path.display()));
    }
    Ok(0)
}

fn run(bed: Option<BedDir>, arguments: Run) -> Result<u8> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a bed needs root, to make network namespaces: run it with sudo"
    );
    Tools::ensure()?;
    let bed = bed.map_or_else(BedDir::temporary, Ok)?;
    if arguments.mesh.raise_limits {
        sandbox::raise_limits()?;
    }
    let plan = plan(&bed, Inner { mesh: arguments.mesh, command: arguments.command })?;
    let claim = bed.claim(if arguments.detached { state::Logs::Keep } else { state::Logs::Delete })?;
    let code = block_on(sandbox::own(&plan, &claim));
    // `bed up` shows the log of a mesh that has not come up.
    let failed = arguments.detached && code.as_ref().map_or(true, |code| *code == 1);
    if arguments.keep {
        eprintln!("bed: state and logs are kept in {}", bed.path().display());
    }
    claim.release(arguments.keep || failed)?;
    code
}

fn plan(bed: &BedDir, inner: Inner) -> Result<Plan> {
    let MeshOptions { mesh_config, drain, .. } = inner.mesh;
    let mesh_config = mesh_config.map(std::path::absolute).transpose()?;
    if let Some(file) = &mesh_config {
        ensure!(file.is_file(), "there is no mesh configuration {}", file.display());
    }
    Ok(Plan { dir: bed.path().to_path_buf(), mesh_config, drain, command: inner.command })
}

fn status(bed: &BedDir) -> Result<u8> {
    if !bed.is_ready() {
        answer(&daemon::describe(bed));
        return Ok(1);
    }
    if !sandbox::is_inside(bed) {
        answer(&daemon::describe(bed));
    }
    become_inside(bed, &["kubectl", "get", "pods", "--all-namespaces", "--output=wide"].map(OsString::from))
}

fn exec(bed: &BedDir, arguments: &Exec) -> Result<u8> {
    sandbox::relaunch_inside(bed)?;
    let pod = block_on(inspect::find_pod(bed, &arguments.pod))?;
    let mut command = inspect::command_in(bed, &pod, arguments.container.as_deref(), &arguments.command)?;
    Err(command.exec()).context("cannot enter the pod's network")
}

/// Runs `work` inside the bed and prints what it gives.
fn inside(bed: &BedDir, work: impl Future<Output = Result<String>>) -> Result<u8> {
    sandbox::relaunch_inside(bed)?;
    answer(&block_on(work)?);
    Ok(0)
}

/// Becomes a command inside the bed.
fn become_inside(bed: &BedDir, command: &[OsString]) -> Result<u8> {
    let (program, arguments) = command.split_first().context("there is no command")?;
    // PATH is the bed's only inside, so it is a program there that looks the command up.
    let error = sandbox::command_inside(bed, OsStr::new("env"))?.arg(program).args(arguments).exec();
    Err(error).context("cannot enter the bed with nsenter")
}

fn shell() -> OsString {
    env::var_os("SHELL").unwrap_or_else(|| "sh".into())
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?.block_on(work)
}
