use std::collections::BTreeSet;
use std::sync::Arc;

use super::AutoFence;
use crate::graph::{Change, Graph, ObjectKey, Pod};

/// The automatic fences about which a change may say something new, there or not. To be asked before `graph`
/// takes the change in.
#[must_use]
pub fn concerned(graph: &Graph, change: &Change, settings: &AutoFence) -> BTreeSet<ObjectKey> {
    match change {
        Change::Fence(fence) => BTreeSet::from([fence.key.clone()]),
        Change::FenceGone(key) => BTreeSet::from([key.clone()]),
        _ if !settings.enabled => BTreeSet::new(),
        Change::Service(service) => match graph.registry().service(&service.key) {
            Some(old) if old == service => BTreeSet::new(),
            Some(old) if old.selector == service.selector => BTreeSet::from([service.key.clone()]),
            _ => with_workloads(graph, &service.key, settings),
        },
        Change::ServiceGone(key) => with_workloads(graph, key, settings),
        Change::Namespace(namespace) if graph.namespace(&namespace.name) == Some(&namespace.labels) => {
            BTreeSet::new()
        }
        Change::Namespace(namespace) => whole(graph, &namespace.name, settings),
        Change::NamespaceGone(key) => whole(graph, &key.name, settings),
        Change::Pod(pod) => of_pod(graph, pod, settings),
        Change::PodGone(key) => {
            graph.workloads().pod(key).and_then(|pod| of_label(pod, settings)).into_iter().collect()
        }
        _ => BTreeSet::new(),
    }
}

/// All automatic fences, there or not, for what concerns them all.
#[must_use]
pub fn all(graph: &Graph, settings: &AutoFence) -> BTreeSet<ObjectKey> {
    let namespaces = graph.namespace_keys().filter(|_| settings.enabled);
    let wished = namespaces.flat_map(|namespace| whole(graph, &namespace.name, settings));
    graph.fence_keys().cloned().chain(wished).collect()
}

fn of_pod(graph: &Graph, pod: &Pod, settings: &AutoFence) -> BTreeSet<ObjectKey> {
    let old = graph.workloads().pod(&pod.key);
    let same = |old: &Pod| {
        (&old.labels, old.proxy, old.ips.is_empty()) == (&pod.labels, pod.proxy, pod.ips.is_empty())
    };
    if old.is_some_and(same) {
        return BTreeSet::new();
    }
    let services = graph.registry().selecting(pod).map(|service| service.key.clone());
    let labels = old.into_iter().chain([pod]).filter_map(|pod| of_label(pod, settings));
    services.chain(labels).collect()
}

/// The fence of a pod by its label.
fn of_label(pod: &Pod, settings: &AutoFence) -> Option<ObjectKey> {
    let label = settings.workload_label.as_ref()?;
    let name = label.fence_of(pod.labels.get(&label.key)?)?;
    Some(ObjectKey { namespace: pod.key.namespace.clone(), name: name.into() })
}

/// The fence of a Service, and those of the workloads that it may select.
fn with_workloads(graph: &Graph, service: &ObjectKey, settings: &AutoFence) -> BTreeSet<ObjectKey> {
    workloads(graph, &service.namespace, settings).into_iter().chain([service.clone()]).collect()
}

fn workloads(graph: &Graph, namespace: &str, settings: &AutoFence) -> BTreeSet<ObjectKey> {
    let Some(label) = &settings.workload_label else { return BTreeSet::new() };
    let pods = graph.workloads().with_labels(namespace, |labels| labels.get(&label.key).is_some());
    pods.filter_map(|pod| of_label(pod, settings)).collect()
}

fn whole(graph: &Graph, namespace: &Arc<str>, settings: &AutoFence) -> BTreeSet<ObjectKey> {
    let services = graph.registry().services_in(Some(namespace)).map(|service| service.key.clone());
    let fences = graph.fences_in(namespace).cloned();
    services.chain(fences).chain(workloads(graph, namespace, settings)).collect()
}
