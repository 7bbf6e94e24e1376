//! `ConfigMap`s and Secrets that Pods refer to.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

/// What a `ConfigMap` or a Secret holds, by key.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Reads the objects of one namespace.
#[derive(Clone)]
pub(super) struct Objects {
    client: Client,
    namespace: String,
}

impl Objects {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// A `ConfigMap`'s data; `None` when it does not exist and is optional.
    ///
    /// # Errors
    /// When it cannot be read, or does not exist and is not optional.
    pub(super) async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<Data>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(found) = api.get_opt(name).await.with_context(|| format!("configmap {name:?}"))? else {
            return missing("configmap", name, optional);
        };
        let text = found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = found.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Ok(Some(text.chain(binary).collect()))
    }

    /// A Secret's data; `None` when it does not exist and is optional.
    ///
    /// # Errors
    /// When it cannot be read, or does not exist and is not optional.
    pub(super) async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<Data>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(found) = api.get_opt(name).await.with_context(|| format!("secret {name:?}"))? else {
            return missing("secret", name, optional);
        };
        Ok(Some(found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()))
    }
}

fn missing(kind: &str, name: &str, optional: Option<bool>) -> Result<Option<Data>> {
    if optional == Some(true) { Ok(None) } else { Err(anyhow!("{kind} {name:?} not found")) }
}
