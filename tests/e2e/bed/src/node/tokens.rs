//! Service account tokens for projected volumes.

use std::{collections::HashMap, sync::Mutex, sync::PoisonError};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection},
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};

/// The tokens of one Pod: asked for once, and again when a fifth of their life is left, as the kubelet does.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    held: Mutex<HashMap<(String, i64), Held>>,
}

#[derive(Clone, Debug)]
struct Held {
    token: String,
    renew_at: Timestamp,
}

/// The lifetime that Kubernetes gives a projected token that names none.
const DEFAULT_LIFETIME: i64 = 3600;

impl Tokens {
    /// A token bound to the Pod, for the audience and lifetime that `projection` asks for.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub(super) async fn get(
        &self,
        client: &Client,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<String> {
        let lifetime = projection.expiration_seconds.unwrap_or(DEFAULT_LIFETIME);
        let key = (projection.audience.clone().unwrap_or_default(), lifetime);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(held) = held.filter(|held| Timestamp::now() < held.renew_at) {
            return Ok(held.token);
        }
        let fresh = request(client, pod, &key.0, lifetime).await?;
        let token = fresh.token.clone();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key, fresh);
        Ok(token)
    }
}

async fn request(client: &Client, pod: &Pod, audience: &str, lifetime: i64) -> Result<Held> {
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let api: Api<ServiceAccount> =
        Api::namespaced(client.clone(), &pod.namespace().context("a Pod has a namespace")?);
    let wanted = TokenRequest {
        spec: TokenRequestSpec {
            audiences: if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] },
            expiration_seconds: Some(lifetime),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let answer = api
        .create_token_request(account, &PostParams::default(), &wanted)
        .await
        .with_context(|| format!("token of service account {account:?}"))?;
    let status = answer.status.context("the API server gave no token")?;
    let now = Timestamp::now();
    let left = status.expiration_timestamp.0.duration_since(now);
    let renew_at = now.checked_add(left * 4 / 5).unwrap_or(now);
    Ok(Held { token: status.token, renew_at })
}
