use std::net::IpAddr;

use imbl::OrdMap;

use super::relation::First;
use super::{Labels, ObjectKey, Pod};

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

/// Workload and labels → how many of its pods have just these. Nearly always a workload's pods have one set of labels,
/// however many they are.
#[derive(Clone, Debug, Default)]
pub(super) struct ByWorkload(OrdMap<(ObjectKey, Labels), usize>);

impl ByWorkload {
    /// A workload's own key with the labels of its pods, each set once; `None` if it has no pods.
    pub(super) fn get<'a>(
        &'a self,
        workload: &ObjectKey,
    ) -> Option<impl Iterator<Item = &'a (ObjectKey, Labels)> + use<'a>> {
        let mut all = self.0.range(First(workload)..).map(|(place, _)| place);
        let first = all.next().filter(|(own, _)| own == workload)?;
        Some(std::iter::once(first).chain(all.take_while(|(own, _)| *own == first.0)))
    }

    pub(super) fn add(&mut self, pod: &Pod) {
        *self.0.entry(place(pod)).or_default() += 1;
    }

    /// Counts a pod out of its workload.
    pub(super) fn remove(&mut self, pod: &Pod) {
        let place = place(pod);
        match self.0.get_mut(&place) {
            Some(pods) if *pods > 1 => *pods -= 1,
            _ => drop(self.0.remove(&place)),
        }
    }
}

fn place(pod: &Pod) -> (ObjectKey, Labels) {
    let workload = ObjectKey { namespace: pod.key.namespace.clone(), name: pod.workload.clone() };
    (workload, pod.labels.clone())
}
