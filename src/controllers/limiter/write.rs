use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::controllers::error::Error;
use crate::controllers::metrics::Written;
use crate::controllers::write::{Writer, is_not_found};
use crate::fence::MANAGER;
use crate::istio::{EnvoyFilter, REVISION, revision};

impl Writer {
    /// Applies an `EnvoyFilter`, by force if it is the limiter's already; else a conflict is an error.
    pub(super) async fn filter(&self, filter: &EnvoyFilter, force: bool) -> Result<EnvoyFilter, Error> {
        let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
        let (api, name, patch) = (self.filters(filter), filter.name_any(), Patch::Apply(filter));
        let call = api.patch(&name, &params, &patch);
        let mut applied = self.attempt(Written::EnvoyFilter, "apply an EnvoyFilter", call).await?;
        // It would keep istiods from reading it.
        if revision(&applied).is_some() && revision(filter).is_none() {
            let surplus = json!({ "metadata": { "labels": { REVISION: null } } });
            let action = "take others' revision off an EnvoyFilter";
            applied = self.take_off((&api, &name), &surplus, Written::EnvoyFilter, action).await?;
        }
        applied.metadata.managed_fields = None;
        Ok(applied)
    }

    /// Deletes an `EnvoyFilter`, and no other of its name.
    pub(super) async fn delete_filter(&self, filter: &EnvoyFilter) -> Result<(), Error> {
        let preconditions = Preconditions { uid: filter.uid(), ..Preconditions::default() };
        let params = DeleteParams::default().preconditions(preconditions);
        let (api, name) = (self.filters(filter), filter.name_any());
        let call = api.delete(&name, &params);
        match self.attempt(Written::EnvoyFilter, "delete an EnvoyFilter", call).await {
            Err(Error::Api { source, .. }) if is_not_found(&source) => Ok(()),
            result => result.map(drop),
        }
    }

    fn filters(&self, filter: &EnvoyFilter) -> Api<EnvoyFilter> {
        Api::namespaced(self.client.clone(), &filter.namespace().unwrap_or_default())
    }
}
