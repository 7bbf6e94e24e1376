//! Where dependencies are learned. A source sees calls, asks the graph what they would add, and hands what is
//! news to the graph's owner through an [`Observer`].

pub mod access_log;
mod host;
pub mod prometheus;
pub mod proxy_metrics;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::graph::{Graph, Observation};

/// What a source needs of the rest: the graph as it was published last, and the way to its owner.
#[derive(Clone, Debug)]
pub struct Observer {
    /// The graph to ask what is known already.
    pub graph: Arc<ArcSwap<Graph>>,
    /// The bounded queue of the graph's owner.
    pub queue: mpsc::Sender<Vec<Observation>>,
}

impl Observer {
    /// Hands observations over without waiting, and gives back how many did not fit.
    ///
    /// A source never waits for the owner: that would hold back the proxies. What is dropped stays unlearned in
    /// the graph, so the next call of the pair brings it again.
    #[must_use]
    pub fn offer(&self, observations: Vec<Observation>) -> usize {
        match self.queue.try_send(observations) {
            Ok(()) => 0,
            Err(refused) => refused.into_inner().len(),
        }
    }
}
