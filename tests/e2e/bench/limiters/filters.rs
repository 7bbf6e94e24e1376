//! The `EnvoyFilter`s of limiters, and what their buckets hold.

use std::collections::HashSet;

use anyhow::Result;
use bed::mesh::Mesh;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt as _};

use crate::watch::Watch;

pub(super) struct Filters(Watch);

impl Filters {
    pub(super) async fn watch(mesh: &Mesh) -> Result<Self> {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1alpha3", "EnvoyFilter");
        let api = Api::all_with(mesh.client().clone(), &ApiResource::from_gvk(&kind));
        Ok(Self(Watch::begin(api).await?))
    }

    /// Waits until so many have been written, each with one bucket of so many tokens.
    pub(super) async fn until_written(&mut self, count: usize, tokens: u64) -> Result<()> {
        let mut written = HashSet::new();
        while written.len() < count {
            let filter = self.0.next().await?;
            if buckets(&filter) == [tokens] {
                written.insert(filter.name_any());
            }
        }
        Ok(())
    }

    /// Waits until this one is written with one bucket of so many tokens.
    pub(super) async fn until_has(&mut self, name: &str, tokens: u64) -> Result<()> {
        loop {
            let filter = self.0.next().await?;
            if filter.name_any() == name && buckets(&filter) == [tokens] {
                return Ok(());
            }
        }
    }
}

/// What the buckets of all descriptors hold.
fn buckets(filter: &DynamicObject) -> Vec<u64> {
    let patches = filter.data["spec"]["configPatches"].as_array();
    let configs = patches.into_iter().flatten().map(|patch| &patch["patch"]["value"]["typed_config"]);
    let descriptors = configs.flat_map(|config| config["descriptors"].as_array().into_iter().flatten());
    descriptors.filter_map(|descriptor| descriptor["token_bucket"]["max_tokens"].as_u64()).collect()
}
