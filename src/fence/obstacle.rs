use super::fitness::{self, Pods};
use super::others::Others;
use super::status::Verdict;
use crate::api::reasons;

impl Others<'_> {
    /// What keeps any `Sidecar` from doing the fence's workload good.
    pub(super) fn obstacle(self) -> Option<Verdict> {
        let name = self.fence;
        match self.facts().and_then(|facts| facts.labels.as_ref()) {
            None => {
                let message =
                    format!("there is no Service {name}: create it, or set spec.workloadSelector.labels");
                Some(Verdict::new(reasons::SERVICE_NOT_FOUND, message))
            }
            Some(labels) if labels.is_empty() => {
                let message = format!("the Service {name} has no selector: set spec.workloadSelector.labels");
                Some(Verdict::new(reasons::SERVICE_WITHOUT_SELECTOR, message))
            }
            Some(_) => self.misfit(),
        }
    }

    fn misfit(self) -> Option<Verdict> {
        let namespace = &self.fence.namespace;
        if self.settings.defaults.system_namespaces.iter().any(|system| **system == **namespace) {
            let message = format!(
                "{namespace} is a namespace of the cluster or the mesh itself: nothing is fenced there"
            );
            return Some(Verdict::new(reasons::SYSTEM_NAMESPACE, message));
        }
        match fitness::pods(self.graph, self.fence) {
            Pods::Unfit(unfit) => Some(Verdict::new(unfit.reason(), unfit.message())),
            // A Sidecar that no pod has is a finding of `istioctl analyze` (IST0101). Once there, it stays: a
            // workload that is scaled to zero comes back to it.
            Pods::None if self.graph.standing_selector(self.fence).is_none() => {
                let message = "no pod has been there yet: the Sidecar comes with the first";
                Some(Verdict::new(reasons::NO_PODS, message))
            }
            Pods::Fit | Pods::None => None,
        }
    }
}
