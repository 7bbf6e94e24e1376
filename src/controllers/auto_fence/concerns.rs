use std::sync::Arc;

use futures::Stream;

use crate::controllers::named::Named;
use crate::fence::auto::{AutoFence, all, concerned};
use crate::graph::{Change, Graph, ObjectKey};

/// The automatic fences to look at, there or not.
#[derive(Clone, Debug)]
pub struct Concerns {
    settings: Arc<AutoFence>,
    named: Named,
}

impl Concerns {
    /// None yet.
    #[must_use]
    pub fn new(settings: AutoFence) -> Self {
        Self { settings: Arc::new(settings), named: Named::default() }
    }

    /// What the operator's configuration says.
    #[must_use]
    pub fn settings(&self) -> &AutoFence {
        &self.settings
    }

    /// Notes those that a change concerns, which `graph` is about to take in.
    pub(in crate::controllers) fn note(&self, graph: &Graph, change: &Change) {
        self.named.note(concerned(graph, change, &self.settings));
    }

    /// Notes all, for what concerns them all.
    pub(in crate::controllers) fn note_all(&self, graph: &Graph) {
        self.named.note(all(graph, &self.settings));
    }

    /// Has those looked at that were noted: the graph is published.
    pub(in crate::controllers) fn publish(&self) {
        self.named.publish();
    }

    /// Has these looked at.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.named.add(keys);
    }

    /// Those to look at, one after the other, without end.
    pub fn stream(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        self.named.stream()
    }
}
