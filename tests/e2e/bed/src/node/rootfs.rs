//! What a container sees as its file system.
//!
//! A directory stands for the image: the machine's programs and libraries are bound into it read-only, the
//! bed's own ones where Istio's images have them, and the Pod's volumes at their mount paths. The mounts are
//! listed in a file for `mount --all`, which the container's first process runs in a mount namespace of its
//! own: nothing of it is ever mounted in the bed's.

use std::{
    fmt::Write as _,
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::{
    Settings, context::PodContext, environment::Environment, expansion::expand, hostfiles, image::Program,
    user_namespace::UserNamespace, volumes,
};

const DIRECTORIES: [&str; 15] = [
    "etc/ssl/certs",
    "dev/shm",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run/lock",
    "srv",
    "usr/local/bin",
    "usr/share",
    "var/cache",
    "var/lib/istio/envoy",
    "var/log",
    "sys",
];
const WORLD_WRITABLE: [&str; 2] = ["tmp", "var/tmp"];
const LINKS: [(&str, &str); 9] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "../run"),
    ("var/lock", "../run/lock"),
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];
/// Bound as they are on this machine. iptables finds its flavour through the alternatives.
const BOUND: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/etc/alternatives"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const COPIED: [&str; 6] = ["passwd", "group", "nsswitch.conf", "protocols", "services", "ld.so.cache"];
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where a container finds the user namespace that it has to enter.
pub(super) const USERS: &str = "/dev/users";

/// What a container's file system depends on.
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) program: Program,
    pub(super) values: &'a Environment,
    /// The user namespace to enter, if it is not the bed's.
    pub(super) users: Option<&'a UserNamespace>,
}

/// A container's file system, ready to be mounted.
#[derive(Debug)]
pub(super) struct Rootfs {
    /// What becomes `/`.
    pub(super) root: PathBuf,
    /// The mounts, in the format of `fstab(5)`.
    pub(super) table: PathBuf,
}

/// Lays out a fresh file system for one start of a container.
///
/// # Errors
/// When the file system refuses, or a volume mount names nothing.
pub(super) fn lay_out(context: &PodContext, view: &View<'_>) -> Result<Rootfs> {
    let View { pod, container, program, values, users } = view;
    let base = context.dir.join("rootfs");
    let root = base.join(&container.name);
    if root.exists() {
        fs::remove_dir_all(&root).context("remove the last file system")?;
    }
    skeleton(&root).context("lay out the file system")?;
    fs::write(root.join("etc/hosts"), hostfiles::hosts(pod, context.ip))?;
    fs::write(root.join("etc/hostname"), format!("{}\n", hostfiles::hostname(pod)))?;
    fs::copy(context.dir.join("resolv.conf"), root.join("etc/resolv.conf"))?;

    let mut table = Table { root: root.clone(), text: String::new(), bound: Vec::new() };
    table.line(&root.display().to_string(), "", "none", "bind");
    machine(&mut table)?;
    programs(&mut table, &context.settings, *program)?;
    if let Some(users) = users {
        table.bind(users.path(), Path::new(USERS), "bind")?;
    }
    for mount in sorted(container) {
        let expanded = mount.sub_path_expr.as_deref().map(|path| expand(path, values));
        let sub_path = expanded.as_deref().or(mount.sub_path.as_deref());
        bind_volume(&mut table, context, pod, mount, sub_path)
            .with_context(|| format!("mount volume {:?} at {:?}", mount.name, mount.mount_path))?;
    }
    let file = base.join(format!("{}.fstab", container.name));
    fs::write(&file, table.text)?;
    Ok(Rootfs { root, table: file })
}

fn skeleton(root: &Path) -> io::Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    for directory in WORLD_WRITABLE {
        fs::create_dir_all(root.join(directory))?;
        fs::set_permissions(root.join(directory), Permissions::from_mode(0o1777))?;
    }
    for (link, target) in LINKS {
        symlink(target, root.join(link))?;
    }
    for name in COPIED {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            fs::copy(from, root.join("etc").join(name))?;
        }
    }
    Ok(())
}

fn machine(table: &mut Table) -> Result<()> {
    for path in BOUND.into_iter().chain([CERTIFICATES]).map(Path::new).filter(|path| path.exists()) {
        table.bind(path, path, "bind,ro")?;
    }
    for device in DEVICES {
        let path = Path::new("/dev").join(device);
        table.bind(&path, &path, "bind")?;
    }
    table.line("tmpfs", "/dev/shm", "tmpfs", "mode=1777");
    table.bind(Path::new("/proc"), Path::new("/proc"), "rbind")
}

