use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::LimiterCaches;
use crate::api::{SmartLimiter, reasons};
use crate::controllers::error::Error;
use crate::controllers::mesh::Mesh;
use crate::controllers::named::Named;
use crate::controllers::service_fence::Context;
use crate::controllers::work_queue::work_with;
use crate::controllers::write::Writer;
use crate::graph::{Debounce, ObjectKey};
use crate::istio::EnvoyFilter;
use crate::limiter::{
    Input, Known, MetricSettings, Plan, Proxies, RateLimitService, filter_names, first_look, is_of, plan,
};
use crate::sources::limiter_metrics::Readings;
use crate::sources::proxy_status::Looks;

/// When it is looked again whether an `EnvoyFilter` that is in the way is gone: others' are not watched.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// What the reconciler of limiters works with.
pub struct LimiterContext {
    mesh: Mesh,
    caches: Arc<LimiterCaches>,
    writer: Writer,
    named: Named,
    service: Option<RateLimitService>,
    settings: Arc<MetricSettings>,
    readings: Readings,
    /// Limiters of whose metrics something else is known: they can wait until no other is named.
    changed: Named,
    /// What proxies say, and when istiod pushes, if anybody asks.
    looks: Option<(Looks, Debounce)>,
}

impl LimiterContext {
    /// What the reconciler works with, next to that of fences; `service` counts for limits that all pods share.
    #[must_use]
    pub fn new(
        fences: &Context,
        named: Named,
        caches: Arc<LimiterCaches>,
        service: Option<RateLimitService>,
    ) -> Self {
        let (mesh, _, _, writer) = fences.parts();
        let (settings, readings, changed) = (Arc::default(), Readings::default(), Named::default());
        Self { mesh, caches, writer, named, service, settings, readings, changed, looks: None }
    }

    /// The same with metrics: those that there are, what is known of them, and whom that concerns.
    #[must_use]
    pub fn knowing(self, settings: Arc<MetricSettings>, readings: Readings, changed: Named) -> Self {
        Self { settings, readings, changed, ..self }
    }

    /// The same, telling whether proxies have taken the limits.
    #[must_use]
    pub fn looking(self, looks: Option<(Looks, Debounce)>) -> Self {
        Self { looks, ..self }
    }
}

/// Brings limiters about until `stop` is cancelled.
pub(in crate::controllers) async fn run(context: LimiterContext, stop: CancellationToken) {
    let (named, context) = (context.named.stream().take_until(stop.cancelled_owned()), &context);
    let changed = context.changed.stream();
    work_with("a limiter", named, changed, |key, _| async move { reconcile(&key, context).await }).await;
}

/// Brings the limiter `key` about, and tells when to look again. One that is gone takes its `EnvoyFilter`s with it: they
/// are its own.
///
/// # Errors
/// If a write failed; the next try starts from there.
pub async fn reconcile(key: &ObjectKey, context: &LimiterContext) -> Result<Option<Timestamp>, Error> {
    let limiter = context.caches.limiters.get(key);
    if let Some(limiter) = limiter.filter(|limiter| limiter.meta().deletion_timestamp.is_none()) {
        return context.bring_about(key, &limiter).await;
    }
    context.readings.forget(key);
    if let Some((looks, _)) = &context.looks {
        looks.want(key, None);
    }
    Ok(None)
}

