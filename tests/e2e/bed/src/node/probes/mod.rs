//! Start-up, readiness and liveness probes, made from the node's network as a kubelet makes them.

mod action;
mod grpc;
mod http;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

pub(super) use self::action::{Target, exec, http_get};
use super::state::{Board, Slot};

/// Two cores stand for a whole cluster here: what takes a second on a busy bed is not dead.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a container was ready once it is asked this often, so that start-up is not rounded up to its period.
const EAGER: Duration = Duration::from_secs(1);

/// Probes a container that has just started and keeps its `started` and `ready` up to date.
///
/// Returns only when the container must be restarted, with the reason.
pub(super) async fn watch(target: &Target<'_>, container: &Container, board: &Board, slot: Slot) -> String {
    if let Some(probe) = &container.startup_probe
        && let Err(reason) = startup(target, probe).await
    {
        return format!("Startup probe failed: {reason}");
    }
    board.update(slot, |state| state.started = true);
    tokio::select! {
        never = readiness(target, container.readiness_probe.as_ref(), board, slot) => match never {},
        reason = liveness(target, container.liveness_probe.as_ref()) => format!("Liveness probe failed: {reason}"),
    }
}

async fn startup(target: &Target<'_>, probe: &Probe) -> Result<(), String> {
    let mut score = Score::new(probe);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        let outcome = target.probe(probe, timeout(probe)).await;
        let failure = outcome.as_ref().err().cloned();
        match score.count(outcome.is_ok()) {
            Some(true) => return Ok(()),
            Some(false) => return Err(failure.unwrap_or_default()),
            None => tokio::time::sleep(seconds(probe.period_seconds, 10)).await,
        }
    }
}

async fn readiness(
    target: &Target<'_>,
    probe: Option<&Probe>,
    board: &Board,
    slot: Slot,
) -> std::convert::Infallible {
    let Some(probe) = probe else {
        board.update(slot, |state| state.ready = true);
        return std::future::pending().await;
    };
    let period = seconds(probe.period_seconds, 10);
    let mut pause = period.min(EAGER);
    let mut score = Score::new(probe);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        let outcome = target.probe(probe, timeout(probe)).await;
        if let Err(reason) = &outcome {
            tracing::debug!(pod = target.label, reason, "readiness probe failed");
        }
        if let Some(ready) = score.count(outcome.is_ok()) {
            board.update(slot, |state| state.ready = ready);
            if ready {
                pause = period;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn liveness(target: &Target<'_>, probe: Option<&Probe>) -> String {
    let Some(probe) = probe else { return std::future::pending().await };
    let mut score = Score::new(probe);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        let outcome = target.probe(probe, timeout(probe)).await;
        let failure = outcome.as_ref().err().cloned();
        if score.count(outcome.is_ok()) == Some(false) {
            return failure.unwrap_or_default();
        }
        tokio::time::sleep(seconds(probe.period_seconds, 10)).await;
    }
}

fn timeout(probe: &Probe) -> Duration {
    seconds(probe.timeout_seconds, 1).max(SHORTEST_TIMEOUT)
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

/// Counts outcomes against a probe's thresholds.
#[derive(Debug)]
struct Score {
    successes_needed: i32,
    failures_needed: i32,
    successes: i32,
    failures: i32,
}

impl Score {
    fn new(probe: &Probe) -> Self {
        Self {
            successes_needed: probe.success_threshold.unwrap_or(1).max(1),
            failures_needed: probe.failure_threshold.unwrap_or(3).max(1),
            successes: 0,
            failures: 0,
        }
    }

    /// Counts one outcome; tells the verdict when a threshold is reached that speaks, or speaks again.
    fn count(&mut self, success: bool) -> Option<bool> {
        if success {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            (self.successes >= self.successes_needed).then_some(true)
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            (self.failures >= self.failures_needed).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_counted_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut score = Score::new(&probe);
        let outcomes = [true, false, true, true, false, false, true, false, false, false, true];
        let verdicts: Vec<Option<bool>> = outcomes.into_iter().map(|outcome| score.count(outcome)).collect();
        let expected = [None, None, None, Some(true), None, None, None, None, None, Some(false), None];
        assert_eq!(verdicts, expected);
    }
}
