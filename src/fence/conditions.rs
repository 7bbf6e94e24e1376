use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use crate::api::{
    DEGRADED, Dependency, DependencySource, LEARNING, ServiceFence, Statement, Transition, reasons,
};
use crate::graph::FenceFacts;

/// A condition of a fence as it stands.
pub(super) fn find<'a>(fence: &'a ServiceFence, condition: &str) -> Option<&'a Condition> {
    fence.status.as_ref()?.conditions.iter().find(|old| old.type_ == condition)
}

/// Whether calls of the workload were seen, and by whom: by what the status says of its `domains`, so that it changes
/// with them and a restart forgets none of it.
pub(super) fn learning(facts: Option<&FenceFacts>, domains: &BTreeMap<String, Dependency>) -> Statement {
    let seen = |source: DependencySource| domains.values().any(|domain| domain.sources.contains(&source));
    let told: Vec<_> = DependencySource::LEARNED.into_iter().filter(|source| seen(*source)).collect();
    let direct = told.iter().any(|source| source.sees_direct_calls());
    let retention = facts.map(|facts| facts.learning.retention).filter(|_| direct);
    let names: Vec<_> = told.iter().map(|source| format!("{source:?}")).collect();
    let (reason, message) = match retention {
        _ if told.is_empty() => (reasons::NO_CALLS_SEEN, "no call of the workload was seen yet".to_owned()),
        Some(retention) if retention.duration().is_some() => {
            let message =
                format!("calls are seen by {}; a host unused for {retention} leaves", names.join(", "));
            (reasons::CALLS_SEEN, message)
        }
        _ => (reasons::CALLS_SEEN, format!("calls are seen by {}; no host leaves", names.join(", "))),
    };
    Statement { condition: LEARNING, holds: Some(!told.is_empty()), reason, message }
}

/// Whether something is left out that the workload uses; `left_out` hosts are, of those that are declared.
pub(super) fn degraded(fence: &ServiceFence, facts: Option<&FenceFacts>, left_out: usize) -> Statement {
    let (holds, reason, message) = match facts {
        Some(facts) if facts.is_full() => {
            let message = format!(
                "{} hosts may be learned, and no more; calls to further ones go through the global proxy",
                facts.learning.max_hosts
            );
            (true, reasons::HOST_LIMIT, message)
        }
        Some(facts) => match refusal(fence, facts) {
            Some(message) => (true, reasons::NAMESPACE_NOT_ALLOWED, message),
            None if left_out > 0 => {
                let message = format!(
                    "policies, routes, rules, filters and entries declare {left_out} hosts more than may be listed: first calls to \
                     those meet what is declared as the global proxy's, and hosts that istiod alone resolves have no address, unless spec.host lists them"
                );
                (true, reasons::DECLARED_LIMIT, message)
            }
            None => as_expected(),
        },
        None => as_expected(),
    };
    Statement { condition: DEGRADED, holds: Some(holds), reason, message }
}

fn as_expected() -> (bool, &'static str, String) {
    (false, reasons::AS_EXPECTED, "nothing is left out".to_owned())
}

/// What was refused for its namespace. Once told it stays as it is told, also after a restart, until the spec
/// changes or every namespace is allowed.
fn refusal(fence: &ServiceFence, facts: &FenceFacts) -> Option<String> {
    if facts.learning.namespaces.is_empty() {
        return None;
    }
    let told = find(fence, DEGRADED).filter(|old| {
        old.reason == reasons::NAMESPACE_NOT_ALLOWED && old.observed_generation == fence.meta().generation
    });
    let seen = facts.refused.as_ref().map(|host| {
        format!("hosts of some namespaces that are called may not be learned, {host} first; they stay on the global proxy")
    });
    told.map(|old| old.message.clone()).or(seen)
}

/// What a condition that starts or ceases to hold means for somebody who watches the fence's Events.
pub(super) fn transition(fence: &ServiceFence, statement: &Statement) -> Option<Transition> {
    let held = find(fence, statement.condition).is_some_and(|old| old.status == "True");
    let holds = statement.holds == Some(true);
    (held != holds).then(|| Transition {
        reason: statement.reason,
        message: statement.message.clone(),
        warning: holds,
    })
}
