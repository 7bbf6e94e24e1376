use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::graph::ObjectKey;

/// The fences whose pods are to be asked, each once however often it is named. Clones are one queue.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<Keys>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Keys {
    /// Each since when.
    waiting: BTreeMap<ObjectKey, Instant>,
    /// Those that are being asked.
    taken: BTreeSet<ObjectKey>,
}

impl Queue {
    /// Has a fence's pods asked, unless they are about to be.
    pub fn add(&self, fence: &ObjectKey) {
        let mut keys = self.lock();
        if !keys.taken.contains(fence) {
            keys.waiting.entry(fence.clone()).or_insert_with(Instant::now);
            self.0.more.notify_one();
        }
    }

    /// The fences, each with the time since which it has waited. For one reader.
    pub(super) fn keys(&self) -> impl Stream<Item = (ObjectKey, Instant)> + '_ {
        unfold(self, async |queue| Some((queue.next().await, queue)))
    }

    /// Notes that a fence's pods have been asked.
    pub(super) fn done(&self, fence: &ObjectKey) {
        self.lock().taken.remove(fence);
    }

    async fn next(&self) -> (ObjectKey, Instant) {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.0.more.notified().await;
        }
    }

    fn take(&self) -> Option<(ObjectKey, Instant)> {
        let mut keys = self.lock();
        let next = keys.waiting.pop_first()?;
        keys.taken.insert(next.0.clone());
        Some(next)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_fence_is_asked_for_once_until_that_is_done() {
        let (queue, fence) = (Queue::default(), ObjectKey::new("shop", "client"));
        let other = ObjectKey::new("shop", "other");
        let mut keys = std::pin::pin!(queue.keys().map(|(fence, _)| fence));
        for _ in 0..2 {
            queue.add(&fence);
        }
        assert_eq!(keys.next().await.as_ref(), Some(&fence));
        queue.add(&fence);
        queue.add(&other);
        assert_eq!(keys.next().await.as_ref(), Some(&other), "the first one is being asked for");
        queue.done(&fence);
        queue.add(&fence);
        assert_eq!(keys.next().await.as_ref(), Some(&fence));
    }
}
