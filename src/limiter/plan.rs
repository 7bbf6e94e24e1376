use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::envoy_filter::patches;
use super::global::{Global, RateLimitService};
use super::inputs::{Inputs, material};
use super::known::{Known, choose};
use super::limit::{Limit, Rule, custom, pods_of};
use super::metric::Metric;
use super::programmed::{Proxies, Verdict};
use super::ratio::Ratio;
use super::refusal::Refusal;
use super::rejection::Rejection;
use super::status::{Report, in_force};
use super::strategy::Kind;
use super::target::Listeners;
use crate::api::{Descriptor, LimiterSet, SmartLimiter, SmartLimiterSpec, reasons};
use crate::fence::{MANAGED_BY, MANAGER};
use crate::graph::{Graph, Labels, Limiter, ObjectKey};
use crate::istio::{ANALYZE_SUPPRESS, EnvoyFilter, EnvoyFilterSpec, REVISION, WorkloadSelector, revision};

/// The subset of all pods.
const BASE: &str = "_base";
/// What `istioctl analyze` says of every `EnvoyFilter`: that it depends on Envoy's inner workings.
const INTERNAL: &str = "IST0133";
/// When the limits of all pods are applied: after what has no priority. Those of subsets come one later.
const PRIORITY: i32 = 10;

/// How many headers Envoy's filters add at most.
const MAX_HEADERS: usize = 10;

/// What is decided upon.
#[derive(Debug)]
pub struct Input<'a> {
    /// The limiter.
    pub limiter: &'a SmartLimiter,
    /// The `EnvoyFilter`s that were written for it, as they stand.
    pub filters: &'a [Arc<EnvoyFilter>],
    /// What is known of the mesh.
    pub graph: &'a Graph,
    /// What is known of the metrics that its expressions name.
    pub metrics: Known<'a>,
    /// What counts for limits that all pods share; none if there is no such service.
    pub service: Option<&'a RateLimitService>,
    /// What is known of the proxies; none if nobody asks.
    pub proxies: Option<Proxies<'a>>,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Plan {
    /// The `EnvoyFilter`s to apply, each by force if it is the limiter's already: what others changed in it is drift.
    pub apply: Vec<(EnvoyFilter, bool)>,
    /// Those to delete.
    pub delete: Vec<Arc<EnvoyFilter>>,
    /// What the status will say.
    pub report: Report,
    /// The metrics that its expressions name: what is to be asked.
    pub metrics: BTreeSet<Metric>,
    /// Since when metrics have said otherwise than the condition of a limit does, by the limit.
    pub differing: BTreeMap<String, Timestamp>,
    /// Whether nothing of it is to be written yet: a limit that is new is about to be known.
    pub hold: bool,
    /// When something else may be decided, even if nothing changes.
    pub wake: Option<Timestamp>,
    /// The pods whose proxies have limits that are in force.
    pub(super) pods: BTreeSet<ObjectKey>,
    /// Whether they have taken what is in force already, if anybody asks.
    pub programmed: Option<Verdict>,
}

/// Whether an `EnvoyFilter` was written for this limiter.
#[must_use]
pub fn is_of(filter: &EnvoyFilter, limiter: &SmartLimiter) -> bool {
    let owners = filter.owner_references();
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == limiter.meta().uid.as_ref())
}

/// Decides what a limiter comes to.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    match base(input) {
        Ok(labels) => {
            let (sets, mut names) = (&input.limiter.spec.sets, BTreeSet::new());
            let base =
                sets.get(BASE).map(|set| add_set(input, &labels, (BASE, set), &[], &mut names, &mut plan));
            let base = base.unwrap_or_default();
            for (subset, set) in sets.iter().filter(|(subset, _)| *subset != BASE) {
                add_set(input, &labels, (subset, set), &base, &mut names, &mut plan);
            }
        }
        Err(refusal) => plan.report.refuse(refusal),
    }
    let wanted: BTreeSet<_> =
        input.limiter.spec.sets.keys().map(|subset| name(input.limiter, subset)).collect();
    let surplus = |filter: &&Arc<EnvoyFilter>| {
        let name = filter.name_any();
        !wanted.contains(&name) || plan.report.is_empty_of(input.limiter, &name)
    };
    plan.delete = input.filters.iter().filter(surplus).cloned().collect();
    let judge = |proxies: Proxies<'_>| proxies.judge(&plan.pods, input.graph.pushes(), input.metrics.now);
    plan.programmed = input.proxies.map(judge);
    plan
}

/// What the graph needs to know of a limiter.
#[must_use]
pub fn facts(limiter: &SmartLimiter) -> Limiter {
    let spec = &limiter.spec;
    let host = spec.host.as_deref().filter(|host| !host.is_empty());
    Limiter {
        key: ObjectKey::of(limiter),
        selector: Labels::from(&spec.workload_selector),
        host: host.map(Into::into),
        revision: revision(limiter),
    }
}

