use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::Notify;

use crate::graph::ObjectKey;

/// Objects that are to be looked at, there or not. The graph's owner names them, once each however often.
#[derive(Clone, Debug, Default)]
pub struct Named(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<Keys>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Keys {
    /// Of changes that are not published yet.
    noted: BTreeSet<ObjectKey>,
    /// To be looked at.
    waiting: BTreeSet<ObjectKey>,
}

impl Named {
    /// Notes those that a change concerns, which the graph is about to take in.
    pub(super) fn note(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.lock().noted.extend(keys);
    }

    /// Has those looked at that were noted: the graph is published.
    pub(super) fn publish(&self) {
        self.add(self.take_noted());
    }

    /// Those that were noted, for somebody who knows better which of them to look at. They are noted no more.
    pub(super) fn take_noted(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().noted)
    }

    /// Has these looked at.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        let mut named = self.lock();
        named.waiting.extend(keys);
        if !named.waiting.is_empty() {
            self.0.more.notify_one();
        }
    }

    /// The next one to look at, once there is one.
    pub(super) async fn next(&self) -> ObjectKey {
        loop {
            if let Some(key) = self.pop() {
                return key;
            }
            self.0.more.notified().await;
        }
    }

    fn pop(&self) -> Option<ObjectKey> {
        self.lock().waiting.pop_first()
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those to look at, one after the other, without end.
    pub fn stream(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        unfold(self.clone(), |named| async move {
            let key = named.next().await;
            Some((key, named))
        })
    }
}
