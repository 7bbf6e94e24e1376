use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use crate::fence::keep_writers;
use crate::graph::ObjectKey;
use crate::istio::Sidecar;

/// A watch's cache that also knows our own writes, which the watch shows only a moment later. Without it, a
/// decision made in that moment would be made on the state before our last write, and write it again.
pub struct Cache<K: Resource + 'static>
where
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    written: Mutex<HashMap<ObjectKey, Written<K>>>,
    /// The latest version that the watch has shown, of any object.
    shown: AtomicU64,
}

/// Takes the managed fields off an object, which are often larger than the rest, but for what decisions rest on.
pub(super) fn trim<K: Resource<DynamicType = ()>>(object: &mut K) {
    if K::kind(&()) == Sidecar::kind(&()) {
        keep_writers(object.meta_mut());
    } else {
        object.meta_mut().managed_fields = None;
    }
}

enum Written<K> {
    Object(Arc<K>),
    Deleted { version: u64 },
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    /// A cache over the store of a watch.
    #[must_use]
    pub fn new(store: Store<K>) -> Self {
        Self { store, written: Mutex::default(), shown: AtomicU64::default() }
    }

    /// The newest state known of an object. Lets go of what we wrote of it, once the watch shows as much.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let (mut written, watched) = (self.written(), self.watched(key));
        match written.get(key) {
            Some(news) if news.is_news(watched.as_deref()) => match news {
                Written::Object(object) => Some(object.clone()),
                Written::Deleted { .. } => None,
            },
            Some(_) => {
                written.remove(key);
                watched
            }
            None => watched,
        }
    }

    fn watched(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The store of the watch itself.
    #[must_use]
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// Notes what the API server answered to a write of ours.
    pub fn wrote(&self, key: &ObjectKey, mut object: K) {
        trim(&mut object);
        // An object that is being deleted goes with its last finalizer, and the watch may have said so already.
        if object.meta().deletion_timestamp.is_some() && object.finalizers().is_empty() {
            return self.deleted(key, &object);
        }
        let mut written = self.written();
        // Of two writes at a time, the answers may come in any order.
        let overtaken =
            matches!(written.get(key), Some(Written::Object(noted)) if newer(noted.as_ref(), Some(&object)));
        // What the watch is past and does not show is gone.
        let watched = self.watched(key);
        let gone = watched.is_none() && version(&object) <= self.shown.load(Ordering::Acquire);
        if !overtaken && !gone && newer(&object, watched.as_deref()) {
            written.insert(key.clone(), Written::Object(Arc::new(object)));
        }
    }

    /// Notes that we deleted an object in the state `last`.
    pub fn deleted(&self, key: &ObjectKey, last: &K) {
        self.written().insert(key.clone(), Written::Deleted { version: version(last) });
    }

    /// Notes what the watch shows, once the store has it.
    pub(super) fn show(&self, event: &Event<K>) {
        let (Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) = event else { return };
        self.shown.fetch_max(version(object), Ordering::AcqRel);
        match event {
            // So that what we wrote is not kept twice until somebody else looks.
            Event::Apply(_) => drop(self.get(&ObjectKey::of(object))),
            Event::Delete(_) => drop(self.written().remove(&ObjectKey::of(object))),
            _ => {}
        }
    }

    fn written(&self) -> MutexGuard<'_, HashMap<ObjectKey, Written<K>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: ResourceExt> Written<K> {
    /// Whether the watch does not show it yet.
    fn is_news(&self, watched: Option<&K>) -> bool {
        match self {
            Self::Object(object) => newer(object.as_ref(), watched),
            Self::Deleted { version: gone } => watched.is_some_and(|watched| version(watched) <= *gone),
        }
    }
}

impl<K: Resource + 'static> Debug for Cache<K>
where
    K::DynamicType: Eq + Hash + Clone,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// Whether our copy is newer than the watch's. Resource versions of one resource can be compared as numbers
/// (promised by Kubernetes since 1.35, and so with etcd ever since).
fn newer<K: ResourceExt>(own: &K, watched: Option<&K>) -> bool {
    watched.is_none_or(|watched| watched.uid() == own.uid() && version(own) > version(watched))
}

fn version<K: ResourceExt>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
    use kube::runtime::reflector::store;

    use super::*;
    use crate::api::{ServiceFence, ServiceFenceSpec};

    fn fence(version: &str, going: bool) -> ServiceFence {
        let mut fence = ServiceFence::new("client", ServiceFenceSpec::default());
        fence.metadata.namespace = Some("shop".to_owned());
        fence.metadata.resource_version = Some(version.to_owned());
        fence.metadata.deletion_timestamp = going.then_some(Time(jiff::Timestamp::UNIX_EPOCH));
        fence
    }

    #[test]
    fn what_we_wrote_is_kept_without_the_list_of_who_owns_which_field() {
        let (key, cache) = (ObjectKey::new("shop", "client"), Cache::new(store().0));
        let mut written = fence("2", false);
        written.metadata.managed_fields = Some(vec![ManagedFieldsEntry::default()]);
        cache.wrote(&key, written);
        assert_eq!(cache.get(&key).unwrap().metadata.managed_fields, None);
    }

    #[test]
    fn what_the_watch_shows_too_is_kept_once() {
        let (key, (fences, mut watch)) = (ObjectKey::new("shop", "client"), store());
        let cache = Cache::new(fences);
        let kept = || cache.written().len();
        cache.wrote(&key, fence("2", false));
        assert!(cache.get(&key).is_some());
        assert_eq!(kept(), 1, "the watch shows nothing yet");
        watch.apply_watcher_event(&Event::Apply(fence("2", false)));
        assert!(cache.get(&key).is_some());
        assert_eq!(kept(), 0);
        cache.wrote(&key, fence("2", false));
        assert_eq!(kept(), 0, "the watch was first");
    }

    #[test]
    fn what_went_with_its_last_finalizer_is_gone_whoever_says_so_first() {
        let key = ObjectKey::new("shop", "client");
        for watch_first in [true, false] {
            let (fences, mut watch) = store();
            let cache = Cache::new(fences);
            watch.apply_watcher_event(&Event::Apply(fence("1", false)));
            let mut gone = || {
                watch.apply_watcher_event(&Event::Delete(fence("3", true)));
                cache.show(&Event::Delete(fence("3", true)));
            };
            if watch_first {
                gone();
            }
            cache.wrote(&key, fence("2", true));
            assert!(cache.get(&key).is_none(), "the watch was first: {watch_first}");
            if !watch_first {
                gone();
            }
            assert!(cache.get(&key).is_none());
            watch.apply_watcher_event(&Event::Apply(fence("4", false)));
            assert!(cache.get(&key).is_some(), "another one of the same name");
        }
    }

    #[test]
    fn what_was_written_before_it_was_deleted_does_not_come_back_with_a_late_answer() {
        let (key, (fences, mut watch)) = (ObjectKey::new("shop", "client"), store());
        let cache = Cache::new(fences);
        let mut show = |event: Event<ServiceFence>| {
            watch.apply_watcher_event(&event);
            cache.show(&event);
        };
        show(Event::Apply(fence("1", false)));
        show(Event::Delete(fence("3", false)));
        cache.wrote(&key, fence("2", false));
        assert!(cache.get(&key).is_none());
        cache.wrote(&key, fence("4", false));
        assert!(cache.get(&key).is_some(), "another one of the same name");
    }
}
