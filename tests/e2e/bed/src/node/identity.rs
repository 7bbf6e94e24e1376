//! The user, groups and capabilities of a container, as arguments of `setpriv`.

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSecurityContext, SecurityContext};

use super::image::Program;

/// What container runtimes leave to a container that asks for nothing.
const DEFAULT: [&str; 14] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "net_raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// What may be added besides the default ones; others are left out, as `setpriv` refuses what it does not know.
const ADDABLE: [&str; 9] = [
    "dac_read_search",
    "ipc_lock",
    "net_admin",
    "net_broadcast",
    "sys_admin",
    "sys_nice",
    "sys_ptrace",
    "sys_resource",
    "sys_time",
];

/// User for a stand-in whose Pod demands one that is not root without saying which.
const NOBODY: i64 = 65534;

/// Who a container's processes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) is_root: bool,
    /// The arguments with which `setpriv` becomes the container's user.
    pub(super) setpriv: Vec<String>,
}

/// The container's user by its own security context, the Pod's, and its image.
pub(super) fn identity(pod: &Pod, container: &Container, program: Program) -> Identity {
    let empty = PodSecurityContext::default();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).unwrap_or(&empty);
    let none = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&none);

    let default = program.default_user();
    let non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    let fallback = if non_root && default.uid == 0 { NOBODY } else { default.uid };
    let uid = own.run_as_user.or(of_pod.run_as_user).unwrap_or(fallback);
    let gid = own.run_as_group.or(of_pod.run_as_group).unwrap_or(default.gid);
    let extra = of_pod.supplemental_groups.iter().flatten().copied().chain(of_pod.fs_group);
    let groups: Vec<String> = [gid].into_iter().chain(extra).map(|group| group.to_string()).collect();

    let mut args = vec![
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        format!("--groups={}", groups.join(",")),
        "--inh-caps=-all".to_owned(),
    ];
    if own.privileged != Some(true) {
        args.push(format!("--bounding-set={}", bounding_set(own.capabilities.as_ref())));
    }
    if own.allow_privilege_escalation == Some(false) {
        args.push("--no-new-privs".to_owned());
    }
    Identity { is_root: uid == 0, setpriv: args }
}

fn bounding_set(capabilities: Option<&Capabilities>) -> String {
    let names = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|name| normal(name)).collect()
    };
    let add = names(capabilities.and_then(|capabilities| capabilities.add.as_ref()));
    let drop = names(capabilities.and_then(|capabilities| capabilities.drop.as_ref()));
    let all = |list: &[String]| list.iter().any(|name| name == "all");
    let kept = DEFAULT.iter().filter(|name| !all(&drop) && !drop.iter().any(|dropped| dropped == *name));
    let known = DEFAULT.iter().chain(&ADDABLE);
    let added = known.filter(|name| all(&add) || add.iter().any(|added| added == *name));
    let mut set = vec!["-all".to_owned()];
    set.extend(kept.chain(added).map(|name| format!("+{name}")));
    set.sort();
    set.dedup();
    // "-all" comes first in the order of `setpriv`, which reads from left to right.
    set.sort_by_key(|name| name != "-all");
    set.join(",")
}

fn normal(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("cap_").map_or(name.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn args(pod: &Value, container: &Value, program: Program) -> String {
        let pod: Pod = from_value(json!({"spec": {"containers": [], "securityContext": pod}})).unwrap();
        let container: Container = from_value(json!({"name": "c", "securityContext": container})).unwrap();
        identity(&pod, &container, program).setpriv.join(" ")
    }

    #[test]
    fn users_and_groups() {
        for (pod, container, program, expected) in [
            (json!({}), json!({}), Program::StandIn, "--reuid=0 --regid=0 --groups=0 "),
            (json!({}), json!({}), Program::PilotAgent, "--reuid=1337 --regid=1337 --groups=1337 "),
            (
                json!({"runAsUser": 5, "runAsGroup": 6, "fsGroup": 7, "supplementalGroups": [8]}),
                json!({"runAsUser": 9}),
                Program::StandIn,
                "--reuid=9 --regid=6 --groups=6,8,7 ",
            ),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                Program::StandIn,
                "--reuid=65534 --regid=0 --groups=0 ",
            ),
        ] {
            let got = args(&pod, &container, program);
            assert!(got.starts_with(expected), "{pod} {container}: {got}");
        }
    }

    #[test]
    fn capabilities_are_what_is_asked_for() {
        for (capabilities, expected) in [
            (json!({"drop": ["ALL"]}), "-all"),
            (json!({"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]}), "-all,+net_admin,+net_raw"),
            (json!({"drop": ["ALL"], "add": ["NO_SUCH"]}), "-all"),
        ] {
            let capabilities: Capabilities = from_value(capabilities).unwrap();
            assert_eq!(bounding_set(Some(&capabilities)), expected);
        }
        assert!(!bounding_set(None).contains("net_admin"));
        assert!(bounding_set(None).starts_with("-all,+audit_write"));
    }
}
