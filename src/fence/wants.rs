//! What a fence's spec asks for, in the graph's terms.

use jiff::{SignedDuration, Timestamp};
use kube::Resource;

use super::slime;
use crate::api::{DependencySource, DomainStatus, RecyclingStrategy, Seconds, ServiceFence};
use crate::graph::{Labels, Lifetime, PodSelection, Want, Wanted};

/// Which pods a fence is for: by its own labels, or by the Service of its name, or (Slime's way, if it does not
/// insist on a Service) by the label that has its name.
pub(super) fn selection(fence: &ServiceFence) -> PodSelection {
    match fence.spec.workload_selector.as_ref() {
        Some(selector) if !selector.labels.is_empty() => PodSelection::Labels(Labels::from(&selector.labels)),
        Some(selector) if selector.from_service => PodSelection::Service,
        _ => PodSelection::ServiceOrLabel,
    }
}

/// What a fence asks for: by its spec, and by what Slime had learned for it.
pub(super) fn wants(fence: &ServiceFence) -> Vec<Want> {
    let spec = &fence.spec;
    let hosts = spec.host.iter().map(|(host, strategy)| Want {
        hosts: Wanted::parse(host),
        lifetime: lifetime(host, strategy, fence),
        source: DependencySource::Spec,
    });
    let namespaces =
        spec.namespace_selector.iter().map(|namespace| Wanted::Namespace(namespace.as_str().into()));
    let labels = spec.label_selector.iter().map(|one| Wanted::Labels(Labels::from(&one.selector)));
    let always = namespaces.chain(labels).map(|hosts| Want::always(hosts, DependencySource::Spec));
    hosts.chain(always).chain(slime::wants(fence)).collect()
}

/// How long a host of the spec stays. Of several strategies the one that says least counts, as in Slime.
fn lifetime(host: &str, strategy: &RecyclingStrategy, fence: &ServiceFence) -> Lifetime {
    match (&strategy.stable, &strategy.deadline, &strategy.auto) {
        (None, Some(deadline), _) => Lifetime::Until(time(deadline.expire)),
        (None, None, Some(auto)) => {
            let made = fence.meta().creation_timestamp.as_ref().map(|time| time.0);
            let called = strategy.recently_called.map(time);
            let base = made.into_iter().chain(called).max().unwrap_or(Timestamp::UNIX_EPOCH);
            let Seconds { seconds, nanos } = auto.duration;
            let within = SignedDuration::from_secs(seconds)
                .saturating_add(SignedDuration::from_nanos(i64::from(nanos)));
            Lifetime::WhileCalled { within, base, over: is_over(host, fence) }
        }
        _ => Lifetime::Always,
    }
}

/// Whether the status says that the time of a host is over; what it says of another spec does not count.
fn is_over(host: &str, fence: &ServiceFence) -> bool {
    let status =
        fence.status.as_ref().filter(|status| status.observed_generation == fence.metadata.generation);
    let domain = status.and_then(|status| status.domains.get(host));
    domain.is_some_and(|domain| domain.status == DomainStatus::Expired)
}

/// A time that is out of the calendar is at its end.
fn time(since_1970: Seconds) -> Timestamp {
    let end = if since_1970.seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(since_1970.seconds, since_1970.nanos).unwrap_or(end)
}
