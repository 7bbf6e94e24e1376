//! Namespaces: made for what is to be run, and ended with all that is in them.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::discovery::{ApiGroup, Discovery, Scope, verbs};

use super::{Mesh, bulk::AT_ONCE};
use crate::wait::until;

/// The longest that a namespace or its contents may take to go: fences are opened before.
const GONE: Duration = Duration::from_secs(150);

impl Mesh {
    /// Makes a namespace, whose pods get sidecars or only those that ask for one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, name: &str, injected: bool) -> Result<()> {
        let labels = if injected { "istio-injection: enabled" } else { "" };
        let namespace =
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}");
        self.apply(&namespace).await
    }

    /// Deletes namespaces, and waits until nothing is left in them.
    ///
    /// Kubernetes' own controller looks at a namespace only five seconds after its deletion, and once more five
    /// seconds after it was told that something is left. So what is in it is deleted here; the empty namespace goes
    /// later, by that controller.
    ///
    /// # Errors
    /// When the API server refuses, or something does not go in time.
    pub async fn delete_namespaces(&self, names: &[&str]) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for name in names {
            namespaces.delete(name, &DeleteParams::default()).await?;
        }
        let kinds = self.kinds().await?;
        let apis: Vec<Api<DynamicObject>> = names
            .iter()
            .flat_map(|name| kinds.iter().map(|kind| Api::namespaced_with(self.client.clone(), name, kind)))
            .collect();
        at_once(apis.iter().map(delete_all)).await?;
        at_once(apis.iter().map(until_none)).await
    }

    /// Waits until a namespace that is going is gone: nothing can be made in it before.
    ///
    /// # Errors
    /// When it does not go in time.
    pub(super) async fn until_not_going(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        until(&format!("the namespace {name} is gone"), GONE, async || {
            let found = namespaces.get_opt(name).await?;
            ensure!(found.is_none_or(|found| found.metadata.deletion_timestamp.is_none()), "not yet");
            Ok(())
        })
        .await
    }

    /// The kinds of what can be in a namespace.
    async fn kinds(&self) -> Result<Vec<ApiResource>> {
        let discovery = Discovery::new(self.client.clone()).run_aggregated().await?;
        let all = discovery.groups().flat_map(ApiGroup::recommended_resources);
        let deletable = all.filter(|(_, can)| {
            can.scope == Scope::Namespaced
                && can.supports_operation(verbs::DELETE_COLLECTION)
                && can.supports_operation(verbs::LIST)
        });
        Ok(deletable.map(|(kind, _)| kind).collect())
    }
}

async fn at_once(work: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    let work: Vec<_> = work.collect();
    stream::iter(work).buffer_unordered(AT_ONCE).try_collect().await
}

async fn delete_all(api: &Api<DynamicObject>) -> Result<()> {
    api.delete_collection(&DeleteParams::background(), &ListParams::default()).await.map(drop)?;
    Ok(())
}

async fn until_none(api: &Api<DynamicObject>) -> Result<()> {
    until(&format!("{} is empty", api.resource_url()), GONE, async || {
        let left = api.list_metadata(&ListParams::default().limit(1)).await?;
        let names: Vec<_> = left.items.iter().map(|object| object.metadata.name.as_deref()).collect();
        ensure!(names.is_empty(), "{names:?} is left");
        Ok(())
    })
    .await
}
