use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::course::Selection;
use super::{ADOPTED, Egress, Scope, adoption, writers};
use crate::api::ServiceFence;
use crate::graph::{EgressHost, Foreign, Labels, Standing};
use crate::istio::{
    ANALYZE_SUPPRESS, EgressListener, EgressProxy, Mode, OutboundTrafficPolicy, Port, PortSelector, REVISION,
    Sidecar, SidecarSpec, WorkloadSelector, revision,
};

/// The label that marks what Palisade wrote.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], and the name of our field manager.
pub const MANAGER: &str = "palisade";
/// The annotation that says when the `Sidecar` last got hosts that had no cluster before (RFC 3339).
pub const CLUSTERS_ADDED: &str = "palisade.io/clusters-added";
/// The annotation that says when the first of the hosts got its cluster that are to be routed to together (RFC 3339).
pub const WARMING_SINCE: &str = "palisade.io/warming-since";
/// The annotation that says when the `Sidecar` last stopped routing to a host (RFC 3339).
pub const ROUTES_REMOVED: &str = "palisade.io/routes-removed";
/// The annotation that says when the `Sidecar` last routed to more of the hosts that it keeps (RFC 3339).
pub const ROUTES_ADDED: &str = "palisade.io/routes-added";
/// The annotation that says since when the `Sidecar` routes to everything, and only has calls to unknown
/// destinations go to the global proxy (RFC 3339).
pub const WIDENED: &str = "palisade.io/widened";
/// The annotation that says that calls to unknown destinations go where the next `Sidecar` of the pods has them go
/// (`"true"`): that of a fence which is about to go.
const GIVING_BACK: &str = "palisade.io/giving-back";
/// What `istioctl analyze` says of every `egressProxy`: that it is deprecated and ignored. istiod heeds it (Istio 1.29 to 1.31).
const DEPRECATED_EGRESS_PROXY: &str = "IST0002";
/// The address of the egress listener to which nobody connects. An abstract socket leaves no file behind.
pub const KEEP_BIND: &str = "unix://@palisade-keep";

/// Where calls to unknown hosts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalProxy {
    /// Its host and namespace.
    pub host: EgressHost,
    /// Its port.
    pub port: u16,
}

/// Whether an object has the label of what Palisade wrote.
#[must_use]
pub fn is_ours(object: &impl ResourceExt) -> bool {
    object.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// Whether the fence is the controller of this object.
#[must_use]
pub fn is_owned_by(sidecar: &Sidecar, fence: &ServiceFence) -> bool {
    let owners = sidecar.owner_references();
    owners.iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == fence.meta().uid.as_ref())
}

impl Egress {
    /// Reads the state off a `Sidecar` as it stands. If nothing tells since when clusters are kept (somebody took
    /// the annotations off), it is since now: to wait once more breaks no call.
    pub(super) fn of(sidecar: &Sidecar, now: Timestamp) -> Self {
        let listeners = &sidecar.spec.egress;
        let hosts = |of: fn(&EgressListener) -> bool| {
            listeners.iter().find(|listener| of(listener)).map(|listener| Scope::from_hosts(&listener.hosts))
        };
        let keep = hosts(|listener| listener.bind == KEEP_BIND).unwrap_or_else(Scope::nothing);
        let times = (timestamp(sidecar, CLUSTERS_ADDED), timestamp(sidecar, ROUTES_REMOVED));
        let (clusters_added, routes_removed) = match times {
            (None, None) if !keep.is_nothing() => (Some(now), Some(now)),
            times => times,
        };
        let route = hosts(|listener| listener.port.is_none()).unwrap_or(Scope::Everything);
        let widened = timestamp(sidecar, WIDENED);
        let was = adoption::adopted(sidecar);
        let policy = &sidecar.spec.outbound_traffic_policy;
        Self {
            diverted: was.map_or_else(
                || !sidecar.annotations().contains_key(GIVING_BACK),
                |was| was.outbound_traffic_policy != *policy,
            ),
            widened: if route == Scope::Everything { widened.or(Some(now)) } else { widened },
            route,
            keep,
            clusters_added,
            warming_since: timestamp(sidecar, WARMING_SINCE),
            routes_removed,
            routes_added: timestamp(sidecar, ROUTES_ADDED),
        }
    }
}

fn timestamp(sidecar: &Sidecar, annotation: &str) -> Option<Timestamp> {
    sidecar.annotations().get(annotation).and_then(|value| value.parse().ok())
}

/// What a fence's `Sidecar` says.
#[derive(Debug)]
pub(super) struct Content<'a> {
    /// Whom it is for.
    pub(super) selection: &'a Selection,
    /// What they may call.
    pub(super) egress: &'a Egress,
    /// Whose place it takes, oldest first: what these say of incoming traffic, it says too, and the listeners that they have
    /// for ports of their own.
    pub(super) composed: &'a [&'a Foreign],
    /// What it said before the fence took it over.
    pub(super) original: Option<&'a SidecarSpec>,
    /// What the `Sidecar` says that its pods get when it is gone.
    pub(super) heir: Option<&'a SidecarSpec>,
}

