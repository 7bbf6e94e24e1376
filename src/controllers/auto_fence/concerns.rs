use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::Notify;

use crate::fence::auto::{AutoFence, concerned};
use crate::graph::{Change, Graph, ObjectKey};

/// The automatic fences to look at, there or not. The graph's owner names them, once each however often.
#[derive(Clone, Debug)]
pub struct Concerns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: AutoFence,
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

impl Concerns {
    /// None yet.
    #[must_use]
    pub fn new(settings: AutoFence) -> Self {
        Self(Arc::new(Shared { settings, keys: Mutex::default(), more: Notify::new() }))
    }

    /// What the operator's configuration says.
    #[must_use]
    pub fn settings(&self) -> &AutoFence {
        &self.0.settings
    }

    /// Notes those that a change concerns, which `graph` is about to take in.
    pub(in crate::controllers) fn note(&self, graph: &Graph, change: &Change) {
        let keys = concerned(graph, change, &self.0.settings);
        self.lock().noted.extend(keys);
    }

    /// Notes all fences.
    pub(in crate::controllers) fn note_all(&self, graph: &Graph) {
        self.lock().noted.extend(graph.fence_keys().cloned());
    }

    /// Has those looked at that were noted: the graph is published.
    pub(in crate::controllers) fn publish(&self) {
        let noted = std::mem::take(&mut self.lock().noted);
        self.add(noted);
    }

    /// Has these looked at.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        let mut named = self.lock();
        named.waiting.extend(keys);
        if !named.waiting.is_empty() {
            self.0.more.notify_one();
        }
    }

    /// Those to look at, one after the other, without end.
    pub fn stream(&self) -> impl Stream<Item = ObjectKey> + Send + 'static {
        unfold(self.clone(), |concerns| async move {
            let key = concerns.next().await;
            Some((key, concerns))
        })
    }

    async fn next(&self) -> ObjectKey {
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
}