impl LimiterContext {
    /// Limits go before the status, which says what is in force.
    async fn bring_about(&self, key: &ObjectKey, limiter: &SmartLimiter) -> Result<Option<Timestamp>, Error> {
        let plan = self.decide(key, limiter);
        let Plan { apply, delete, mut report, metrics, differing, hold, mut wake, programmed, .. } = plan;
        self.readings.want(key, metrics, differing, Timestamp::now());
        if hold {
            return Ok(wake);
        }
        let mut written = !delete.is_empty();
        for (filter, force) in &apply {
            match self.apply(key, filter, *force).await? {
                Ok(()) => written = true,
                Err((reason, message)) => {
                    report.leave_out(limiter, &filter.name_any(), reason, &message);
                    let again = Timestamp::now() + LOOK_AGAIN;
                    wake = Some(wake.map_or(again, |wake| wake.min(again)));
                }
            }
        }
        for filter in &delete {
            self.writer.delete_filter(filter).await?;
            self.wrote(key);
            self.caches.filters.deleted(&ObjectKey::of(filter.as_ref()), filter);
            info!(filter = %ObjectKey::of(filter.as_ref()), "limits are taken back");
        }
        let verdict = programmed.filter(|_| !report.is_empty());
        self.want(key, verdict.as_ref().map(|verdict| verdict.look), written);
        if let Some(verdict) = verdict {
            // What was written just now nobody can have taken.
            report.programmed(limiter, verdict.statement.filter(|_| !written));
        }
        let (status, transitions) = report.status(limiter, Timestamp::now());
        if limiter.status.as_ref() != Some(&status) {
            self.caches.limiters.wrote(key, self.writer.status(limiter, &status).await?);
            for transition in &transitions {
                self.writer.event(limiter, transition).await;
            }
        }
        Ok(wake)
    }

    /// Says when there is to be a look at the proxies: of what was `written` just now, when that has come to them.
    fn want(&self, key: &ObjectKey, look: Option<Timestamp>, written: bool) {
        if let Some((looks, debounce)) = &self.looks {
            looks.want(
                key,
                look.map(|look| if written { first_look(Timestamp::now(), debounce) } else { look }),
            );
        }
    }

    /// Notes that the limiter's `EnvoyFilter`s are other ones from now on.
    fn wrote(&self, key: &ObjectKey) {
        if let Some((looks, _)) = &self.looks {
            looks.wrote(key, Timestamp::now());
        }
    }

    fn decide(&self, key: &ObjectKey, limiter: &SmartLimiter) -> Plan {
        let (graph, filters, known) = (self.mesh.graph(), self.filters(key, limiter), self.readings.of(key));
        let metrics = Known {
            settings: &self.settings,
            readings: &known.readings,
            differing: &known.differing,
            now: Timestamp::now(),
        };
        let service = self.service.as_ref();
        let look = self.looks.as_ref().and_then(|(looks, _)| looks.last());
        let proxies = self.looks.as_ref().map(|(looks, debounce)| Proxies {
            look: look.as_deref(),
            written: looks.written(key),
            debounce: *debounce,
        });
        plan(&Input { limiter, filters: &filters, graph: &graph, metrics, service, proxies })
    }

    /// The limiter's `EnvoyFilter`s: those that a watch has shown, and those that we have just written.
    fn filters(&self, key: &ObjectKey, limiter: &SmartLimiter) -> Vec<Arc<EnvoyFilter>> {
        let written = filter_names(limiter).map(|name| ObjectKey::new(key.namespace.clone(), name));
        let keys: BTreeSet<_> = self.mesh.graph().envoy_filters_of(key).chain(written).collect();
        let filters = keys.iter().filter_map(|key| self.caches.filters.get(key));
        filters.filter(|filter| is_of(filter, limiter)).collect()
    }

    /// Applies an `EnvoyFilter`; within, why it is not there although nothing failed.
    async fn apply(
        &self,
        key: &ObjectKey,
        filter: &EnvoyFilter,
        force: bool,
    ) -> Result<Result<(), (&'static str, String)>, Error> {
        match self.writer.filter(filter, force).await {
            Ok(applied) => {
                self.caches.filters.wrote(&ObjectKey::of(filter), applied);
                self.wrote(key);
                info!(filter = %ObjectKey::of(filter), "limits are applied");
                Ok(Ok(()))
            }
            Err(error) if error.category() == "conflict" => {
                let message = "it is somebody else's, and left alone".to_owned();
                Ok(Err((reasons::ENVOY_FILTER_CONFLICT, message)))
            }
            Err(error) if error.category() == "invalid" => {
                Ok(Err((reasons::INVALID_DESCRIPTOR, error.to_string())))
            }
            Err(error) => Err(error),
        }
    }
}
