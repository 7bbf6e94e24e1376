//! Many objects at once.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};

use super::Mesh;

/// How many requests are under way at once.
pub(super) const AT_ONCE: usize = 16;

impl Mesh {
    /// Creates namespaced objects, many at once: `kubectl` takes minutes for thousands.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn create(&self, manifests: &str) -> Result<()> {
        let objects: Vec<DynamicObject> =
            manifests.split("\n---\n").map(serde_saphyr::from_str).collect::<Result<_, _>>()?;
        let creations = objects.iter().map(|object| self.create_one(object));
        stream::iter(creations.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    async fn create_one(&self, object: &DynamicObject) -> Result<()> {
        let types = object.types.as_ref().context("an object without a kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let namespace = object.metadata.namespace.as_deref().context("an object without a namespace")?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        api.create(&PostParams::default(), object).await.map(drop)?;
        Ok(())
    }
}
