//! Writes the `ServiceEntry`s of external hosts.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::mpsc;
use tracing::info;

use super::error::Error;
use super::mesh::{Mesh, Message};
use super::metrics::Written;
use super::named::Named;
use super::service_fence::Context;
use super::watches::Caches;
use super::work_queue::work;
use super::write::{Writer, is_not_found};
use crate::fence::{EntryAction, MANAGER, entries};
use crate::graph::{Change, Graph, MeshConfig, ObjectKey, PassedThrough};
use crate::istio::ServiceEntry;
use crate::sources::Observer;

/// The namespaces whose entries are to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(Named);

/// A namespace, as what is looked at.
fn whole(namespace: Arc<str>) -> ObjectKey {
    ObjectKey { namespace, name: "".into() }
}

impl Namespaces {
    /// Notes those that a change concerns, which `graph` is about to take in.
    pub(super) fn note(&self, graph: &Graph, change: &Change) {
        self.0.note(graph.external_namespaces(change).into_iter().map(whole));
    }

    /// Has those looked at that were noted, and those of fences to which something made a difference: the graph is
    /// published. A namespace without external hosts costs nothing.
    pub(super) fn publish(&self, graph: &Graph, touched: &BTreeSet<ObjectKey>) {
        let touched = touched.iter().map(|fence| whole(fence.namespace.clone()));
        let all: BTreeSet<_> = self.0.take_noted().into_iter().chain(touched).collect();
        self.0.add(all.into_iter().filter(|key| graph.has_external_hosts(&key.namespace)));
    }
}

/// What the writer of entries works with.
pub struct Entries {
    mesh: Mesh,
    caches: Arc<Caches>,
    writer: Writer,
    namespaces: Named,
}

/// How many connections that were passed through may wait. Those beyond are dropped: the next one comes.
const QUEUE: usize = 1024;

/// Takes connections that were passed through to the graph's owner.
async fn hand_over(mut calls: mpsc::Receiver<PassedThrough>, mesh: Mesh) {
    while let Some(call) = calls.recv().await {
        mesh.tell(Message::Change(Change::PassedThrough(call, Timestamp::now()))).await;
    }
}

impl Entries {
    /// What is shared with the reconciler of fences.
    #[must_use]
    pub fn new(context: &Context, namespaces: Namespaces) -> Self {
        let (mesh, caches, _, writer) = context.parts();
        Self { mesh, caches, writer, namespaces: namespaces.0 }
    }

    /// Has `observer` hand over what is passed through, and writes entries, without end.
    pub(super) fn writing(self, observer: &mut Observer) -> impl Future<Output = ()> + Send + use<> {
        let (queue, calls) = mpsc::channel(QUEUE);
        observer.passed_through = Some(queue);
        async move {
            let mesh = self.mesh.clone();
            tokio::join!(hand_over(calls, mesh), self.run());
        }
    }

    /// Brings the entries of namespaces about, without end.
    async fn run(self) {
        // What was there before we started to lead.
        let before = self.mesh.graph().external_namespaces(&Change::MeshConfig(MeshConfig::default()));
        self.namespaces.add(before.into_iter().map(whole));
        let keys = self.namespaces.stream();
        let reconcile = |key: ObjectKey, _| {
            let entries = &self;
            async move { entries.reconcile(&key.namespace).await.map(|()| None::<Timestamp>) }
        };
        work("a namespace's ServiceEntries of external hosts", keys, reconcile).await;
    }

    /// Brings the entries of one namespace about.
    ///
    /// # Errors
    /// If a write failed: the first such error. All others were tried as well.
    pub async fn reconcile(&self, namespace: &str) -> Result<(), Error> {
        let mut result = Ok(());
        for action in self.decide(namespace, &self.mesh.graph()) {
            let done = match action {
                EntryAction::Apply(entry) => self.writer.entry(&entry).await,
                EntryAction::Delete(key) => self.writer.delete_entry(&key).await,
            };
            result = result.and(done);
        }
        result
    }

    fn decide(&self, namespace: &str, graph: &Graph) -> Vec<EntryAction> {
        let sidecars: Vec<_> =
            graph.fences_in(namespace).filter_map(|fence| self.caches.sidecars.get(fence)).collect();
        let is_listed = |host: &str| {
            let listeners = sidecars.iter().flat_map(|sidecar| &sidecar.spec.egress);
            listeners.flat_map(|listener| &listener.hosts).any(|listed| listed == host)
        };
        entries(namespace, graph, |fence| self.owner(fence), is_listed)
    }

    fn owner(&self, fence: &ObjectKey) -> Option<OwnerReference> {
        self.caches.fences.get(fence)?.owner_ref(&())
    }
}

impl Writer {
    /// Applies an entry, never by force: what somebody else has written under its name stays.
    async fn entry(&self, entry: &ServiceEntry) -> Result<(), Error> {
        let (api, name) = (self.entries(&entry.namespace().unwrap_or_default()), entry.name_any());
        let (params, patch) = (PatchParams::apply(MANAGER), Patch::Apply(entry));
        let call = api.patch(&name, &params, &patch);
        self.attempt(Written::ServiceEntry, "apply a ServiceEntry", call).await?;
        info!(entry = %ObjectKey::of(entry), ports = ?entry.spec.ports, "an external host has a ServiceEntry");
        Ok(())
    }

    async fn delete_entry(&self, key: &ObjectKey) -> Result<(), Error> {
        let (api, params) = (self.entries(&key.namespace), DeleteParams::default());
        let call = api.delete(&key.name, &params);
        match self.attempt(Written::ServiceEntry, "delete a ServiceEntry", call).await {
            Err(Error::Api { source, .. }) if is_not_found(&source) => Ok(()),
            result => result
                .map(|_| info!(entry = %key, "no fence needs the ServiceEntry of an external host any more")),
        }
    }

    fn entries(&self, namespace: &str) -> Api<ServiceEntry> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
