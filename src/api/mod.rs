//! The custom resources that users write: types, validation rules and the words of their conditions.
//!
//! Group, versions, field names and labels are Slime's, so that manifests in users' repositories apply unchanged.

mod lenient;
mod modes;
mod recycling;
mod rejection;
mod retention;
mod service_fence;
mod smart_limiter;
mod spelling;
mod statement;

pub use modes::{Mode, Observed, SidecarPolicy};
pub use recycling::{Auto, Deadline, RecyclingStrategy, Seconds, Stable};
pub use rejection::RejectionBody;
pub use retention::Retention;
pub use service_fence::{
    Dependency, DependencySource, DomainStatus, LabelSelector, Learning, ServiceFence, ServiceFenceSpec,
    ServiceFenceStatus, WorkloadSelector,
};
pub use smart_limiter::{
    Action, Descriptor, Header, LimiterSet, Match, MetricsInUse, OnMissingMetrics, SmartLimiter,
    SmartLimiterSpec, SmartLimiterStatus, Target,
};
pub(crate) use statement::whole_seconds;
pub use statement::{Statement, Transition};

/// The condition type that sums up whether what an object's spec asks for is in force.
pub const READY: &str = "Ready";
/// The condition type that tells whether calls of the workload were seen, and by whom.
pub const LEARNING: &str = "Learning";
/// The condition type that tells whether something is left out that the workload uses.
pub const DEGRADED: &str = "Degraded";
/// The condition type that tells whether a trimmed `Sidecar` of a fence, or any limit of a limiter, is in force. Its
/// reasons are those of [`READY`].
pub const ENFORCED: &str = "Enforced";
/// The condition type that tells whether the proxies have taken the limits of a limiter.
pub const PROGRAMMED: &str = "Programmed";
/// The condition type that tells of another object that is for the same pods.
pub const CONFLICT: &str = "Conflict";

/// The reasons of conditions. Each is part of the API: alerts and scripts match on them.
pub mod reasons {
    /// Ready: the workload's `Sidecar` lists what it uses; everything else goes through the global proxy.
    pub const FENCED: &str = "Fenced";
    /// Ready: `enable` is false, and the workload has its full configuration.
    pub const OPEN: &str = "Open";
    /// Not ready yet: the `Sidecar` is about to be written.
    pub const FENCING: &str = "Fencing";
    /// Not ready yet: Prometheus or the workload's own proxies are asked what it has used so far, before it is fenced.
    pub const AWAITING_HISTORY: &str = "AwaitingHistory";
    /// Not ready yet: the full configuration is being given back before the `Sidecar` goes.
    pub const OPENING: &str = "Opening";
    /// Not ready: the fence is to take the selector of the Service of its name, and there is none.
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    /// Not ready: the Service of the fence's name has no selector, so no workload can be told.
    pub const SERVICE_WITHOUT_SELECTOR: &str = "ServiceWithoutSelector";
    /// Not ready: no pod of the fence has Istio's sidecar.
    pub const NO_SIDECAR: &str = "NoSidecar";
    /// Not ready: the fence's pods are gateways.
    pub const GATEWAY: &str = "Gateway";
    /// Not ready: the fence's pods are waypoints.
    pub const WAYPOINT: &str = "Waypoint";
    /// Not ready: the fence's pods are in the ambient mesh.
    pub const AMBIENT: &str = "Ambient";
    /// Not ready: the fence's pods are on the host's network.
    pub const HOST_NETWORK: &str = "HostNetwork";
    /// Not ready: the fence's pods are configured by istiods of another revision than the label of its `Sidecar` names.
    pub const OTHER_REVISION: &str = "OtherRevision";
    /// Not ready: the fence is in a namespace of the cluster's or the mesh's own.
    pub const SYSTEM_NAMESPACE: &str = "SystemNamespace";
    /// Not ready: the fence has never had a pod. Its `Sidecar` is written when the first one comes.
    pub const NO_PODS: &str = "NoPods";
    /// Ready: the fence is in mode `Observe`: it learns and reports, and the workload has its full configuration.
    pub const OBSERVING: &str = "Observing";
    /// Ready: an older fence selects all pods of this one; its `Sidecar` lists the hosts of both.
    pub const CARRIED_BY: &str = "CarriedBy";
    /// Conflict: an older fence selects some pods of this one. Both `Sidecar`s list the hosts of both fences.
    pub const OVERLAPPING_FENCE: &str = "OverlappingFence";
    /// Not ready: the `Sidecar` whose place the fence's would take refuses calls that the detour would let through.
    pub const REGISTRY_ONLY: &str = "RegistryOnly";
    /// Not ready: somebody else's `Sidecar` has the fence's name, or is for pods of the fence; it is left alone.
    pub const SIDECAR_CONFLICT: &str = "SidecarConflict";