/// The labels of all pods of the limiter.
fn base(input: &Input<'_>) -> Result<Labels, Refusal> {
    let limiter = facts(input.limiter);
    let what = match &limiter.host {
        Some(host) => format!("Service or ServiceEntry of the limiter's namespace with the host {host}"),
        None => "Service of the limiter's name".to_owned(),
    };
    let refusal =
        |reason, why: String| Err(Refusal::new(reason, format!("{why}: name labels in workloadSelector")));
    match input.graph.limited(&limiter) {
        None => refusal(reasons::SERVICE_NOT_FOUND, format!("there is no {what}")),
        Some(labels) if labels.is_empty() => {
            refusal(reasons::SERVICE_WITHOUT_SELECTOR, format!("the {what} has no selector"))
        }
        Some(labels) => Ok(labels.clone()),
    }
}

/// Adds the limits of a subset, whose pods have those of all pods too, and gives them.
fn add_set(
    input: &Input<'_>,
    base: &Labels,
    (subset, set): (&str, &LimiterSet),
    of_all: &[Limit],
    names: &mut BTreeSet<(String, String)>,
    plan: &mut Plan,
) -> Vec<Limit> {
    let labels = match labels_of(input, base, subset) {
        Ok(labels) => labels,
        Err(refusal) => {
            plan.report.refuse(refusal);
            return Vec::new();
        }
    };
    let limits = limits(input, base, (subset, set), names, plan);
    if !limits.is_empty() {
        let all: Vec<_> = of_all.iter().chain(&limits).cloned().collect();
        if all.iter().map(|limit| limit.headers.len()).sum::<usize>() > MAX_HEADERS {
            let message =
                format!("sets.{subset}: the limits have more than {MAX_HEADERS} headers_to_add together");
            plan.report.leave_out_set(subset, Refusal::invalid(message));
        } else {
            apply(input, (subset, &labels), build(input, subset, &labels, &all), plan);
        }
    }
    limits
}

/// The limits of a subset. One that cannot be is told, and leaves the others in force.
fn limits(
    input: &Input<'_>,
    base: &Labels,
    (subset, set): (&str, &LimiterSet),
    names: &mut BTreeSet<(String, String)>,
    plan: &mut Plan,
) -> Vec<Limit> {
    let (mut limits, mut alone) = (Vec::new(), BTreeSet::new());
    for (number, descriptor) in set.descriptor.iter().enumerate() {
        let limit = unique(descriptor, names)
            .and_then(|()| add_limit(input, base, (subset, number), descriptor, &mut alone, plan));
        match limit {
            Ok(Some(limit)) => {
                plan.report.in_force(subset, in_force(descriptor, &limit));
                limits.push(limit);
            }
            Ok(None) => {}
            Err(refusal) => plan.report.refuse(refusal.about(&format!("{subset}/{number}"))),
        }
    }
    limits
}

fn apply(input: &Input<'_>, (subset, labels): (&str, &Labels), filter: EnvoyFilter, plan: &mut Plan) {
    if is_too_large(&filter) {
        let message = format!("sets.{subset}: the limits are too many for one EnvoyFilter");
        return plan.report.leave_out_set(subset, Refusal::invalid(message));
    }
    let namespace = ObjectKey::of(input.limiter).namespace;
    plan.pods.extend(input.graph.proxied_pods(&namespace, labels).cloned());
    let stands = input.filters.iter().find(|stands| stands.name_any() == filter.name_any());
    if stands.is_none_or(|stands| !is_as(stands, &filter)) {
        plan.apply.push((filter, stands.is_some()));
    }
}

/// The labels of a subset's pods.
pub(super) fn labels_of(input: &Input<'_>, base: &Labels, subset: &str) -> Result<Labels, Refusal> {
    if subset == BASE {
        return Ok(base.clone());
    }
    let refusal = |what: &str| Refusal::new(reasons::SUBSET_NOT_FOUND, format!("sets.{subset}: {what}"));
    let found = input.graph.subset(&facts(input.limiter), subset);
    let found = found
        .ok_or_else(|| refusal("no DestinationRule of the namespace has such a subset of the Service"))?;
    if found.iter().any(|(key, value)| base.get(key).is_some_and(|other| other != value)) {
        return Err(refusal(
            "the subset's labels are other ones than those that all pods of the limiter have",
        ));
    }
    let mut both = base.to_map();
    both.extend(found.to_map());
    Ok(Labels::from(both))
}

/// Names that a user gives must differ within a limiter.
fn unique(descriptor: &Descriptor, names: &mut BTreeSet<(String, String)>) -> Result<(), Refusal> {
    let Some(custom) = custom(&descriptor.custom_key, &descriptor.custom_value) else { return Ok(()) };
    let plain = |text: &str| !text.contains('%') && !text.chars().any(char::is_control);
    if !plain(&custom.0) || !plain(&custom.1) {
        return Err(Refusal::invalid(
            "custom_key and custom_value must not have percent signs or control characters",
        ));
    }
    if names.contains(&custom) {
        let message = format!("another descriptor has custom_key {} and custom_value {}", custom.0, custom.1);
        return Err(Refusal::new(reasons::DUPLICATE_NAME, message));
    }
    names.insert(custom);
    Ok(())
}

