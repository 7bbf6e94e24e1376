//! The command line of `bed`.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{app, state::BedDir};

/// A real Istio mesh on one machine
///
/// The API server, istiod and Envoy run as processes, pods as network namespaces, all in namespaces of their
/// own. Whatever is applied to the bed's API server runs; images of applications are replaced by a stand-in
/// that answers on the declared ports.
#[derive(Debug, Parser)]
#[command(name = "bed", version)]
pub struct Cli {
    /// The bed's state directory [default: palisade-bed among the temporary files; `bed run`: a new one]
    #[arg(long, global = true, env = "BED_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The bed that commands other than `bed run` are about.
    ///
    /// # Errors
    /// When the directory is named relative to a current directory that is gone.
    pub fn bed(&self) -> Result<BedDir> {
        let Some(dir) = &self.dir else { return Ok(BedDir::standard()) };
        let dir =
            std::path::absolute(dir).with_context(|| format!("cannot tell where {} is", dir.display()))?;
        Ok(BedDir::new(dir))
    }
}

/// What `bed` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build or fetch the bed's tools, and print where they are
    ///
    /// They are kept in `$PALISADE_CACHE`, else in `palisade` in the user's cache folder. The first time takes
    /// about a quarter of an hour on two cores.
    Tools,
    /// Start a mesh, run a command inside it, and take everything down
    ///
    /// The command finds KUBECONFIG and `BED_DIR` in its environment and kubectl, istioctl and helm in its PATH.
    /// The exit code is the command's. Without a command the mesh stays until Ctrl-C.
    Run(Run),
    /// Start a mesh that stays, and wait until it is ready
    Up(MeshOptions),
    /// Stop the running mesh and delete its state
    Down,
    /// Tell whether a mesh runs, and its nodes and pods
    Status,
    /// Open a shell inside the running mesh
    Shell,
    /// Run a command inside the running mesh
    Enter(Rest),
    /// Run a command in a pod's network, captured by its sidecar as its containers' traffic is
    Exec(Exec),
    /// Print what a pod's containers have written
    Logs(Logs),
    /// Print what a sidecar's Envoy says at an administration path, such as `/clusters` or `/config_dump`
    Envoy(Envoy),
    /// Print a component's metrics
    Metrics {
        /// Whose
        component: Component,
    },
    /// The stand-in application: serve, call, put load
    #[command(subcommand)]
    App(app::Command),
    /// PID 1 of the bed's PID namespace
    #[command(hide = true)]
    FirstProcess(Inner),
    /// The process that runs the mesh
    #[command(hide = true)]
    MainProcess(Inner),
}

/// Options of every mesh.
#[derive(Args, Clone, Debug)]
pub struct MeshOptions {
    /// A YAML file that is merged into Istio's mesh configuration
    #[arg(long, value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// How long Envoy drains listeners that go
    #[arg(long, value_name = "DURATION", default_value = "45s")]
    pub drain: String,
    /// Raise the machine's limit of inotify instances, which the kernel's default sets at about 40 sidecars
    ///
    /// This is the one setting that outlives the bed, until the machine restarts: it has no namespace.
    #[arg(long)]
    pub raise_limits: bool,
}

/// Arguments of `bed run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Options of the mesh.
    #[command(flatten)]
    pub mesh: MeshOptions,
    /// Keep the state directory, with all logs, when the mesh is gone
    #[arg(long)]
    pub keep: bool,
    /// Started by `bed up`
    #[arg(long, hide = true)]
    pub detached: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// A command after `--`.
#[derive(Args, Debug)]
pub struct Rest {
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `bed exec`.
#[derive(Args, Debug)]
pub struct Exec {
    /// Namespace and name of the pod; the beginning of a name, such as its Deployment's, will do
    #[arg(value_name = "NS/POD")]
    pub pod: String,
    /// See files as this container does, not as the bed does
    #[arg(short, long)]
    pub container: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `bed logs`.
#[derive(Args, Debug)]
pub struct Logs {
    /// Namespace and name of the pod; the beginning of a name, such as its Deployment's, will do
    #[arg(value_name = "NS/POD")]
    pub pod: String,
    /// Only this container's
    #[arg(short, long)]
    pub container: Option<String>,
}

/// Arguments of `bed envoy`.
#[derive(Args, Debug)]
pub struct Envoy {
    /// Namespace and name of the pod; the beginning of a name, such as its Deployment's, will do
    #[arg(value_name = "NS/POD")]
    pub pod: String,
    /// A path of Envoy's administration interface
    pub path: String,
}

/// A component that has metrics.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Component {
    /// Istio's control plane.
    Istiod,
    /// The API server.
    Apiserver,
    /// The operator.
    Palisade,
}

/// Arguments of the hidden commands.
#[derive(Args, Debug)]
pub struct Inner {
    /// Options of the mesh.
    #[command(flatten)]
    pub mesh: MeshOptions,
    /// The user's command and its arguments
    #[arg(last = true)]
    pub command: Vec<OsString>,
}
