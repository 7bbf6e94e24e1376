use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Answers, Covered, DestinationRule, Extension, Fence, GatewayRoute, Istiod, Labels, Limiter, MeshConfig,
    ObjectKey, Observation, PassedThrough, Pod, Policy, RouteKind, Service, ServiceEntry, Sidecar,
    VirtualService,
};

/// One fact about the mesh that changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Service was added or changed.
    Service(Service),
    /// A Service is gone.
    ServiceGone(ObjectKey),
    /// A `ServiceEntry` was added or changed.
    ServiceEntry(ServiceEntry),
    /// A `ServiceEntry` is gone.
    ServiceEntryGone(ObjectKey),
    /// A `VirtualService` was added or changed.
    VirtualService(VirtualService),
    /// A `VirtualService` is gone.
    VirtualServiceGone(ObjectKey),
    /// A route of the Gateway API was added or changed.
    GatewayRoute(GatewayRoute),
    /// A route of the Gateway API is gone.
    GatewayRouteGone(RouteKind, ObjectKey),
    /// A Pod was added or changed.
    Pod(Pod),
    /// A Pod is gone, or will never call again.
    PodGone(ObjectKey),
    /// A Namespace was added or changed.
    Namespace(Namespace),
    /// A Namespace is gone, or about to go with all that is in it.
    NamespaceGone(ObjectKey),
    /// A fence was added or changed.
    Fence(Fence),
    /// A fence is gone.
    FenceGone(ObjectKey),
    /// An `AuthorizationPolicy` was added or changed.
    Policy(Policy),
    /// An `AuthorizationPolicy` is gone.
    PolicyGone(ObjectKey),
    /// The mesh configuration was read.
    MeshConfig(MeshConfig),
    /// A `Sidecar` was added or changed.
    Sidecar(Sidecar),
    /// A `Sidecar` is gone.
    SidecarGone(ObjectKey),
    /// A `SmartLimiter` was added or changed.
    Limiter(Limiter),
    /// A `SmartLimiter` is gone.
    LimiterGone(ObjectKey),
    /// A `DestinationRule` was added or changed.
    DestinationRule(DestinationRule),
    /// A `DestinationRule` is gone.
    DestinationRuleGone(ObjectKey),
    /// An `EnvoyFilter` that somebody wrote was added or changed.
    Extension(Extension),
    /// An `EnvoyFilter` that somebody wrote is gone.
    ExtensionGone(ObjectKey),
    /// An `EnvoyFilter` of the limiter that is named second was added or changed.
    EnvoyFilter(ObjectKey, ObjectKey),
    /// An `EnvoyFilter` is gone, or is no limiter's any more.
    EnvoyFilterGone(ObjectKey),
    /// A pod of istiod was added, or its readiness changed.
    Istiod(ObjectKey, Istiod),
    /// A pod of istiod is gone, as was heard at this time.
    IstiodGone(ObjectKey, Timestamp),
    /// Where some host is served changed: of no matter here but for when istiod pushes.
    Endpoints,
    /// At this time the API server could not be heard.
    Disturbed(Timestamp),
    /// A call was seen.
    Call(Observation),
    /// A TLS connection was passed through at this time.
    PassedThrough(PassedThrough, Timestamp),
    /// A source has looked at all direct calls of a time.
    Covered(Covered),
    /// All that a source remembers of these fences' earlier calls has been told.
    HistoryTold(Vec<ObjectKey>),
    /// The proxies of a fence's pods have been asked what they have counted, and what they answered has been told.
    ProxiesAsked(ObjectKey, Answers),
    /// A fence has let hosts go, each of which was last seen at the time with it.
    Forget(ObjectKey, Vec<(Arc<str>, Timestamp)>),
}

/// What matters of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
}
