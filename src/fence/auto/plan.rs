use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::wish::{Wish, wish};
use super::{AutoFence, CREATED_BY, FENCE_CONTROLLER, REMEMBER};
use crate::api::{ServiceFence, ServiceFenceSpec, WorkloadSelector};
use crate::fence::{MANAGED_BY, MANAGER, is_ours};
use crate::graph::{Graph, ObjectKey};
use crate::istio::{Installation, REVISION};

/// How long the last pod of a workload's fence must be gone before the fence goes: longer than a rolling update
/// or a pause takes.
pub const VACANCY: SignedDuration = SignedDuration::from_mins(10);
/// What stands for a workload in the memory of deletions, where a Service has its uid.
const WORKLOAD: &str = "workload";

/// All that a decision about one automatic fence rests on.
#[derive(Clone, Copy, Debug)]
pub struct AutoInput<'a> {
    /// The fence's namespace and name, whether there is one or not.
    pub key: &'a ObjectKey,
    /// The fence as it stands.
    pub fence: Option<&'a ServiceFence>,
    /// What the fence was for that somebody deleted.
    pub deleted: Option<&'a str>,
    /// Since when the fence of a workload has no pod.
    pub vacant_since: Option<Timestamp>,
    /// What is known of the mesh.
    pub graph: &'a Graph,
    /// What the operator's configuration says.
    pub settings: &'a AutoFence,
    /// Which fences are ours.
    pub istio: &'a Installation,
    /// The namespaces in which nothing is fenced.
    pub system_namespaces: &'a [String],
    /// Whether all fences are open, before an uninstall or in an emergency: then none may need us to be deleted.
    pub open_all: bool,
    /// The time.
    pub now: Timestamp,
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoPlan {
    /// What to do with the memory of deletions.
    pub memory: Memory,
    /// Whether to take our finalizer off the fence.
    pub release: bool,
    /// What to do with the fence.
    pub fence: FenceAction,
    /// Since when the fence of a workload has no pod.
    pub vacant_since: Option<Timestamp>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// What to do with the memory of deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Nothing.
    #[default]
    Keep,
    /// Somebody deleted the fence of this: it is not created again.
    Remember(Arc<str>),
    /// It is no longer true.
    Forget,
}

/// What to do with a fence.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FenceAction {
    /// Nothing.
    #[default]
    Leave,
    /// Apply this one.
    Apply(Box<ServiceFence>),
    /// Take it from the Service that owns it.
    Disown,
    /// Delete it.
    Delete,
}

/// Decides about one automatic fence.
#[must_use]
pub fn plan(input: &AutoInput<'_>) -> AutoPlan {
    let wish = wish(input.graph, input.key, input.settings, input.system_namespaces);
    let subject = wish.as_ref().map(Wish::subject);
    let remembered = input.deleted.is_some() && input.deleted == subject.as_deref();
    let mut plan = input.decide(wish.as_ref(), remembered);
    // While the wish stands, a deletion is remembered, even if somebody has a fence of that name again.
    if input.deleted.is_some() && !remembered && plan.memory == Memory::Keep {
        plan.memory = Memory::Forget;
    }
    plan
}

/// A fence that is being deleted. We take our finalizer off before we delete one, so where it still is, somebody
/// else deletes: the user, or garbage collection after the Service went.
fn going(fence: &ServiceFence, wish: Option<&Wish<'_>>) -> AutoPlan {
    let held = is_held(fence);
    let deleted = wish.filter(|wish| held && wish.is_of(fence));
    let memory = deleted.map_or(Memory::Keep, |wish| Memory::Remember(wish.subject()));
    AutoPlan { memory, release: held, ..AutoPlan::default() }
}

/// Our finalizer goes first, so that the deletion is not taken for a user's.
fn delete(fence: &ServiceFence) -> AutoPlan {
    AutoPlan { release: is_held(fence), fence: FenceAction::Delete, ..AutoPlan::default() }
}

/// A fence that its user has taken from us: it does not go with the Service. We still hear of its deletion.
fn disown(fence: &ServiceFence) -> AutoPlan {
    let was_ours = is_held(fence) || is_ours(fence);
    let owned = was_ours && fence.owner_references().iter().any(|owner| is_its_service(owner, fence));
    AutoPlan { fence: if owned { FenceAction::Disown } else { FenceAction::Leave }, ..AutoPlan::default() }
}

/// Whether an owner is the Service of a fence's name.
#[must_use]
pub fn is_its_service(owner: &OwnerReference, fence: &ServiceFence) -> bool {
    owner.api_version == "v1" && owner.kind == "Service" && owner.name == fence.name_any()
}

fn is_automatic(fence: &ServiceFence) -> bool {
    fence.labels().get(CREATED_BY).is_some_and(|by| by == FENCE_CONTROLLER)
}

fn is_held(fence: &ServiceFence) -> bool {
    fence.finalizers().iter().any(|finalizer| finalizer == REMEMBER)
}

