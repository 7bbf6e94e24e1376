//! From a container's specification to its process.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Pod, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::process::{Child, Command};

use super::{
    context::PodContext,
    environment::{Environment, environment},
    expansion::expand,
    identity::{Identity, identity},
    image::Program,
    network::Namespace,
    rootfs::{self, Rootfs, View},
};

/// Mounts the container's file system and becomes its process: one process from the first to the last, so
/// that its signals and exit code are the container's.
///
/// `pivot_root . .` stacks the old root on the new one, and `umount` lets go of it: so whoever enters the mount
/// namespace has the container's root.
const ENTER: &str = r#"/usr/bin/mount --all --fstab "$1" && cd "$2" && access=$3 && shift 3 &&
    /usr/sbin/pivot_root . . && /usr/bin/umount --lazy . && cd / && unset OLDPWD PWD &&
    { [ "$access" = rw ] || /usr/bin/mount -o remount,bind,ro /; } && exec "$@""#;

/// A running container.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    /// The container's first process, and the process group of all of them.
    pub(super) pid: i32,
    /// How to run more programs in the container.
    pub(super) entry: Entry,
    /// Tells others the first process's id while it runs.
    pub(super) pid_file: PathBuf,
}

/// What programs need that are run in a container later: probes and hooks.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pid: i32,
    identity: Identity,
    values: Environment,
}

/// Starts a container's process. Its output goes to `<container>.log` in the Pod's directory.
///
/// # Errors
/// When its configuration cannot be resolved or the process not be started.
pub(super) async fn start(context: &PodContext, container: &Container, program: Program) -> Result<Process> {
    let pod = context.pod();
    let values = environment(context, container, program).await?;
    let identity = identity(&pod, container, program);
    let users = context.namespace.as_ref().filter(|_| !identity.is_root).and_then(Namespace::users);
    let view = View { pod: &pod, container, program, values: &values, users };
    let Rootfs { root, table } = rootfs::lay_out(context, &view)?;
    let (out, err) = log_file(&context.dir, &container.name)?;

    let mut command = enter_network(context);
    command.args(["/usr/bin/unshare", "--mount", "--propagation=slave", "/bin/sh", "-c", ENTER, "container"]);
    let security = container.security_context.as_ref();
    let read_only = security.and_then(|security| security.read_only_root_filesystem) == Some(true);
    command.arg(&table).arg(&root).arg(if read_only { "ro" } else { "rw" });
    if users.is_some() {
        command.args(["/usr/bin/nsenter", &format!("--user={}", rootfs::USERS), "--"]);
    }
    command.arg("/usr/bin/setpriv").args(&identity.setpriv).arg("--");
    if let Some(directory) = container.working_dir.as_deref().filter(|path| !path.is_empty()) {
        let inside = root.join(directory.trim_start_matches('/'));
        fs::create_dir_all(&inside).ok();
        command.arg("/usr/bin/env").arg(format!("--chdir={directory}"));
    }
    command.args(arguments(container, program, &values));
    command.env_clear().envs(&values).current_dir("/");
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).kill_on_drop(true);
    let child = command.spawn().context("start the container's process")?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("the process ended at once")?;
    let pid_file = context.dir.join(format!("{}.pid", container.name));
    fs::write(&pid_file, pid.to_string())?;
    let entry = Entry { pid, identity, values };
    entry.wait_until_inside(&root).await;
    Ok(Process { child, pid, entry, pid_file })
}

/// A command line that begins with entering the Pod's network namespace.
fn enter_network(context: &PodContext) -> Command {
    let Some(namespace) = &context.namespace else {
        return Command::new("/usr/bin/env");
    };
    let mut command = Command::new("/usr/bin/nsenter");
    command.arg(format!("--net={}", namespace.path().display())).arg("--");
    command
}

/// The log must be writable for whoever reopens it by `/dev/stdout` under the container's user.
fn log_file(directory: &Path, container: &str) -> Result<(File, File)> {
    let path = directory.join(format!("{container}.log"));
    let file =
        OpenOptions::new().create(true).append(true).open(&path).context("open the container's log")?;
    file.set_permissions(Permissions::from_mode(0o666))?;
    Ok((file.try_clone()?, file))
}

/// The program and its arguments.
fn arguments(container: &Container, program: Program, values: &Environment) -> Vec<String> {
    let expanded = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|text| expand(text, values)).collect()
    };
    let command = expanded(container.command.as_ref());
    let own = expanded(container.args.as_ref());
    if program == Program::StandIn {
        return [serve(container), probed_ports(container)].concat();
    }
    if !command.is_empty() {
        return [command, own].concat();
    }
    if program == Program::BedApp {
        return [serve(container), own].concat();
    }
    [vec![program.entrypoint().to_owned()], own].concat()
}

