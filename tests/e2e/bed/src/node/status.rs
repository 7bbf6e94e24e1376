//! From what the node knows of a Pod to the status that the API server shows.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    network::HOST_ADDRESS,
    state::{Activity, ContainerState, PodState, Role, Termination},
};

/// The Pod's status. Conditions that did not change keep their transition time from `previous`.
pub(super) fn compute(pod: &Pod, state: &PodState, previous: &[PodCondition], now: Timestamp) -> PodStatus {
    let phase = phase(pod, state);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let statuses = |containers: &[ContainerState]| -> Option<Vec<ContainerStatus>> {
        (!containers.is_empty())
            .then(|| containers.iter().map(|container| container_status(uid, container)).collect())
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        message: state.failure.clone(),
        host_ip: Some(HOST_ADDRESS.to_string()),
        host_ips: Some(vec![HostIP { ip: HOST_ADDRESS.to_string() }]),
        pod_ip: state.ip.map(|ip| ip.to_string()),
        pod_ips: state.ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(Time(state.since)),
        conditions: Some(conditions(pod, state, phase, previous, now)),
        init_container_statuses: statuses(&state.init),
        container_statuses: statuses(&state.main),
        ..PodStatus::default()
    }
}

/// The Pod's phase by the rules of the kubelet (`getPhase`): Pending until every container has started
/// once, then Running while one runs, be it a sidecar, or will be restarted.
pub(super) fn phase(pod: &Pod, state: &PodState) -> &'static str {
    if state.failure.is_some() {
        return "Failed";
    }
    if !initialized(state) {
        return "Pending";
    }
    let waiting_first = |container: &ContainerState| {
        matches!(container.activity, Activity::Waiting(..)) && container.last.is_none()
    };
    let ended = |container: &ContainerState| matches!(container.activity, Activity::Terminated(_));
    if state.main.iter().any(waiting_first) {
        return "Pending";
    }
    let sidecar_runs = state.init.iter().any(|c| c.role == Role::Sidecar && !ended(c));
    if !work_is_done(pod, state) || sidecar_runs {
        return "Running";
    }
    if state.main.iter().all(ContainerState::succeeded) { "Succeeded" } else { "Failed" }
}

/// Whether the Pod's containers have ended for good, its sidecars apart, which nothing needs any more then.
pub(super) fn work_is_done(pod: &Pod, state: &PodState) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let ended = |container: &ContainerState| matches!(container.activity, Activity::Terminated(_));
    if state.failure.is_some() {
        return true;
    }
    if state.main.is_empty() || !state.main.iter().all(ended) {
        return false;
    }
    let succeeded = state.main.iter().all(ContainerState::succeeded);
    match policy {
        "Always" => false,
        "Never" => true,
        _ => succeeded,
    }
}

/// Every init container has done its work: ended well, or, a sidecar, started.
pub(super) fn initialized(state: &PodState) -> bool {
    state.init.iter().all(|c| if c.role == Role::Sidecar { has_started(c) } else { c.succeeded() })
}

/// A sidecar has let the next container start; that it ended since does not undo it.
fn has_started(sidecar: &ContainerState) -> bool {
    sidecar.started || sidecar.last.is_some() || matches!(sidecar.activity, Activity::Terminated(_))
}

fn conditions(
    pod: &Pod,
    state: &PodState,
    phase: &str,
    previous: &[PodCondition],
    now: Timestamp,
) -> Vec<PodCondition> {
    let unready: Vec<&str> = state.lasting().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let done = matches!(phase, "Succeeded" | "Failed");
    let reason = match phase {
        "Succeeded" => Some(("PodCompleted".to_owned(), String::new())),
        "Failed" => Some(("PodFailed".to_owned(), String::new())),
        _ if unready.is_empty() => None,
        _ => Some(("ContainersNotReady".to_owned(), format!("containers with unready status: {unready:?}"))),
    };
    let containers_ready = unready.is_empty() && !done;
    let ready = containers_ready && gates_open(pod);
    let gate = (containers_ready && !ready).then(|| ("ReadinessGatesNotReady".to_owned(), String::new()));
    [
        ("PodReadyToStartContainers", state.ip.is_some() && !done, None),
        ("Initialized", initialized(state), None),
        ("ContainersReady", containers_ready, reason.clone()),
        ("Ready", ready, reason.or(gate)),
    ]
    .into_iter()
    .map(|(kind, holds, why)| condition(kind, holds, why, previous, now))
    .collect()
}

/// Whether all conditions that the Pod names as its readiness gates are true.
fn gates_open(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions: Vec<&PodCondition> =
        pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).collect();
    gates
        .map(|gate| gate.condition_type.as_str())
        .all(|kind| conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True"))
}

