use crate::api::reasons;
use crate::graph::{Graph, Labels, ObjectKey, Pod, Proxy};

/// The label by which Istio takes a namespace or a pod into the ambient mesh, or a pod out of it.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// The label of pods that were deployed for a Gateway of the Gateway API, whoever implements it.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Why no `Sidecar` can configure a pod. The order is that in which a fence tells it, if its pods differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// Its proxy is that of a gateway.
    Gateway,
    /// Its proxy is that of a waypoint.
    Waypoint,
    /// It is on the host's network.
    HostNetwork,
    /// It is in the ambient mesh.
    Ambient,
    /// It has no proxy.
    NoSidecar,
}

impl Unfit {
    /// Why no `Sidecar` can configure `pod`, in a namespace with these labels; `None` if one can.
    #[must_use]
    pub fn of(pod: &Pod, namespace: Option<&Labels>) -> Option<Self> {
        match pod.proxy {
            Proxy::Sidecar => None,
            Proxy::Gateway => Some(Self::Gateway),
            Proxy::Waypoint => Some(Self::Waypoint),
            Proxy::HostNetwork => Some(Self::HostNetwork),
            Proxy::None if pod.labels.get(GATEWAY_NAME).is_some() => Some(Self::Gateway),
            // A pod's own label wins over its namespace's (Istio 1.31, ztunnel's redirection).
            Proxy::None => {
                let mode = |labels: &'_ Labels| labels.get(DATAPLANE_MODE).map(|mode| mode == "ambient");
                let ambient = mode(&pod.labels).or_else(|| mode(namespace?)).unwrap_or_default();
                Some(if ambient { Self::Ambient } else { Self::NoSidecar })
            }
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Gateway => reasons::GATEWAY,
            Self::Waypoint => reasons::WAYPOINT,
            Self::HostNetwork => reasons::HOST_NETWORK,
            Self::Ambient => reasons::AMBIENT,
            Self::NoSidecar => reasons::NO_SIDECAR,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Gateway => "the pods are gateways, which need the whole mesh",
            Self::Waypoint => "the pods are waypoints, which no Sidecar configures",
            Self::HostNetwork => "the pods are on the host's network, where Istio injects no sidecar",
            Self::Ambient => "the pods are in the ambient mesh, which no Sidecar configures",
            Self::NoSidecar => "the pods have no sidecar: have it injected, or delete the fence",
        }
    }
}

/// Whether a `Sidecar` could configure any pod of a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pods {
    /// It could.
    Fit,
    /// There is no pod.
    None,
    /// For this reason, none of those that there are.
    Unfit(Unfit),
}

/// The pods of the fence `key`.
pub(super) fn pods(graph: &Graph, key: &ObjectKey) -> Pods {
    let labels = graph.namespace(&key.namespace);
    let mut reason = None;
    for pod in graph.workloads().of_fence(key) {
        match Unfit::of(pod, labels) {
            None => return Pods::Fit,
            Some(unfit) => reason = Some(reason.map_or(unfit, |reason| unfit.min(reason))),
        }
    }
    reason.map_or(Pods::None, Pods::Unfit)
}

/// Whether the istiods of all pods of the fence `key` leave out what is labelled with `revision`.
pub(super) fn is_unread(graph: &Graph, key: &ObjectKey, revision: &str) -> bool {
    let pods = graph.workloads().of_fence(key).filter(|pod| pod.proxy == Proxy::Sidecar);
    let mut theirs = pods.map(|pod| pod.revision.as_deref()).peekable();
    theirs.peek().is_some() && theirs.all(|its| its.is_some_and(|its| its != revision))
}