fn add_limit(
    input: &Input<'_>,
    base: &Labels,
    (subset, number): (&str, usize),
    descriptor: &Descriptor,
    alone: &mut BTreeSet<(Kind, Listeners)>,
    plan: &mut Plan,
) -> Result<Option<Limit>, Refusal> {
    let spec = &input.limiter.spec;
    let rule = Rule::of(descriptor, spec.target.as_ref(), spec.gateway)?;
    if rule.is_global() && input.service.is_none() {
        let message = "action.strategy global needs the rate limit service: limiter.global.enabled in the chart's values";
        return Err(Refusal::new(reasons::NO_RATE_LIMIT_SERVICE, message));
    }
    let key = ObjectKey::of(input.limiter);
    let mut pods = BTreeMap::new();
    for name in rule.pods(subset) {
        let of = name.strip_suffix(".pod").unwrap_or_default();
        let ready = input.graph.ready_pods(&key.namespace, &labels_of(input, base, of)?).max(1);
        plan.report.computed_from(pods_of(of), ready.to_string());
        pods.insert(name, Ratio::of(i64::try_from(ready).unwrap_or(i64::MAX)));
    }
    let quota = match choose(input, base, &rule, &pods, (subset, number), plan)? {
        Inputs::Metrics(metrics) => rule.outcome(subset, &material(&pods, &metrics.values))?,
        Inputs::Fallback => rule.outcome_without(subset, &pods)?,
        Inputs::NoLimit | Inputs::Awaited => None,
    };
    match rule.alone().filter(|_| quota.is_some()) {
        Some(place) if !alone.insert(place) => {
            Err(Refusal::invalid("another descriptor has this action.strategy for the same port"))
        }
        _ => quota.map(|quota| rule.limit(format!("{key}/{subset}/{number}"), quota)).transpose(),
    }
}

/// The names of the `EnvoyFilter`s that a limiter may have by its spec.
pub fn filter_names(limiter: &SmartLimiter) -> impl Iterator<Item = String> {
    limiter.spec.sets.keys().map(|subset| name(limiter, subset))
}

/// The name of a subset's `EnvoyFilter`: Slime's, so that the one that it left is taken over.
pub(super) fn name(limiter: &SmartLimiter, subset: &str) -> String {
    let key = ObjectKey::of(limiter);
    let subset = if subset == BASE { String::new() } else { format!(".{subset}") };
    format!("{}.{}{subset}.ratelimit", key.name, key.namespace)
}

fn build(input: &Input<'_>, subset: &str, labels: &Labels, limits: &[Limit]) -> EnvoyFilter {
    let limiter = input.limiter;
    let global = input.service.map(|service| Global { service, denies: limiter.spec.failure_mode_deny });
    let key = ObjectKey::of(limiter);
    let SmartLimiterSpec { rejection_status: status, rejection_body: body, .. } = &limiter.spec;
    let rejection = Rejection { status: *status, body: body.as_ref() };
    let base = (subset != BASE).then(|| format!("{key}/{BASE}"));
    let spec = EnvoyFilterSpec {
        workload_selector: Some(WorkloadSelector { labels: labels.to_map() }),
        target_refs: Vec::new(),
        priority: Some(PRIORITY + i32::from(base.is_some())),
        config_patches: patches(&format!("{key}/{subset}"), base.as_deref(), limits, global, rejection),
    };
    let mut filter = EnvoyFilter::new(&name(limiter, subset), spec);
    filter.metadata.namespace = limiter.namespace();
    let label = revision(limiter);
    let revision = input.graph.revision(label.as_deref());
    let revision = revision.map(|revision| (REVISION.to_owned(), revision.to_owned()));
    let labels = revision.into_iter().chain([(MANAGED_BY.to_owned(), MANAGER.to_owned())]);
    filter.metadata.labels = Some(labels.collect());
    let silent = [(ANALYZE_SUPPRESS.to_owned(), INTERNAL.to_owned())];
    filter.metadata.annotations = Some(silent.into());
    filter.metadata.owner_references = limiter.controller_owner_ref(&()).map(|owner| vec![owner]);
    filter
}

/// Whether Kubernetes would refuse to keep it: objects may have about a megabyte and a half.
fn is_too_large(filter: &EnvoyFilter) -> bool {
    serde_json::to_vec(&filter.spec).is_ok_and(|json| json.len() > 1 << 20)
}

/// Whether an `EnvoyFilter` stands as it is to be; others' labels are theirs, but for the one that keeps istiods from reading it.
fn is_as(stands: &EnvoyFilter, wanted: &EnvoyFilter) -> bool {
    let labelled = wanted.labels().iter().all(|(key, value)| stands.labels().get(key) == Some(value));
    labelled && revision(stands) == revision(wanted) && stands.spec == wanted.spec
}