impl Wish<'_> {
    /// What the memory of deletions says of it: a new Service of the same name is another.
    fn subject(&self) -> Arc<str> {
        match self {
            Self::Service(service) => service.uid.clone(),
            Self::Workload { .. } => WORKLOAD.into(),
        }
    }

    /// Whether a fence is for just this, and not for an earlier Service of the same name.
    fn is_of(&self, fence: &ServiceFence) -> bool {
        match self {
            Self::Service(service) => fence
                .owner_references()
                .iter()
                .all(|owner| owner.kind != "Service" || *owner.uid == *service.uid),
            Self::Workload { .. } => true,
        }
    }

    fn selector(&self) -> WorkloadSelector {
        match self {
            Self::Service(_) => WorkloadSelector { from_service: true, ..WorkloadSelector::default() },
            Self::Workload { key, value } => WorkloadSelector {
                labels: BTreeMap::from([((*key).to_owned(), (*value).to_owned())]),
                from_service: false,
            },
        }
    }

    fn owner(&self) -> Option<OwnerReference> {
        let Self::Service(service) = self else { return None };
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            name: service.key.name.to_string(),
            uid: service.uid.to_string(),
            ..OwnerReference::default()
        })
    }
}

impl AutoInput<'_> {
    fn decide(&self, wish: Option<&Wish<'_>>, remembered: bool) -> AutoPlan {
        let Some(fence) = self.fence else {
            let open = remembered || self.open_all;
            let wish = wish.filter(|wish| !open && wish.has_pods(self.graph, &self.key.namespace));
            let fence = wish.map(|wish| self.apply(wish, None)).unwrap_or_default();
            return AutoPlan { fence, ..AutoPlan::default() };
        };
        match wish {
            _ if fence.meta().deletion_timestamp.is_some() => going(fence, wish),
            _ if is_held(fence) && (self.open_all || !self.istio.covers(fence.labels())) => {
                AutoPlan { release: true, ..AutoPlan::default() }
            }
            _ if !is_automatic(fence) => disown(fence),
            Some(wish) => self.keep(fence, wish),
            // Switched off, we still delete what we created; what Slime did stays.
            None if self.settings.enabled || is_ours(fence) => delete(fence),
            None => AutoPlan::default(),
        }
    }

    /// An automatic fence that is wished for: it stays, unless its workload has left.
    fn keep(&self, fence: &ServiceFence, wish: &Wish<'_>) -> AutoPlan {
        let vacant = matches!(wish, Wish::Workload { .. }) && !wish.has_pods(self.graph, &self.key.namespace);
        if !vacant {
            return AutoPlan { fence: self.apply(wish, Some(fence)), ..AutoPlan::default() };
        }
        let since = self.vacant_since.unwrap_or(self.now);
        let end = since + VACANCY;
        if self.now < end {
            return AutoPlan { vacant_since: Some(since), wake: Some(end), ..AutoPlan::default() };
        }
        delete(fence)
    }

    /// The fence that is wished for. What a user changed in its spec is the user's.
    fn apply(&self, wish: &Wish<'_>, current: Option<&ServiceFence>) -> FenceAction {
        // A fence that is there keeps its mode: it may be Slime's, which has enforced all the time.
        let mode = current.map_or(Some(self.settings.mode), |current| current.spec.mode);
        let workload_selector = Some(wish.selector());
        let spec = ServiceFenceSpec { enable: true, workload_selector, mode, ..Default::default() };
        let mut fence = ServiceFence::new(&self.key.name, spec);
        fence.metadata.namespace = Some(self.key.namespace.to_string());
        fence.metadata.finalizers = (!self.open_all).then(|| vec![REMEMBER.to_owned()]);
        fence.metadata.owner_references = wish.owner().map(|owner| vec![owner]);
        let revision = self.settings.revision.clone().map(|revision| (REVISION.to_owned(), revision));
        let marks = [(CREATED_BY, FENCE_CONTROLLER), (MANAGED_BY, MANAGER)];
        let marks = marks.map(|(key, value)| (key.to_owned(), value.to_owned()));
        fence.metadata.labels = Some(marks.into_iter().chain(revision).collect());
        if current.is_some_and(|current| is_up_to_date(current, &fence)) {
            return FenceAction::Leave;
        }
        // With its uid, a fence that was deleted meanwhile is not created anew.
        fence.metadata.uid = current.and_then(ResourceExt::uid);
        FenceAction::Apply(Box::new(fence))
    }
}

fn is_up_to_date(current: &ServiceFence, desired: &ServiceFence) -> bool {
    desired.finalizers().iter().all(|finalizer| current.finalizers().contains(finalizer))
        && desired.labels().iter().all(|(key, value)| current.labels().get(key) == Some(value))
        && desired.owner_references().iter().all(|owner| current.owner_references().contains(owner))
}