    /// Learning: calls of the workload were seen.
    pub const CALLS_SEEN: &str = "CallsSeen";
    /// Not learning: no source has told of a call of the workload yet.
    pub const NO_CALLS_SEEN: &str = "NoCallsSeen";
    /// Not degraded.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// Degraded: as many hosts were learned as the fence may learn; further ones stay on the detour.
    pub const HOST_LIMIT: &str = "HostLimit";
    /// Degraded: the workload calls hosts of namespaces that the fence may not learn; they stay on the detour.
    pub const NAMESPACE_NOT_ALLOWED: &str = "NamespaceNotAllowed";
    /// Degraded: policies, routes, rules, filters and entries declare more hosts than may be listed for their sake.
    pub const DECLARED_LIMIT: &str = "DeclaredLimit";

    /// Ready: the limiter's limits are in force.
    pub const LIMITING: &str = "Limiting";
    /// Ready: no limit of the limiter has a condition that holds.
    pub const IDLE: &str = "Idle";
    /// Not ready: a descriptor cannot be understood, or lacks what it needs.
    pub const INVALID_DESCRIPTOR: &str = "InvalidDescriptor";
    /// Not ready: two descriptors have the same `custom_key` and `custom_value`.
    pub const DUPLICATE_NAME: &str = "DuplicateName";
    /// Not ready: the limiter asks for what is not supported yet.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// Not ready: a limit is for all pods together, and the rate limit service is not installed.
    pub const NO_RATE_LIMIT_SERVICE: &str = "NoRateLimitService";
    /// Not ready: no `DestinationRule` of the limiter's namespace defines a subset that it names.
    pub const SUBSET_NOT_FOUND: &str = "SubsetNotFound";
    /// Not ready: a limit's metrics are not known; it is as its `onMissingMetrics` says.
    pub const METRICS_MISSING: &str = "MetricsMissing";
    /// Not ready yet: the metrics of a limit that was never in force are being asked for.
    pub const AWAITING_METRICS: &str = "AwaitingMetrics";
    /// Not ready: somebody else's `EnvoyFilter` has the name of one of the limiter's; it is left alone.
    pub const ENVOY_FILTER_CONFLICT: &str = "EnvoyFilterConflict";

    /// Programmed: the proxies of all ready pods have taken what istiod has sent.
    pub const PROGRAMMED: &str = "Programmed";
    /// Not programmed: a proxy has refused what istiod has sent.
    pub const REJECTED: &str = "Rejected";
    /// Not programmed yet: a proxy has not answered, or is not connected; unknown: istiod has not been asked yet.
    pub const PENDING: &str = "Pending";
    /// Not programmed: no ready pod with a proxy has the labels.
    pub const NO_PROXIES: &str = "NoProxies";
    /// Unknown: istiod shows us no proxies of other namespaces.
    pub const NOT_VISIBLE: &str = "NotVisible";
    /// Unknown: an istiod does not answer.
    pub const ISTIOD_UNAVAILABLE: &str = "IstiodUnavailable";
}
