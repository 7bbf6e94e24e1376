//! The bed's own network, mount and PID namespaces.
//!
//! `bed run` starts `unshare`, which starts the bed's first process, PID 1 of its own PID namespace; that
//! starts the process that runs the mesh. When PID 1 ends, the kernel ends everything else, and with the last
//! process go all mounts, networks and addresses.

mod enter;
mod first;
mod owner;
mod prepare;

use std::{ffi::OsString, path::PathBuf};

pub use enter::{command_inside, is_inside, relaunch_inside};
pub use first::run as run_first_process;
pub use owner::own;
pub use prepare::{POD_NETWORK, ROOT_ADDRESS, prepare, raise_limits};
pub(crate) use {enter::environment, owner::StopSignals};

/// The environment variable that tells commands that they run inside the bed of this directory.
pub const INSIDE: &str = "BED_INSIDE";

/// What one bed is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The bed's state directory.
    pub dir: PathBuf,
    /// A YAML file that is merged into Istio's mesh configuration.
    pub mesh_config: Option<PathBuf>,
    /// How long Envoy drains old listeners, as Istio writes durations ("45s").
    pub drain: String,
    /// What to run once the mesh is up. If empty, the bed stays until it is told to stop.
    pub command: Vec<OsString>,
}

impl Plan {
    /// The arguments by which the bed's hidden command `role` gets this plan.
    fn arguments(&self, role: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            role.into(),
            "--dir".into(),
            self.dir.clone().into(),
            "--drain".into(),
            (&self.drain).into(),
        ];
        if let Some(file) = &self.mesh_config {
            arguments.extend(["--mesh-config".into(), file.clone().into()]);
        }
        arguments.push("--".into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }
}