fn condition(
    kind: &str,
    holds: bool,
    why: Option<(String, String)>,
    previous: &[PodCondition],
    now: Timestamp,
) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let before = previous.iter().find(|condition| condition.type_ == kind && condition.status == status);
    let (reason, message) = why.filter(|_| !holds).unzip();
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message: message.filter(|text| !text.is_empty()),
        last_transition_time: before
            .and_then(|condition| condition.last_transition_time.clone())
            .or(Some(Time(now))),
        ..PodCondition::default()
    }
}

fn container_status(uid: &str, container: &ContainerState) -> ContainerStatus {
    let id = format!("bed://{uid}/{}/{}", container.name, container.restarts);
    let begun = !matches!(container.activity, Activity::Waiting(..)) || container.last.is_some();
    let state = match &container.activity {
        Activity::Waiting(reason, message) => ApiState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() }),
            ..ApiState::default()
        },
        Activity::Running(since) => ApiState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..ApiState::default()
        },
        Activity::Terminated(end) => terminated(end),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        image_id: if begun { container.image.clone() } else { String::new() },
        container_id: begun.then_some(id),
        state: Some(state),
        last_state: container.last.as_ref().map(terminated),
        restart_count: container.restarts,
        started: Some(container.started),
        ready: container.ready,
        ..ContainerStatus::default()
    }
}

fn terminated(end: &Termination) -> ApiState {
    ApiState {
        terminated: Some(ContainerStateTerminated {
            exit_code: end.exit_code,
            reason: Some(end.reason.to_owned()),
            message: end.message.clone(),
            started_at: Some(Time(end.started)),
            finished_at: Some(Time(end.finished)),
            ..ContainerStateTerminated::default()
        }),
        ..ApiState::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod(policy: &str) -> Pod {
        from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {
            "restartPolicy": policy,
            "initContainers": [
                {"name": "init", "image": "i"},
                {"name": "sidecar", "image": "proxyv2", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "app", "image": "a"}],
        }}))
        .unwrap()
    }

    fn waiting() -> Activity {
        Activity::Waiting("PodInitializing".to_owned(), None)
    }

    fn ended(exit_code: i32) -> Activity {
        let now = Timestamp::UNIX_EPOCH;
        Activity::Terminated(Termination {
            exit_code,
            reason: "Completed",
            message: None,
            started: now,
            finished: now,
        })
    }

    fn running() -> Activity {
        Activity::Running(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn phases() {
        let (none, up, down) = (waiting(), running(), ended(143));
        for (policy, init, sidecar, app, expected) in [
            ("Always", &none, &none, &none, "Pending"),
            ("Always", &ended(1), &none, &none, "Pending"),
            ("Always", &ended(0), &none, &none, "Pending"),
            ("Always", &ended(0), &up, &none, "Pending"),
            ("Always", &ended(0), &up, &up, "Running"),
            ("Always", &ended(0), &up, &ended(0), "Running"),
            ("OnFailure", &ended(0), &down, &ended(1), "Running"),
            ("OnFailure", &ended(0), &up, &ended(0), "Running"),
            ("OnFailure", &ended(0), &down, &ended(0), "Succeeded"),
            ("Never", &ended(0), &down, &ended(1), "Failed"),
        ] {
            let pod = pod(policy);
            let mut state = PodState::new(&pod);
            state.init[0].activity = init.clone();
            state.init[1].started = *sidecar == up;
            state.init[1].activity = sidecar.clone();
            state.main[0].activity = app.clone();
            assert_eq!(phase(&pod, &state), expected, "{policy} {init:?} {sidecar:?} {app:?}");
        }
    }

    #[test]
    fn readiness_needs_sidecars_and_keeps_its_time() {
        let pod = pod("Always");
        let mut state = PodState::new(&pod);
        state.init[0].activity = ended(0);
        state.init[1].started = true;
        state.main[0].activity = running();
        state.main[0].ready = true;
        let find = |status: &PodStatus, kind: &str| {
            status.conditions.iter().flatten().find(|c| c.type_ == kind).cloned().unwrap()
        };
        let early = Timestamp::UNIX_EPOCH;
        let status = compute(&pod, &state, &[], early);
        assert_eq!(find(&status, "Ready").status, "False");
        assert_eq!(find(&status, "Initialized").status, "True");

        state.init[1].ready = true;
        let later = Timestamp::from_second(9).unwrap();
        let previous = status.conditions.unwrap();
        let status = compute(&pod, &state, &previous, later);
        assert_eq!(find(&status, "Ready").status, "True");
        assert_eq!(find(&status, "Ready").last_transition_time, Some(Time(later)));
        assert_eq!(find(&status, "Initialized").last_transition_time, Some(Time(early)));
    }

    #[test]
    fn readiness_gates_hold_back_ready() {
        let mut pod = pod("Always");
        let gates = from_value(json!([{"conditionType": "example.com/gate"}])).unwrap();
        pod.spec.as_mut().unwrap().readiness_gates = gates;
        assert!(!gates_open(&pod));
        pod.status =
            from_value(json!({"conditions": [{"type": "example.com/gate", "status": "True"}]})).unwrap();
        assert!(gates_open(&pod));
    }
}
