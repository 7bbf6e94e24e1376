//! Mounts and network of fresh namespaces.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::state::BedDir;

/// The address of the bed's root network namespace on the pods' bridge, where the API server listens.
pub const ROOT_ADDRESS: &str = "10.244.0.1";
/// The pods' network.
pub const POD_NETWORK: &str = "10.244.0.0/16";

const RESOLV_CONF: &str = "nameserver 10.96.0.10\nsearch svc.cluster.local cluster.local\noptions ndots:5\n";
/// Without an address of its own a bridge takes the lowest of its ports', and loses it with that pod; until the others
/// have heard the new one, what they send is lost.
const BRIDGE_LINK: &str = "02:00:0a:f4:00:01";
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Makes what the bed's processes expect, in namespaces that are the bed's own already.
///
/// # Errors
/// When a mount or an address cannot be made.
pub fn prepare(bed: &BedDir) -> Result<()> {
    mounts(bed)?;
    network()
}

fn mounts(bed: &BedDir) -> Result<()> {
    // Read the link before its target's folder is hidden by a private /run.
    let resolv_conf = resolved("/etc/resolv.conf");
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
    fs::create_dir_all("/run/netns")?;
    fs::create_dir_all(bed.etcd())?;
    run("mount", &["-t", "tmpfs", "-o", "mode=700", "tmpfs", &bed.etcd().to_string_lossy()])?;
    let ours = bed.path().join("resolv.conf");
    fs::write(&ours, RESOLV_CONF)?;
    if !resolv_conf.exists() {
        resolv_conf.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&resolv_conf, "")?;
    }
    run("mount", &["--bind", &ours.to_string_lossy(), &resolv_conf.to_string_lossy()])
}

fn resolved(path: &str) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| {
        let target = fs::read_link(path).unwrap_or_else(|_| path.into());
        Path::new("/etc").join(target)
    })
}

fn network() -> Result<()> {
    let commands: [&[&str]; 5] = [
        &["link", "set", "lo", "up"],
        &["link", "add", "bed0", "address", BRIDGE_LINK, "type", "bridge"],
        &["address", "add", "10.244.0.1/16", "dev", "bed0"],
        &["link", "set", "bed0", "up"],
        // What is sent from here to a service address has to be routed before kube-proxy's rules change it.
        &["route", "add", "10.96.0.0/16", "dev", "bed0"],
    ];
    commands.iter().try_for_each(|arguments| run("ip", arguments))?;
    sysctl("net/ipv4/ip_forward", "1")?;
    // Pods reach one another through the bridge's address only: a better way would not be one.
    sysctl("net/ipv4/conf/all/send_redirects", "0")?;
    sysctl("net/ipv4/conf/bed0/send_redirects", "0")?;
    if Path::new(BRIDGE_FILTER).exists() {
        // Everything is routed, so nothing is lost; and a pod that calls its own service would be bridged back
        // to the port that it came from, which bridges refuse.
        sysctl("net/bridge/bridge-nf-call-iptables", "0")?;
    }
    Ok(())
}

/// Raises the number of inotify instances that one user may have. A sidecar needs three (Envoy one, its agent
/// two), all sidecars have one user, and the kernel's default is 128.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_limits() -> Result<()> {
    const NAME: &str = "fs/inotify/max_user_instances";
    const ENOUGH: u32 = 16384;
    let now = fs::read_to_string(Path::new("/proc/sys").join(NAME)).unwrap_or_default();
    if now.trim().parse().unwrap_or(0) < ENOUGH { sysctl(NAME, &ENOUGH.to_string()) } else { Ok(()) }
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value).with_context(|| format!("cannot set {name}"))
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(line)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", line(), error.trim());
    Ok(())
}
