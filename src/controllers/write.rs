use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::Error;
use super::metrics::{Metrics, Written};
use crate::api::{ServiceFence, Transition};
use crate::fence::MANAGER;
use crate::fence::auto::REMEMBER;
use crate::istio::Sidecar;

/// How long the API server has to answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Keeps a fence until its workload has its full configuration back.
pub(super) const FINALIZER: &str = "palisade.io/open-first";

/// The writes of the controllers, each by server-side apply where the API has it.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) reporter: Reporter,
    pub(super) metrics: Metrics,
}

impl Writer {
    /// Puts our finalizer on a fence, or takes it off: server-side apply leaves those of others alone.
    pub(super) async fn hold(&self, fence: &ServiceFence, hold: bool) -> Result<ServiceFence, Error> {
        let finalizers = if hold { vec![FINALIZER] } else { Vec::new() };
        let patch = identify(fence, json!({ "finalizers": finalizers }));
        let (params, patch) = (PatchParams::apply("palisade-finalizer"), Patch::Apply(&patch));
        let api = self.fences(fence);
        let name = fence.name_any();
        let call = api.patch(&name, &params, &patch);
        self.attempt(Written::Finalizer, "change the fence's finalizer", call).await
    }

    /// Writes the status of a fence or a limiter.
    pub(super) async fn status<K>(&self, object: &K, status: &impl Serialize) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let mut patch = identify(object, json!({}));
        patch["status"] = json!(status);
        // The status is ours alone, so that an edit of it by hand does not stop us.
        let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&patch));
        let api = Api::<K>::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let name = object.name_any();
        let call = api.patch_status(&name, &params, &patch);
        self.attempt(Written::Status, "write a status", call).await
    }

    /// Applies a Sidecar, by force if it is the fence's already, or is to be: what others changed in it is drift and is
    /// repaired; else a conflict is an error, and nobody's Sidecar is taken over.
    pub(super) async fn sidecar(&self, sidecar: &Sidecar, force: bool) -> Result<Sidecar, Error> {
        let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
        let (api, patch) = (self.sidecars(sidecar), Patch::Apply(sidecar));
        let name = sidecar.name_any();
        let call = api.patch(&name, &params, &patch);
        let applied = self.attempt(Written::Sidecar, "apply the Sidecar", call).await?;
        match surplus_labels(&applied, sidecar) {
            Some(surplus) if force => {
                let action = "take others' labels off the Sidecar's selector";
                self.take_off((&api, &name), &surplus, Written::Sidecar, action).await
            }
            _ => Ok(applied),
        }
    }

    /// Takes off an object of ours what others have added to it, which server-side apply leaves, even by force. `surplus` is a
    /// merge patch.
    pub(super) async fn take_off<K: Clone + Debug + DeserializeOwned>(
        &self,
        (api, name): (&Api<K>, &str),
        surplus: &serde_json::Value,
        kind: Written,
        action: &'static str,
    ) -> Result<K, Error> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(surplus);
        self.attempt(kind, action, api.patch(name, &params, &patch)).await
    }

    /// Deletes a Sidecar in just the state that was decided upon.
    pub(super) async fn delete(&self, sidecar: &Sidecar) -> Result<(), Error> {
        let preconditions =
            Preconditions { uid: sidecar.uid(), resource_version: sidecar.resource_version() };
        let params = DeleteParams::default().preconditions(preconditions);
        let (api, name) = (self.sidecars(sidecar), sidecar.name_any());
        match self.attempt(Written::Sidecar, "delete the Sidecar", api.delete(&name, &params)).await {
            Err(Error::Api { source, .. }) if is_not_found(&source) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Tells a transition as an Event. A lost Event is no reason to try the rest again.
    pub(super) async fn event(&self, object: &impl Resource<DynamicType = ()>, transition: &Transition) {
        let type_ = if transition.warning { EventType::Warning } else { EventType::Normal };
        let event = Event {
            type_,
            reason: transition.reason.to_owned(),
            note: Some(transition.message.clone()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        // A new one each time: a recorder looks through all Events of the last minutes for each, to count repeated ones, and
        // transitions are told once.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let call = recorder.publish(&event, &reference);
        if let Err(error) = self.attempt(Written::Event, "publish an Event", call).await {
            tracing::warn!(object = %reference.name.unwrap_or_default(), %error, "an Event was lost");
        }
    }

    pub(super) async fn attempt<T>(
        &self,
        kind: Written,
        action: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let result = match tokio::time::timeout(TIMEOUT, call).await {
            Ok(result) => result.map_err(|source| Error::Api { action, source: Box::new(source) }),
            Err(_) => Err(Error::Timeout { action, time: TIMEOUT }),
        };
        self.metrics.wrote(kind, result.as_ref().err().map_or("ok", Error::category));
        result
    }

    pub(super) fn fences(&self, fence: &ServiceFence) -> Api<ServiceFence> {
        Api::namespaced(self.client.clone(), &fence.namespace().unwrap_or_default())
    }

    fn sidecars(&self, sidecar: &Sidecar) -> Api<Sidecar> {
        Api::namespaced(self.client.clone(), &sidecar.namespace().unwrap_or_default())
    }
}

/// Whether a fence cannot go without us.
pub(super) fn is_held(fence: &ServiceFence) -> bool {
    fence.finalizers().iter().any(|finalizer| [FINALIZER, REMEMBER].contains(&finalizer.as_str()))
}

/// The identity of an object in a patch. With its uid, a patch cannot create anew one that was deleted.
fn identify<K: Resource<DynamicType = ()>>(object: &K, more: serde_json::Value) -> serde_json::Value {
    let mut metadata = more;
    metadata["name"] = json!(object.name_any());
    metadata["uid"] = json!(object.uid());
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
    })
}

/// Takes the labels off that somebody added to our selector. Server-side apply, even by force, leaves them: each
/// entry of that map has its own owner (Istio's CRD does not call it atomic).
fn surplus_labels(applied: &Sidecar, desired: &Sidecar) -> Option<serde_json::Value> {
    let (applied, desired) =
        (applied.spec.workload_selector.as_ref()?, desired.spec.workload_selector.as_ref()?);
    let surplus = applied.labels.keys().filter(|label| !desired.labels.contains_key(*label));
    let gone: serde_json::Map<_, _> = surplus.map(|label| (label.clone(), json!(null))).collect();
    (!gone.is_empty()).then(|| json!({ "spec": { "workloadSelector": { "labels": gone } } }))
}

pub(super) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
