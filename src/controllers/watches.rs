use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::cache::Cache;
use super::declarations;
use super::listed::Listed;
use super::mesh::{Mesh, Message};
use super::operator::until;
use super::pods::{self, Pod};
use super::{gateway_routes, hosts, sidecars, virtual_services};
use crate::api::ServiceFence;
use crate::fence::{facts, keep_writers};
use crate::graph::{self, Change, Graph, Labels, ObjectKey};
use crate::istio::{Installation, ServiceEntry, Sidecar, VirtualService};

/// The objects that decisions read in full.
#[derive(Debug)]
pub struct Caches {
    /// The fences.
    pub fences: Cache<ServiceFence>,
    /// The Sidecars, ours and others'.
    pub sidecars: Cache<Sidecar>,
}

impl Caches {
    /// Caches over the stores of watches.
    #[must_use]
    pub fn new(fences: Store<ServiceFence>, sidecars: Store<Sidecar>) -> Self {
        Self { fences: Cache::new(fences), sidecars: Cache::new(sidecars) }
    }
}

/// What a kind of object means for the graph.
pub(super) struct Kind<K> {
    pub(super) changed: fn(&K) -> Change,
    pub(super) gone: fn(ObjectKey) -> Change,
    pub(super) known: fn(&Graph) -> Vec<ObjectKey>,
}

/// How many objects are listed at a time. All kinds are listed at once when the operator starts, and what a page takes while it
/// is read is several times its own size, and the peak of the operator's memory: so it is small.
const PAGE: u32 = 100;

/// How many kinds are watched here.
pub(super) const KINDS: usize = 12;

/// Watches everything that decisions rest on, until `stop` is cancelled; `listed` hears once for each kind that
/// has been listed.
pub(super) fn start(
    client: &Client,
    mesh: &Mesh,
    istio: Installation,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
    listed: &mpsc::Sender<()>,
) -> Arc<Caches> {
    let (fences, fence_writer) = store();
    let (sidecars, sidecar_writer) = store();
    let caches = Arc::new(Caches::new(fences, sidecars));
    let ours = covered(guarded_events(client), istio);
    let fences = reflected(ours, fence_writer, caches.clone(), |caches| &caches.fences);
    let sidecars =
        reflected(guarded_events(client), sidecar_writer, caches.clone(), |caches| &caches.sidecars);
    let watches: [BoxFuture<'static, ()>; KINDS] = [
        follow(events(client), mesh.clone(), SERVICES, listed.clone()).boxed(),
        follow(guarded_events(client), mesh.clone(), SERVICE_ENTRIES, listed.clone()).boxed(),
        follow(guarded_events(client), mesh.clone(), VIRTUAL_SERVICES, listed.clone()).boxed(),
        follow(events(client), mesh.clone(), PODS, listed.clone()).boxed(),
        follow(events(client), mesh.clone(), NAMESPACES, listed.clone()).boxed(),
        follow(fences, mesh.clone(), FENCES, listed.clone()).boxed(),
        follow(sidecars, mesh.clone(), SIDECARS, listed.clone()).boxed(),
        follow(optional_events(client), mesh.clone(), declarations::POLICIES, listed.clone()).boxed(),
        follow(optional_events(client), mesh.clone(), gateway_routes::HTTP, listed.clone()).boxed(),
        follow(optional_events(client), mesh.clone(), gateway_routes::GRPC, listed.clone()).boxed(),
        follow(optional_events(client), mesh.clone(), gateway_routes::TCP, listed.clone()).boxed(),
        follow(optional_events(client), mesh.clone(), gateway_routes::TLS, listed.clone()).boxed(),
    ];
    for watch in watches {
        tasks.spawn(until(stop.clone(), watch));
    }
    caches
}

/// The events of a kind in all namespaces, with back-off and jitter after errors.
fn events<K>(client: &Client) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    results(client).filter_map(|event| std::future::ready(heard(event)))
}

fn results<K>(client: &Client) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().page_size(PAGE);
    watch(Api::<K>::all(client.clone()), config).default_backoff().map_ok(|mut event| {
        // Hardly anybody reads them, and they are often larger than the rest.
        if let Event::Apply(object) | Event::InitApply(object) = &mut event {
            if K::kind(&()) == Sidecar::kind(&()) {
                keep_writers(object.meta_mut());
            } else {
                object.meta_mut().managed_fields = None;
            }
        }
        event
    })
}

fn heard<K: Resource<DynamicType = ()>>(event: watcher::Result<Event<K>>) -> Option<Event<K>> {
    event.inspect_err(|error| warn!(kind = %K::kind(&()), %error, "watch failed; it starts again")).ok()
}

/// The same for custom resources, which an older definition may let in with a shape that we cannot read: such an
/// object is left alone, and does not stop the others.
fn guarded_events<K>(client: &Client) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    events::<DeserializeGuard<K>>(client).filter_map(|event| std::future::ready(readable(event)))
}

/// The same for a kind that a cluster need not serve: where it does not, there are no objects of it. It is looked again
/// and again, so one that is served later is noticed then.
pub(super) fn optional_events<K>(client: &Client) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = results::<DeserializeGuard<K>>(client);
    events.filter_map(|event| {
        std::future::ready(match event {
            Err(error) if is_not_served(&error) => Some(Event::InitDone),
            event => heard(event).and_then(readable),
        })
    })
}

