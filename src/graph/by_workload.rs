use std::net::IpAddr;

use imbl::OrdMap;

use super::{HashMap, Labels, ObjectKey, Pod};

/// Who made a call, as the one who saw it can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The pod with this address.
    Address(IpAddr),
    /// The pod of this namespace and name.
    Pod(ObjectKey),
    /// Some pod of the workload of this namespace and name.
    Workload(ObjectKey),
}

impl<A: Into<IpAddr>> From<A> for Caller {
    fn from(address: A) -> Self {
        Self::Address(address.into())
    }
}

/// Workload → the labels of its pods, and how many pods have just these. Nearly always there is one set of labels,
/// however many pods.
#[derive(Clone, Debug, Default)]
pub(super) struct ByWorkload(HashMap<ObjectKey, OrdMap<Labels, usize>>);

impl ByWorkload {
    /// A workload's own key and the labels of its pods; `None` if it has no pods.
    pub(super) fn get(&self, workload: &ObjectKey) -> Option<(&ObjectKey, &OrdMap<Labels, usize>)> {
        self.0.get_key_value(workload)
    }

    pub(super) fn add(&mut self, pod: &Pod) {
        *self.0.entry(workload(pod)).or_default().entry(pod.labels.clone()).or_default() += 1;
    }

    /// Counts a pod out of its workload, and the workload out when that was its last pod.
    pub(super) fn remove(&mut self, pod: &Pod) {
        let workload = workload(pod);
        let Some(labels) = self.0.get_mut(&workload) else { return };
        match labels.get_mut(&pod.labels) {
            Some(pods) if *pods > 1 => *pods -= 1,
            _ => drop(labels.remove(&pod.labels)),
        }
        if labels.is_empty() {
            self.0.remove(&workload);
        }
    }
}

fn workload(pod: &Pod) -> ObjectKey {
    ObjectKey { namespace: pod.key.namespace.clone(), name: pod.workload.clone() }
}