/// The stand-in application, listening on every TCP port that the container declares.
fn serve(container: &Container) -> Vec<String> {
    let mut args: Vec<String> =
        ["/usr/local/bin/bed", "app", "serve", "--name", &container.name].map(str::to_owned).into();
    let tcp = |port: &&ContainerPort| matches!(port.protocol.as_deref(), None | Some("TCP"));
    for port in container.ports.iter().flatten().filter(tcp) {
        let name = port.name.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        args.extend(["--port".to_owned(), format!("{}{name}", port.container_port)]);
    }
    args
}

/// Ports that only the container's probes name: images often listen where their manifests do not say so.
fn probed_ports(container: &Container) -> Vec<String> {
    let mut ports: Vec<i32> = probes(container).filter_map(probed_port).collect();
    ports.retain(|port| !container.ports.iter().flatten().any(|declared| declared.container_port == *port));
    // Injection points probes at the sidecar, whose ports these are.
    ports.retain(|port| !(15000..15100).contains(port));
    ports.sort_unstable();
    ports.dedup();
    ports.into_iter().flat_map(|port| ["--port".to_owned(), port.to_string()]).collect()
}

fn probes(container: &Container) -> impl Iterator<Item = &Probe> {
    [&container.startup_probe, &container.readiness_probe, &container.liveness_probe].into_iter().flatten()
}

fn probed_port(probe: &Probe) -> Option<i32> {
    let http = probe.http_get.as_ref().map(|action| &action.port);
    let tcp = probe.tcp_socket.as_ref().map(|action| &action.port);
    match http.or(tcp) {
        Some(IntOrString::Int(port)) => Some(*port),
        Some(IntOrString::String(text)) => text.parse().ok(),
        None => probe.grpc.as_ref().map(|action| action.port),
    }
}

/// Whether the stand-in for this container has nothing to do and ends well at once: an init container's
/// work, or a Job's.
pub(super) fn ends_at_once(pod: &Pod, container: &Container, program: Program, init: bool) -> bool {
    let stand_in = program == Program::StandIn || (program == Program::BedApp && container.command.is_none());
    let owners = pod.metadata.owner_references.iter().flatten();
    stand_in && (init || (program == Program::StandIn && owners.into_iter().any(|owner| owner.kind == "Job")))
}

impl Entry {
    /// A command in the container: its namespaces, file system, user and environment.
    pub(super) fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--target={}", self.pid)).args(["--net", "--mount", "--root", "--"]);
        command.arg("/usr/bin/setpriv").args(&self.identity.setpriv).arg("--").args(arguments);
        command.env_clear().envs(&self.values);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Returns when the process has its own root directory, or has ended: before, a command would run
    /// outside.
    async fn wait_until_inside(&self, root: &Path) {
        let link = format!("/proc/{}/root/.", self.pid);
        let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let wanted = identity(root);
        while identity(Path::new(&link)).is_some_and(|seen| Some(seen) != wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn container(extra: &Value) -> Container {
        let mut value = json!({"name": "c"});
        for (key, field) in extra.as_object().unwrap() {
            value[key] = field.clone();
        }
        from_value(value).unwrap()
    }

    #[test]
    fn commands() {
        let values = Environment::from([("X".to_owned(), "1".to_owned())]);
        let serve = "/usr/local/bin/bed app serve --name c";
        let ports = json!([
            {"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 81}
        ]);
        for (program, extra, expected) in [
            (Program::PilotAgent, json!({"args": ["proxy", "$(X)"]}), "/usr/local/bin/pilot-agent proxy 1"),
            (Program::Palisade, json!({"command": ["palisade"], "args": ["run"]}), "palisade run"),
            (Program::StandIn, json!({"command": ["sh"], "args": ["-c"]}), serve),
            (Program::BedApp, json!({"args": ["--x"]}), &format!("{serve} --x")),
            (Program::BedApp, json!({"command": ["bed", "app", "call"], "args": ["u"]}), "bed app call u"),
            (Program::StandIn, json!({"ports": ports}), &format!("{serve} --port 80/http --port 81")),
            (
                Program::StandIn,
                json!({"readinessProbe": {"httpGet": {"port": 8080}}, "livenessProbe": {"httpGet": {"port": 15020}}}),
                &format!("{serve} --port 8080"),
            ),
        ] {
            assert_eq!(arguments(&container(&extra), program, &values).join(" "), expected, "{program:?}");
        }
    }

    #[test]
    fn only_work_without_an_end_is_skipped() {
        let job: Pod =
            from_value(json!({"metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"}]}}))
                .unwrap();
        let plain = Pod::default();
        let bare = container(&json!({}));
        let own = container(&json!({"command": ["bed"]}));
        for (pod, container, program, init, expected) in [
            (&plain, &bare, Program::StandIn, true, true),
            (&plain, &bare, Program::StandIn, false, false),
            (&job, &bare, Program::StandIn, false, true),
            (&job, &own, Program::BedApp, false, false),
            (&plain, &own, Program::BedApp, true, false),
            (&plain, &bare, Program::PilotAgent, true, false),
        ] {
            assert_eq!(ends_at_once(pod, container, program, init), expected, "{program:?} {init}");
        }
    }
}