fn is_not_served(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

fn readable<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let read = |guard: DeserializeGuard<K>| {
        let name = guard.meta().name.clone().unwrap_or_default();
        guard
            .0
            .inspect_err(|error| warn!(kind = %K::kind(&()), name, %error, "an object cannot be read"))
            .ok()
    };
    Some(match event {
        Event::Apply(object) => Event::Apply(read(object)?),
        Event::InitApply(object) => Event::InitApply(read(object)?),
        Event::Delete(object) => Event::Delete(read(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Leaves out what is of a revision that is not ours: others look after it.
pub(super) fn covered<K: ResourceExt + Send>(
    events: impl Stream<Item = Event<K>> + Send,
    istio: Installation,
) -> impl Stream<Item = Event<K>> + Send {
    only(events, move |object: &K| istio.covers(object.labels()))
}

/// Leaves out all but those that are `wanted`, as if they did not exist.
pub(super) fn only<K: Send>(
    events: impl Stream<Item = Event<K>> + Send,
    wanted: impl Fn(&K) -> bool + Send,
) -> impl Stream<Item = Event<K>> + Send {
    events.filter_map(move |event| {
        let event = match event {
            Event::Apply(object) if !wanted(&object) => Some(Event::Delete(object)),
            Event::InitApply(object) if !wanted(&object) => None,
            event => Some(event),
        };
        std::future::ready(event)
    })
}

/// Keeps a watch's objects in its cache before anybody hears of them.
pub(super) fn reflected<K, C>(
    events: impl Stream<Item = Event<K>> + Send,
    mut writer: Writer<K>,
    caches: Arc<C>,
    cache: fn(&C) -> &Cache<K>,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    events.inspect(move |event| {
        writer.apply_watcher_event(event);
        if let Event::Delete(object) = event {
            cache(&caches).forget(&ObjectKey::of(object));
        }
    })
}

/// Tells the graph's owner what a watch says; after a fresh listing also what is gone since the last one. `listed` hears
/// of the first one only.
pub(super) async fn follow<K: Resource + ResourceExt>(
    events: impl Stream<Item = Event<K>> + Send,
    mesh: Mesh,
    kind: Kind<K>,
    listed: mpsc::Sender<()>,
) {
    let mut events = std::pin::pin!(events);
    let (mut present, mut listed) = (HashSet::new(), Listed::new(listed));
    while let Some(event) = events.next().await {
        match event {
            Event::Init => present.clear(),
            Event::Apply(object) => mesh.tell(Message::Change((kind.changed)(&object))).await,
            Event::InitApply(object) => {
                present.insert(ObjectKey::of(&object));
                mesh.tell(Message::Change((kind.changed)(&object))).await;
            }
            Event::Delete(object) => mesh.tell(Message::Change((kind.gone)(ObjectKey::of(&object)))).await,
            Event::InitDone => {
                mesh.settled().await;
                for missing in (kind.known)(&mesh.graph()).into_iter().filter(|key| !present.contains(key)) {
                    mesh.tell(Message::Change((kind.gone)(missing))).await;
                }
                mesh.settled().await;
                present = HashSet::new();
                listed.say();
            }
        }
    }
}

const SERVICES: Kind<Service> = Kind {
    changed: |service| Change::Service(hosts::of_service(service)),
    gone: Change::ServiceGone,
    known: |graph| graph.registry().service_keys().cloned().collect(),
};

const SERVICE_ENTRIES: Kind<ServiceEntry> = Kind {
    changed: |entry| Change::ServiceEntry(hosts::of_entry(entry)),
    gone: Change::ServiceEntryGone,
    known: |graph| graph.registry().entry_keys().cloned().collect(),
};

const VIRTUAL_SERVICES: Kind<VirtualService> = Kind {
    changed: |service| Change::VirtualService(virtual_services::facts(service)),
    gone: Change::VirtualServiceGone,
    known: |graph| graph.virtual_service_keys().cloned().collect(),
};

const PODS: Kind<Pod> = Kind {
    changed: pods::changed,
    gone: Change::PodGone,
    known: |graph| graph.workloads().pod_keys().cloned().collect(),
};

/// Their metadata is enough. One that is about to go with all that is in it is as good as gone.
const NAMESPACES: Kind<PartialObjectMeta<Namespace>> = Kind {
    changed: |namespace| match namespace.meta().deletion_timestamp {
        Some(_) => Change::NamespaceGone(ObjectKey::of(namespace)),
        None => Change::Namespace(graph::Namespace {
            name: namespace.name_any().into(),
            labels: Labels::from(namespace.labels()),
        }),
    },
    gone: Change::NamespaceGone,
    known: |graph| graph.namespace_keys().collect(),
};

const FENCES: Kind<ServiceFence> = Kind {
    changed: |fence| Change::Fence(facts(fence)),
    gone: Change::FenceGone,
    known: |graph| graph.fence_keys().cloned().collect(),
};

const SIDECARS: Kind<Sidecar> = Kind {
    changed: sidecars::changed,
    gone: Change::SidecarGone,
    known: |graph| graph.sidecar_keys().collect(),
};

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_kind_that_is_listed_again_and_again_says_so_once() {
        let (mesh, owner, _triggers) = Mesh::new("cluster.local");
        let stop = CancellationToken::new();
        let owning = tokio::spawn(owner.run(stop.clone()));
        let (listed, mut heard) = mpsc::channel(16);
        let again = [Event::Init, Event::InitDone, Event::Init, Event::InitDone];
        Box::pin(follow(stream::iter(again), mesh, PODS, listed)).await;
        assert_eq!(heard.recv().await, Some(()));
        assert_eq!(heard.recv().await, None);
        stop.cancel();
        owning.await.unwrap();
    }
}