fn programs(table: &mut Table, settings: &Settings, program: Program) -> Result<()> {
    let tools = &settings.tools;
    let entrypoint = Path::new(program.entrypoint());
    match program {
        Program::Palisade => table.bind(&settings.palisade_exe, entrypoint, "bind,ro"),
        Program::PilotDiscovery => table.bind(&tools.pilot_discovery(), entrypoint, "bind,ro"),
        Program::Prometheus => table.bind(&tools.fetched("prometheus")?, entrypoint, "bind,ro"),
        Program::BedApp | Program::StandIn | Program::NotInjected => {
            table.bind(&settings.bed_exe, entrypoint, "bind,ro")
        }
        Program::PilotAgent => {
            table.bind(&tools.pilot_agent(), entrypoint, "bind,ro")?;
            table.bind(&tools.envoy(), Path::new("/usr/local/bin/envoy"), "bind,ro")?;
            let bootstrap = tools.istio_source().join("tools/packaging/common/envoy_bootstrap.json");
            let place = Path::new("/var/lib/istio/envoy/envoy_bootstrap_tmpl.json");
            table.bind(&bootstrap, place, "bind,ro")
        }
    }
}

/// A container's mounts, parents before what lies in them.
fn sorted(container: &Container) -> Vec<&VolumeMount> {
    let mut mounts: Vec<&VolumeMount> = container.volume_mounts.iter().flatten().collect();
    mounts.sort_by_key(|mount| Path::new(&mount.mount_path).components().count());
    mounts
}

fn bind_volume(
    table: &mut Table,
    context: &PodContext,
    pod: &Pod,
    mount: &VolumeMount,
    sub_path: Option<&str>,
) -> Result<()> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let volume = volumes.iter().find(|volume| volume.name == mount.name).context("no such volume")?;
    let Some(target) = place(&mount.mount_path) else {
        tracing::debug!(path = mount.mount_path, "the machine's own files are here: volume not mounted");
        return Ok(());
    };
    let mut source = volumes::path(context, pod, volume);
    let writable = volumes::is_writable(volume);
    if let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) {
        source.push(sub_path);
        if writable && !source.exists() {
            super::files::make_shared(&source, None)?;
        }
    }
    let read_only = mount.read_only == Some(true) || !writable;
    table.bind(&source, &target, if read_only { "bind,ro" } else { "bind" })
}

/// Where a mount path lies in the container's file system, or `None` when it lies in what is the machine's.
fn place(mount_path: &str) -> Option<PathBuf> {
    let mut path = PathBuf::from("/");
    for part in Path::new(mount_path).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => return None,
            _ => {}
        }
    }
    let path = path.strip_prefix("/var/run").map(|rest| Path::new("/run").join(rest)).unwrap_or(path);
    let machine =
        ["/bin", "/sbin", "/lib", "/lib64", "/proc"].into_iter().chain(BOUND).any(|m| path.starts_with(m));
    let whole = ["/", "/etc", "/usr", "/usr/local", "/usr/local/bin", "/dev", "/run", "/var"];
    (!machine && !whole.iter().any(|top| path == Path::new(top))).then_some(path)
}

/// Lines of `fstab(5)` under one root.
struct Table {
    root: PathBuf,
    text: String,
    /// Targets and sources so far.
    bound: Vec<(PathBuf, PathBuf)>,
}

impl Table {
    /// Binds `source` at `target` and makes the mount point.
    fn bind(&mut self, source: &Path, target: &Path, options: &str) -> Result<()> {
        let point = self.point(target);
        let found = fs::metadata(source).with_context(|| source.display().to_string())?;
        if found.is_dir() {
            fs::create_dir_all(&point)?;
        } else if !point.exists() {
            if let Some(parent) = point.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&point, "")?;
        }
        self.line(&source.display().to_string(), &target.display().to_string(), "none", options);
        self.bound.push((target.to_path_buf(), source.to_path_buf()));
        Ok(())
    }

    /// Where the mount point of `target` has to be made: in the volume that is mounted around it, if any.
    fn point(&self, target: &Path) -> PathBuf {
        let around = self.bound.iter().rev().find_map(|(outer, source)| {
            let rest = target.strip_prefix(outer).ok()?;
            Some(if rest.as_os_str().is_empty() { source.clone() } else { source.join(rest) })
        });
        around.unwrap_or_else(|| self.root.join(target.strip_prefix("/").unwrap_or(target)))
    }

    fn line(&mut self, source: &str, target: &str, kind: &str, options: &str) {
        let target = format!("{}{target}", self.root.display());
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{} {} {kind} {options} 0 0", escape(source), escape(&target));
    }
}

fn escape(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('#', "\\043")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_paths_have_their_place() {
        for (path, expected) in [
            ("/data", Some("/data")),
            ("/var/run/secrets/tokens/", Some("/run/secrets/tokens")),
            ("/etc/istio/proxy", Some("/etc/istio/proxy")),
            ("relative/x", Some("/relative/x")),
            ("/usr/share/nginx/html", Some("/usr/share/nginx/html")),
            ("/usr/lib/app", None),
            ("/bin", None),
            ("/etc", None),
            ("/", None),
            ("/a/../../b", None),
        ] {
            assert_eq!(place(path), expected.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn tables_are_escaped() {
        assert_eq!(escape("/a b\\c"), "/a\\040b\\134c");
    }
}
