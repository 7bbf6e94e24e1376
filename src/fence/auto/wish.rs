use super::{AutoFence, FENCED};
use crate::fence::Unfit;
use crate::graph::{Graph, Labels, ObjectKey, Pod, Service};

/// What a fence that is wished for selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish<'a> {
    /// The pods of this Service.
    Service(&'a Service),
    /// The pods with this label that no Service selects.
    Workload {
        /// The label's key.
        key: &'a str,
        /// Its value.
        value: &'a str,
    },
}

/// Whether an automatic fence of the name `key` is wished for, by labels and configuration alone: the Service's
/// label comes before its Namespace's, and that before the default.
pub(super) fn wish<'a>(
    graph: &'a Graph,
    key: &'a ObjectKey,
    settings: &'a AutoFence,
    system: &[String],
) -> Option<Wish<'a>> {
    let namespace = graph.namespace(&key.namespace)?;
    let covered = settings.enabled
        && settings.covers(&key.namespace, namespace)
        && !system.iter().any(|system| **system == *key.namespace);
    if !covered {
        return None;
    }
    if let Some(label) = &settings.workload_label
        && let Some(value) = label.value_of(&key.name)
    {
        // To name the label is the wish; only a refusal stands against it.
        let wished = fenced(namespace).unwrap_or(true) && label.fence_of(value).is_some();
        return wished.then_some(Wish::Workload { key: &label.key, value });
    }
    let service = graph.registry().service(key).filter(|service| !service.selector.is_empty())?;
    let wished = fenced(&service.labels).or_else(|| fenced(namespace)).unwrap_or(settings.default);
    wished.then_some(Wish::Service(service))
}

/// What a label says; any word but `true` and `false` says nothing.
fn fenced(labels: &Labels) -> Option<bool> {
    labels.get(FENCED)?.parse().ok()
}

impl Wish<'_> {
    /// Whether there is a pod that the fence could be enforced on.
    pub(super) fn has_pods(&self, graph: &Graph, namespace: &str) -> bool {
        let labels = graph.namespace(namespace);
        let fit = |pod: &Pod| Unfit::of(pod, labels).is_none();
        let asked = |labels: &Labels| match self {
            Self::Service(service) => labels.satisfy(&service.selector),
            Self::Workload { key, value } => labels.get(key) == Some(value) && fenced(labels) != Some(false),
        };
        graph.workloads().with_labels(namespace, asked).any(|pod| match self {
            Self::Service(_) => fit(pod),
            Self::Workload { .. } => {
                fit(pod) && !pod.ips.is_empty() && graph.registry().selecting(pod).next().is_none()
            }
        })
    }
}
