//! Commands in a bed that runs already.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::INSIDE;
use crate::state::BedDir;

/// Whether this process runs inside this bed.
#[must_use]
pub fn is_inside(bed: &BedDir) -> bool {
    env::var_os(INSIDE).is_some_and(|dir| dir == bed.path())
}

/// A command that runs `program` inside the bed with the environment that its users expect: `KUBECONFIG`,
/// `BED_DIR`, and the bed's tools first in `PATH`.
///
/// # Errors
/// When no bed runs in the directory.
pub fn command_inside(bed: &BedDir, program: &OsStr) -> Result<Command> {
    let mut command = if is_inside(bed) { Command::new(program) } else { entering(bed, program)? };
    command.envs(environment(bed));
    Ok(command)
}

/// What a command inside the bed finds in its environment.
pub(crate) fn environment(bed: &BedDir) -> Vec<(OsString, OsString)> {
    let mut path = bed.bin().into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    vec![
        ("BED_DIR".into(), bed.path().into()),
        (INSIDE.into(), bed.path().into()),
        ("KUBECONFIG".into(), bed.kubeconfig().into()),
        ("PATH".into(), path),
    ]
}

fn entering(bed: &BedDir, program: &OsStr) -> Result<Command> {
    let Some(first) = bed.sandbox() else {
        bail!("no bed runs in {} (`bed up` starts one; BED_DIR or --dir names another)", bed.path().display())
    };
    let folder = env::current_dir().context("the current directory is gone")?;
    let mut working = OsString::from("--wdns=");
    working.push(folder);
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &first.to_string(), "--net", "--mount", "--pid"])
        .arg(working)
        .arg("--")
        .arg(program);
    Ok(command)
}

/// Makes sure that the rest of this program runs inside the bed: outside, the process becomes one inside with
/// the same arguments, and does not return.
///
/// # Errors
/// When no bed runs in the directory.
pub fn relaunch_inside(bed: &BedDir) -> Result<()> {
    if is_inside(bed) {
        return Ok(());
    }
    let exe = env::current_exe()?;
    let error = command_inside(bed, exe.as_os_str())?.args(env::args_os().skip(1)).exec();
    Err(error).context("cannot enter the bed with nsenter")
}
