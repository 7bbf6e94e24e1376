//! The kubelet's stand-in: runs the Pods that are bound to the bed's only node.
//!
//! A Pod is a network namespace on the bridge `bed0` and a process for each container, in a file system of
//! its own. Which program stands for which image is said in `image.rs`; everything else is what the Pod says:
//! volumes, environment, user, probes, hooks, restarts, and the order of starts and stops.

mod command;
mod container;
mod containers;
mod context;
mod environment;
mod expansion;
mod fields;
mod files;
mod hooks;
mod hostfiles;
mod identity;
mod image;
mod launch;
mod network;
mod objects;
mod pod;
mod pods;
mod probes;
mod quantity;
mod registration;
mod reporter;
mod rootfs;
mod state;
mod status;
mod storage;
mod tokens;
mod user_namespace;
mod volumes;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use crate::tools::Tools;

/// What the node needs to know of the bed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bed's state directory.
    pub bed_dir: PathBuf,
    /// The programs that containers are mapped to.
    pub tools: Tools,
    /// The `bed` executable, for stand-in applications.
    pub bed_exe: PathBuf,
    /// The operator's executable.
    pub palisade_exe: PathBuf,
}

/// Registers the Node `bed` and runs the Pods that are bound to it until `stop` is cancelled; then kills their
/// processes and removes their network namespaces before it returns.
///
/// Must run as root, in network, mount and PID namespaces of the bed's own.
///
/// # Errors
/// When the API server refuses the Node.
pub async fn run(client: kube::Client, mut settings: Settings, stop: CancellationToken) -> Result<()> {
    settings.bed_dir = tokio::fs::canonicalize(&settings.bed_dir).await.context("the bed's directory")?;
    registration::register(&client).await?;
    let heartbeat = tokio::spawn(registration::keep_alive(client.clone(), stop.clone()));
    let claims = tokio::spawn(storage::run(client.clone(), settings.bed_dir.clone()));
    let outcome = pods::run(client, settings, stop).await;
    heartbeat.abort();
    claims.abort();
    outcome
}
