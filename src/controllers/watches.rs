use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{Store, store};
use kube::{Resource, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::operator::until;
use super::pods::{self, Pod};
use super::watch::{Kind, Watch, covered, only, reflected};
use super::write::is_held;
use super::{control_plane, declarations, gateway_routes, hosts, sidecars, virtual_services};
use crate::api::ServiceFence;
use crate::fence::{facts, is_ours};
use crate::graph::{self, Change, Labels, ObjectKey};
use crate::istio::{EnvoyFilter, Installation, ServiceEntry, Sidecar, VirtualService};

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

/// How many kinds are watched here.
pub(super) const KINDS: usize = 16;

/// Watches everything that decisions rest on, until `stop` is cancelled.
pub(super) fn start(
    watch: &Watch,
    istio: Installation,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Arc<Caches> {
    let (fences, fence_writer) = store();
    let (sidecars, sidecar_writer) = store();
    let caches = Arc::new(Caches::new(fences, sidecars));
    let istiods = covered(watch.selected_events(control_plane::SELECTOR), istio.clone());
    // One that was ours is looked after until its workload is open: nobody else would take our finalizers off.
    let ours = only(watch.guarded_events(), move |fence: &ServiceFence| {
        istio.covers(fence.labels()) || is_held(fence)
    });
    let fences = reflected(ours, fence_writer, caches.clone(), |caches| &caches.fences);
    let sidecars = watch.guarded_events();
    let sidecars = reflected(sidecars, sidecar_writer, caches.clone(), |caches| &caches.sidecars);
    let extensions = only(watch.guarded_events(), |filter: &EnvoyFilter| !is_ours(filter));
    let watches: [BoxFuture<'static, ()>; KINDS] = [
        watch.follow(watch.events(), SERVICES),
        watch.follow(watch.guarded_events(), SERVICE_ENTRIES),
        watch.follow(watch.guarded_events(), VIRTUAL_SERVICES),
        watch.follow(watch.streamed_events(), PODS),
        watch.follow(watch.events(), NAMESPACES),
        watch.follow(fences, FENCES),
        watch.follow(sidecars, SIDECARS),
        watch.follow(istiods, control_plane::ISTIODS),
        watch.follow(watch.events(), control_plane::ENDPOINTS),
        watch.follow(watch.optional_events(), declarations::POLICIES),
        watch.follow(watch.guarded_events(), declarations::DESTINATION_RULES),
        watch.follow(extensions, declarations::EXTENSIONS),
        watch.follow(watch.optional_events(), gateway_routes::HTTP),
        watch.follow(watch.optional_events(), gateway_routes::GRPC),
        watch.follow(watch.optional_events(), gateway_routes::TCP),
        watch.follow(watch.optional_events(), gateway_routes::TLS),
    ];
    for watch in watches {
        tasks.spawn(until(stop.clone(), watch));
    }
    caches
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