/// The `Sidecar` of a fence, complete, as it is applied.
pub(super) fn build(fence: &ServiceFence, content: &Content<'_>, proxy: &GlobalProxy) -> Sidecar {
    let Content { selection, egress, composed, original, heir } = content;
    let specs = || composed.iter().map(|foreign| &foreign.spec);
    let theirs = original.or(*heir).and_then(|spec| spec.outbound_traffic_policy.as_ref());
    let spec = SidecarSpec {
        workload_selector: Some(WorkloadSelector { labels: selection.labels.to_map() }),
        egress: of_ports(specs()).chain(listeners(egress)).collect(),
        ingress: specs()
            .map(|spec| &spec.ingress)
            .find(|ingress| !ingress.is_empty())
            .cloned()
            .unwrap_or_default(),
        inbound_connection_pool: specs().find_map(|spec| spec.inbound_connection_pool.clone()),
        outbound_traffic_policy: if egress.diverted { Some(detour(proxy)) } else { theirs.cloned() },
    };
    let mut sidecar = Sidecar::new(&fence.name_any(), spec);
    sidecar.metadata.namespace = fence.namespace();
    let revision = selection.revision.clone().map(|revision| (REVISION.to_owned(), revision));
    let labels = revision.into_iter().chain([(MANAGED_BY.to_owned(), MANAGER.to_owned())]);
    sidecar.metadata.labels = Some(labels.collect());
    let original = original.and_then(|spec| serde_json::to_string(spec).ok());
    let giving_back =
        (original.is_none() && !egress.diverted).then(|| (GIVING_BACK.to_owned(), "true".to_owned()));
    // An adopted one is its owner's, and so is what `istioctl` is to say of it.
    let silent =
        original.is_none().then(|| (ANALYZE_SUPPRESS.to_owned(), DEPRECATED_EGRESS_PROXY.to_owned()));
    let original = original.map(|spec| (ADOPTED.to_owned(), spec));
    let all = annotations(egress).into_iter().chain(original).chain(giving_back).chain(silent);
    sidecar.metadata.annotations = Some(all.collect()).filter(|a: &BTreeMap<_, _>| !a.is_empty());
    sidecar.metadata.owner_references = fence.controller_owner_ref(&()).map(|owner| vec![owner]);
    sidecar
}

/// Sends calls to unknown hosts to the global proxy.
fn detour(proxy: &GlobalProxy) -> OutboundTrafficPolicy {
    OutboundTrafficPolicy {
        mode: Mode::AllowAny,
        egress_proxy: Some(EgressProxy {
            host: proxy.host.host.to_string(),
            port: PortSelector { number: proxy.port.into() },
            ..EgressProxy::default()
        }),
    }
}

/// The listeners of others for ports of their own; of two for the same address, the first.
fn of_ports<'a>(specs: impl Iterator<Item = &'a Arc<SidecarSpec>>) -> impl Iterator<Item = EgressListener> {
    let mut taken = BTreeSet::new();
    let all = specs.flat_map(|spec| &spec.egress).filter(|listener| listener.port.is_some());
    let address =
        |listener: &EgressListener| (listener.port.as_ref().map(|port| port.number), listener.bind.clone());
    all.filter(move |listener| taken.insert(address(listener))).cloned()
}

fn listeners(egress: &Egress) -> impl Iterator<Item = EgressListener> {
    let keep = (!egress.keep.is_nothing()).then(|| EgressListener {
        port: Some(Port { number: 0, protocol: "HTTP".to_owned(), name: "keep".to_owned() }),
        bind: KEEP_BIND.to_owned(),
        capture_mode: "NONE".to_owned(),
        hosts: egress.keep.to_hosts(),
    });
    let route = EgressListener { hosts: egress.route.to_hosts(), ..EgressListener::default() };
    keep.into_iter().chain([route])
}

fn annotations(egress: &Egress) -> BTreeMap<String, String> {
    let times = [
        (CLUSTERS_ADDED, egress.clusters_added),
        (WARMING_SINCE, egress.warming_since),
        (ROUTES_REMOVED, egress.routes_removed),
        (ROUTES_ADDED, egress.routes_added),
        (WIDENED, egress.widened),
    ];
    times.into_iter().filter_map(|(key, time)| Some((key.to_owned(), time?.to_string()))).collect()
}

/// Whether `current` already says all that `desired` does.
pub(super) fn is_up_to_date(current: &Sidecar, desired: &Sidecar) -> bool {
    let has = |map: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        // What `istioctl` is to say is worth no write of its own.
        wanted.iter().all(|(key, value)| map.get(key) == Some(value) || key == ANALYZE_SUPPRESS)
    };
    current.spec == desired.spec
        && desired.owner_references().iter().all(|owner| current.owner_references().contains(owner))
        && has(current.labels(), desired.labels())
        && (desired.labels().contains_key(REVISION) || !writers::set_the_revision(current))
        && has(current.annotations(), desired.annotations())
}

/// What the graph is told of a `Sidecar` of ours.
#[must_use]
pub fn standing(sidecar: &Sidecar) -> Standing {
    let selector = sidecar.spec.workload_selector.as_ref();
    Standing {
        wide: Egress::of(sidecar, Timestamp::UNIX_EPOCH).is_wide(),
        selector: selector.map(|selector| Labels::from(&selector.labels)).unwrap_or_default(),
        adopted: adoption::adopted(sidecar).map(Arc::new),
        contested: adoption::contested(sidecar),
        revision: revision(sidecar),
        labelled: writers::set_the_revision(sidecar),
    }
}
