use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tracing::{info, warn};

use super::{Concerns, Deletions};
use crate::api::ServiceFence;
use crate::controllers::error::Error;
use crate::controllers::mesh::Mesh;
use crate::controllers::switch::Switch;
use crate::controllers::watches::Caches;
use crate::controllers::write::Writer;
use crate::fence::auto::{AutoInput, AutoPlan, FenceAction, Memory, plan};
use crate::graph::ObjectKey;
use crate::istio::Installation;

/// What the reconciler of automatic fences works with.
pub struct AutoContext {
    pub(super) concerns: Concerns,
    mesh: Mesh,
    caches: Arc<Caches>,
    switch: Switch,
    deletions: Arc<Deletions>,
    system_namespaces: Vec<String>,
    istio: Installation,
    writer: Writer,
    /// Since when the fence of a workload has no pod.
    vacant: Mutex<HashMap<ObjectKey, Timestamp>>,
}

impl AutoContext {
    /// What the reconciler works with, next to that of all fences.
    #[must_use]
    pub fn new(fences: &crate::controllers::Context, concerns: Concerns, deletions: Arc<Deletions>) -> Self {
        let (mesh, caches, switch, writer) = fences.parts();
        let settings = fences.settings();
        Self {
            concerns,
            mesh,
            caches,
            switch,
            deletions,
            system_namespaces: settings.defaults.system_namespaces.clone(),
            istio: settings.istio.clone(),
            writer,
            vacant: Mutex::default(),
        }
    }

    fn vacant(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Timestamp>> {
        self.vacant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the automatic fence `key` about, there or not, and tells when to look again.
///
/// # Errors
/// If a write failed; the next try starts from there.
pub async fn reconcile(key: &ObjectKey, context: &AutoContext) -> Result<Option<Timestamp>, Error> {
    let fence = context.caches.fences.get(key);
    let plan = plan(&AutoInput {
        key,
        fence: fence.as_deref(),
        deleted: context.deletions.get(key).as_deref(),
        vacant_since: context.vacant().get(key).copied(),
        graph: &context.mesh.graph(),
        settings: context.concerns.settings(),
        istio: &context.istio,
        system_namespaces: &context.system_namespaces,
        open_all: context.switch.open_all(),
        now: Timestamp::now(),
    });
    match plan.vacant_since {
        Some(since) => drop(context.vacant().insert(key.clone(), since)),
        None => drop(context.vacant().remove(key)),
    }
    context.remember(key, &plan).await?;
    context.carry_out(key, fence.as_deref(), &plan).await?;
    Ok(plan.wake)
}

impl AutoContext {
    /// A deletion is noted before the fence may go.
    async fn remember(&self, key: &ObjectKey, plan: &AutoPlan) -> Result<(), Error> {
        match &plan.memory {
            Memory::Keep => Ok(()),
            Memory::Remember(_) if self.deletions.is_full() => {
                warn!(fence = %key, "too many deleted fences are remembered already: it will come back");
                Ok(())
            }
            Memory::Remember(subject) => {
                self.writer.deletion(&self.deletions, key, Some(subject)).await?;
                info!(fence = %key, "an automatic fence was deleted; it is not created again");
                Ok(())
            }
            Memory::Forget => self.writer.deletion(&self.deletions, key, None).await,
        }
    }

    async fn carry_out(
        &self,
        key: &ObjectKey,
        fence: Option<&ServiceFence>,
        plan: &AutoPlan,
    ) -> Result<(), Error> {
        let released = match fence.filter(|_| plan.release) {
            Some(fence) => Some(self.release(key, fence).await?),
            None => None,
        };
        match (&plan.fence, released.as_ref().or(fence)) {
            (FenceAction::Apply(desired), current) => self.apply(key, desired, current.is_some()).await,
            (FenceAction::Disown, Some(fence)) => {
                self.caches.fences.wrote(key, self.writer.disown(fence).await?);
                info!(fence = %key, "an automatic fence is its user's now, and stays when its Service goes");
                Ok(())
            }
            (FenceAction::Delete, Some(fence)) => {
                match self.writer.delete_fence(fence).await {
                    Err(error) if !error.is_gone() => return Err(error),
                    _ => info!(fence = %key, "an automatic fence is deleted: nothing asks for it any more"),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn release(&self, key: &ObjectKey, fence: &ServiceFence) -> Result<ServiceFence, Error> {
        let released = self.writer.release(fence).await?;
        self.caches.fences.wrote(key, released.clone());
        Ok(released)
    }

    async fn apply(&self, key: &ObjectKey, fence: &ServiceFence, exists: bool) -> Result<(), Error> {
        match self.writer.auto_fence(fence).await {
            Ok(applied) => self.caches.fences.wrote(key, applied),
            // A user has it in hand.
            Err(error) if exists && error.category() == "conflict" => return Ok(()),
            Err(error) => return Err(error),
        }
        info!(fence = %key, exists, "an automatic fence was applied");
        Ok(())
    }
}
