use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use super::limiter::LimiterCaches;
use super::watches::Caches;
use crate::api::{ServiceFence, SmartLimiter};

/// How the fences and limiters stand, counted from their statuses whenever the metrics are asked for: that costs a few
/// milliseconds a scrape, and nothing that is gone stays behind.
#[derive(Debug)]
pub struct Census {
    fences: Arc<Caches>,
    limiters: Option<Arc<LimiterCaches>>,
}

impl Census {
    /// A census of the fences in `fences`, and of the limiters in `limiters` if they are looked after.
    #[must_use]
    pub fn new(fences: Arc<Caches>, limiters: Option<Arc<LimiterCaches>>) -> Self {
        Self { fences, limiters }
    }

    fn count(&self) -> Count {
        let mut count = Count::default();
        for fence in self.fences.fences.store().state() {
            count.add_fence(&fence);
        }
        for limiter in self.limiters.iter().flat_map(|caches| caches.limiters.store().state()) {
            count.add_limiter(&limiter);
        }
        count
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Standing {
    condition: String,
    status: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Source {
    source: String,
}

/// What is counted.
#[derive(Default)]
struct Count {
    fences: BTreeMap<Standing, i64>,
    dependencies: BTreeMap<Source, i64>,
    limiters: BTreeMap<Standing, i64>,
    limits: i64,
}

impl Count {
    fn add_fence(&mut self, fence: &ServiceFence) {
        let Some(status) = &fence.status else { return };
        add(&mut self.fences, &status.conditions);
        for source in status.domains.values().flat_map(|domain| &domain.sources) {
            *self.dependencies.entry(Source { source: format!("{source:?}") }).or_default() += 1;
        }
    }

    fn add_limiter(&mut self, limiter: &SmartLimiter) {
        let Some(status) = &limiter.status else { return };
        add(&mut self.limiters, &status.conditions);
        self.limits += i64::from(status.limits);
    }
}

fn add(standings: &mut BTreeMap<Standing, i64>, conditions: &[Condition]) {
    for condition in conditions {
        let (condition, status, reason) =
            (condition.type_.clone(), condition.status.clone(), condition.reason.clone());
        *standings.entry(Standing { condition, status, reason }).or_default() += 1;
    }
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let count = self.count();
        let mut gauge = |name, help, numbers: &dyn EncodeMetric| {
            numbers.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("palisade_fences", "Fences by condition, its status and its reason", &family(count.fences))?;
        let help = "Hosts that fences list, by who said so";
        gauge("palisade_dependencies", help, &family(count.dependencies))?;
        if self.limiters.is_none() {
            return Ok(());
        }
        gauge(
            "palisade_limiters",
            "Limiters by condition, its status and its reason",
            &family(count.limiters),
        )?;
        gauge("palisade_limits", "Limits in force", &ConstGauge::new(count.limits))
    }
}

fn family<L>(numbers: BTreeMap<L, i64>) -> Family<L, Gauge>
where
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::<L, Gauge>::default();
    for (labels, number) in numbers {
        family.get_or_create(&labels).set(number);
    }
    family
}
