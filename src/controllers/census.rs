use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::watches::Caches;
use crate::api::ServiceFence;

/// How the fences stand, counted from their statuses whenever the metrics are asked for: that costs a few
/// milliseconds a scrape, and nothing that is gone stays behind.
#[derive(Debug)]
pub struct Census(Arc<Caches>);

impl Census {
    /// A census of the fences in `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self(caches)
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
}

impl Count {
    fn add(&mut self, fence: &ServiceFence) {
        let Some(status) = &fence.status else { return };
        for condition in &status.conditions {
            let (condition, status, reason) =
                (condition.type_.clone(), condition.status.clone(), condition.reason.clone());
            *self.fences.entry(Standing { condition, status, reason }).or_default() += 1;
        }
        for source in status.domains.values().flat_map(|domain| &domain.sources) {
            *self.dependencies.entry(Source { source: format!("{source:?}") }).or_default() += 1;
        }
    }
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut count = Count::default();
        for fence in self.0.fences.store().state() {
            count.add(&fence);
        }
        let mut gauge = |name, help, numbers: &dyn EncodeMetric| {
            numbers.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("palisade_fences", "Fences by condition, its status and its reason", &family(count.fences))?;
        let help = "Hosts that fences list, by who said so";
        gauge("palisade_dependencies", help, &family(count.dependencies))
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
