use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The label by which a pod names its workload itself.
const WORKLOAD_NAME: &str = "service.istio.io/workload-name";

/// The name of a pod's workload: what Istio's metrics have as `source_workload`.
///
/// Istio's injector derives it from the pod alone (`GetWorkloadMetaFromPod` in pkg/kube/util.go, 1.31), with these
/// rules: a name that the pod's label gives; else, for a pod with a generated name, that of its controller, where a
/// `ReplicaSet` stands for its Deployment (or Argo's Rollout), a `ReplicationController` for its `DeploymentConfig`,
/// and a Job with a time in its name for its `CronJob`; else the pod's own name.
#[must_use]
pub fn workload_name(pod: &ObjectMeta) -> String {
    let label = |name: &str| pod.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    if let Some(name) = label(WORKLOAD_NAME) {
        return name.to_owned();
    }
    let generated = pod.generate_name.as_deref().is_some_and(|prefix| !prefix.is_empty());
    let mut owners = pod.owner_references.iter().flatten();
    let Some(owner) = owners.find(|owner| owner.controller == Some(true)).filter(|_| generated) else {
        return own_name(pod);
    };
    let name = match owner.kind.as_str() {
        "ReplicaSet" => ["pod-template-hash", "rollouts-pod-template-hash"]
            .into_iter()
            .find_map(|hash| without_hash(&owner.name, label(hash)?)),
        "ReplicationController" => label("deploymentconfig"),
        "Job" => without_time(&owner.name),
        _ => None,
    };
    Some(name.unwrap_or(&owner.name))
        .filter(|name| !name.is_empty())
        .map_or_else(|| own_name(pod), str::to_owned)
}

fn own_name(pod: &ObjectMeta) -> String {
    pod.name.clone().unwrap_or_default()
}

fn without_hash<'a>(name: &'a str, hash: &str) -> Option<&'a str> {
    name.strip_suffix(hash)?.strip_suffix('-').filter(|_| !hash.is_empty())
}

/// `name-<time>`, where the time has 8 to 10 digits: how a `CronJob` names its Jobs.
fn without_time(name: &str) -> Option<&str> {
    let (rest, time) = name.rsplit_once('-')?;
    let is_time = (8..=10).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
    Some(rest).filter(|rest| is_time && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(labels: &[(&str, &str)], owner: Option<(&str, &str)>, generated: bool) -> String {
        let owners = owner.map(|(kind, name)| {
            json!([
                { "apiVersion": "v1", "kind": "Other", "name": "not-the-controller", "uid": "1" },
                { "apiVersion": "v1", "kind": kind, "name": name, "uid": "2", "controller": true },
            ])
        });
        let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
        let generate = if generated { "some-" } else { "" };
        let meta =
            json!({ "name": "pod-x", "generateName": generate, "labels": labels, "ownerReferences": owners });
        workload_name(&serde_json::from_value(meta).unwrap())
    }

    #[test]
    fn a_workload_is_named_as_istios_injector_names_it() {
        let hash: &[(&str, &str)] = &[("pod-template-hash", "5d8f")];
        let cases = [
            ("a Deployment", name(hash, Some(("ReplicaSet", "web-v1-5d8f")), true), "web-v1"),
            ("a bare ReplicaSet", name(&[], Some(("ReplicaSet", "web-5d8f")), true), "web-5d8f"),
            ("a hash of another", name(hash, Some(("ReplicaSet", "web-1111")), true), "web-1111"),
            (
                "a Rollout",
                name(&[("rollouts-pod-template-hash", "77")], Some(("ReplicaSet", "web-77")), true),
                "web",
            ),
            ("a StatefulSet", name(&[], Some(("StatefulSet", "db")), true), "db"),
            ("a DaemonSet", name(hash, Some(("DaemonSet", "agent-5d8f")), true), "agent-5d8f"),
            (
                "a DeploymentConfig",
                name(&[("deploymentconfig", "dc")], Some(("ReplicationController", "dc-1")), true),
                "dc",
            ),
            ("a CronJob", name(&[], Some(("Job", "nightly-29123456")), true), "nightly"),
            ("a Job", name(&[], Some(("Job", "once-1234567")), true), "once-1234567"),
            ("a pod of its own", name(&[], None, false), "pod-x"),
            ("a pod that only has a generated name", name(hash, None, true), "pod-x"),
            ("a name that was not generated", name(hash, Some(("ReplicaSet", "web-5d8f")), false), "pod-x"),
            (
                "a name of the user's",
                name(&[("service.istio.io/workload-name", "mine")], Some(("StatefulSet", "db")), true),
                "mine",
            ),
        ];
        for (what, name, expected) in cases {
            assert_eq!(name, expected, "{what}");
        }
    }
}
