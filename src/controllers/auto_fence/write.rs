use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::deletions::{Deletions, entry};
use crate::api::ServiceFence;
use crate::controllers::error::Error;
use crate::controllers::metrics::Written;
use crate::controllers::write::{Writer, is_not_found};
use crate::fence::auto::{REMEMBER, is_its_service};
use crate::graph::ObjectKey;

/// Our field manager here.
const MANAGER: &str = "palisade-autofence";

impl Writer {
    /// Applies an automatic fence, never by force: what a user changed stays.
    pub(super) async fn auto_fence(&self, fence: &ServiceFence) -> Result<ServiceFence, Error> {
        let (api, name) = (self.fences(fence), fence.name_any());
        let (params, patch) = (PatchParams::apply(MANAGER), Patch::Apply(fence));
        let call = api.patch(&name, &params, &patch);
        self.attempt(Written::Fence, "apply an automatic fence", call).await
    }

    /// Takes our finalizer off a fence.
    pub(super) async fn release(&self, fence: &ServiceFence) -> Result<ServiceFence, Error> {
        let others: Vec<_> = fence.finalizers().iter().filter(|finalizer| *finalizer != REMEMBER).collect();
        self.edit(fence, Written::Finalizer, "release a fence", json!({ "finalizers": others })).await
    }

    /// Takes a fence from the Service that owns it.
    pub(super) async fn disown(&self, fence: &ServiceFence) -> Result<ServiceFence, Error> {
        let owners = fence.owner_references().iter();
        let others: Vec<_> = owners.filter(|owner| !is_its_service(owner, fence)).collect();
        self.edit(fence, Written::Fence, "disown a fence", json!({ "ownerReferences": others })).await
    }

    /// Changes lists in the metadata of a fence, in just the state that was decided upon: an apply would take away as well
    /// what else we own.
    async fn edit(
        &self,
        fence: &ServiceFence,
        kind: Written,
        action: &'static str,
        mut metadata: Value,
    ) -> Result<ServiceFence, Error> {
        metadata["resourceVersion"] = json!(fence.resource_version());
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let (api, name) = (self.fences(fence), fence.name_any());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let call = api.patch(&name, &params, &patch);
        self.attempt(kind, action, call).await
    }

    /// Deletes a fence, and no other of its name.
    pub(super) async fn delete_fence(&self, fence: &ServiceFence) -> Result<(), Error> {
        let params = DeleteParams::default()
            .preconditions(Preconditions { uid: fence.uid(), ..Preconditions::default() });
        let (api, name) = (self.fences(fence), fence.name_any());
        let call = api.delete(&name, &params);
        self.attempt(Written::Fence, "delete an automatic fence", call).await.map(drop)
    }

    /// Notes for what the fence `key` was that somebody deleted, or takes that out.
    pub(super) async fn deletion(
        &self,
        deletions: &Deletions,
        key: &ObjectKey,
        subject: Option<&str>,
    ) -> Result<(), Error> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &deletions.key.namespace);
        let name = &*deletions.key.name;
        let data = json!({ "data": { entry(key): subject } });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&data);
        let call = api.patch(name, &params, &patch);
        let written = match self.attempt(Written::Deletions, "note a deletion", call).await {
            Err(Error::Api { source, .. }) if is_not_found(&source) => match subject {
                Some(subject) => self.first_deletion(&api, name, key, subject).await?,
                None => return Ok(()),
            },
            result => result?,
        };
        deletions.cache.wrote(&deletions.key, written);
        Ok(())
    }

    async fn first_deletion(
        &self,
        api: &Api<ConfigMap>,
        name: &str,
        key: &ObjectKey,
        subject: &str,
    ) -> Result<ConfigMap, Error> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.data = Some([(entry(key), subject.to_owned())].into());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let call = api.create(&params, &map);
        self.attempt(Written::Deletions, "create the ConfigMap of deletions", call).await
    }
}
