//! Where dependencies are learned. A source sees calls, asks the graph what they would add, and hands what is
//! news to the graph's owner through an [`Observer`].

pub mod access_log;
mod host;
pub mod limiter_metrics;
mod outcome;
pub mod prometheus;
pub mod proxy_metrics;
pub mod proxy_status;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub use outcome::{Outcome, Unusable};

use crate::graph::{Graph, Observation, PassedThrough};

/// How long a source waits for room in the owner's queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a source needs of the rest: the graph as it was published last, and the way to its owner.
#[derive(Clone, Debug)]
pub struct Observer {
    /// The graph to ask what is known already.
    pub graph: Arc<ArcSwap<Graph>>,
    /// The bounded queue of the graph's owner.
    pub queue: mpsc::Sender<Vec<Observation>>,
    /// The bounded queue of connections that were passed through; `None` if nobody asks for them.
    pub passed_through: Option<mpsc::Sender<PassedThrough>>,
}

impl Observer {
    /// The same over `graph` and `queue`, for who asks for no connections that were passed through.
    #[must_use]
    pub fn new(graph: Arc<ArcSwap<Graph>>, queue: mpsc::Sender<Vec<Observation>>) -> Self {
        Self { graph, queue, passed_through: None }
    }

    /// Hands connections over that were passed through, without waiting; what does not fit the next connection brings
    /// again. Gives back how many did not.
    #[must_use]
    pub fn offer_passed_through(&self, calls: impl IntoIterator<Item = PassedThrough>) -> usize {
        let Some(queue) = &self.passed_through else { return 0 };
        calls.into_iter().filter_map(|call| queue.try_send(call).err()).count()
    }

    /// Waits until the owner's queue has room, but not for long: who sends is held back meanwhile, which takes a burst in,
    /// and an owner that is stuck must not stop what needs no room.
    pub async fn room(&self) {
        if self.queue.capacity() == 0 {
            let _ = timeout(PATIENCE, self.queue.reserve()).await;
        }
    }

    /// Hands observations over without waiting, and gives back how many did not fit. What is dropped stays unlearned in
    /// the graph, so the next call of the pair brings it again.
    #[must_use]
    pub fn offer(&self, observations: Vec<Observation>) -> usize {
        match self.queue.try_send(observations) {
            Ok(()) => 0,
            Err(refused) => refused.into_inner().len(),
        }
    }
}
