use std::sync::Arc;

use futures::future::BoxFuture;
use kube::runtime::reflector::{Store, store};
use kube::{Resource, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::SmartLimiter;
use crate::controllers::cache::Cache;
use crate::controllers::operator::until;
use crate::controllers::watch::{Kind, Watch, covered, only, reflected};
use crate::graph::{Change, ObjectKey};
use crate::istio::{EnvoyFilter, Installation};
use crate::limiter::facts;

/// The objects that decisions about limits read in full.
#[derive(Debug)]
pub struct LimiterCaches {
    /// The limiters.
    pub limiters: Cache<SmartLimiter>,
    /// The `EnvoyFilter`s that were written for limiters.
    pub filters: Cache<EnvoyFilter>,
}

impl LimiterCaches {
    /// Caches over the stores of watches.
    #[must_use]
    pub fn new(limiters: Store<SmartLimiter>, filters: Store<EnvoyFilter>) -> Self {
        Self { limiters: Cache::new(limiters), filters: Cache::new(filters) }
    }
}

/// How many kinds are watched here.
pub(in crate::controllers) const KINDS: usize = 2;

/// Watches what decisions about limits rest on besides Services and Pods, until `stop` is cancelled. A cluster
/// that was upgraded may lack the definition of limiters: then there are none.
pub(in crate::controllers) fn watch(
    watch: &Watch,
    istio: Installation,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Arc<LimiterCaches> {
    let (limiters, limiter_writer) = store();
    let (filters, filter_writer) = store();
    let caches = Arc::new(LimiterCaches::new(limiters, filters));
    let ours = covered(watch.optional_events(), istio);
    let limiters = reflected(ours, limiter_writer, caches.clone(), |caches| &caches.limiters);
    let ours = only(watch.optional_events(), |filter| limiter_of(filter).is_some());
    let filters = reflected(ours, filter_writer, caches.clone(), |caches| &caches.filters);
    let watches: [BoxFuture<'static, ()>; KINDS] =
        [watch.follow(limiters, LIMITERS), watch.follow(filters, FILTERS)];
    for watch in watches {
        tasks.spawn(until(stop.clone(), watch));
    }
    caches
}

const LIMITERS: Kind<SmartLimiter> = Kind {
    changed: |limiter| Change::Limiter(facts(limiter)),
    gone: Change::LimiterGone,
    known: |graph| graph.limiter_keys().collect(),
};

const FILTERS: Kind<EnvoyFilter> = Kind {
    changed: |filter| match limiter_of(filter) {
        Some(limiter) => Change::EnvoyFilter(ObjectKey::of(filter), limiter),
        None => Change::EnvoyFilterGone(ObjectKey::of(filter)),
    },
    gone: Change::EnvoyFilterGone,
    known: |graph| graph.envoy_filter_keys().cloned().collect(),
};

/// The limiter for which an `EnvoyFilter` was written, by us or by Slime.
fn limiter_of(filter: &EnvoyFilter) -> Option<ObjectKey> {
    let ours = filter.owner_references().iter().find(|owner| {
        owner.controller == Some(true)
            && owner.kind == SmartLimiter::kind(&())
            && owner.api_version == SmartLimiter::api_version(&())
    })?;
    Some(ObjectKey::new(filter.namespace()?, ours.name.as_str()))
}
