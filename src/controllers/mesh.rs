use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::auto_fence::Concerns;
use super::external::Namespaces;
use super::named::Named;
use crate::graph::{Change, Graph, ObjectKey, Observation};
use crate::sources::Observer;

/// How many messages are taken in before the graph is published.
const BATCH: usize = 1024;
/// How many batches of calls may wait. A source drops what does not fit.
const CALLS: usize = 1024;
/// How many changes may wait. A watch waits for room.
const CHANGES: usize = 1024;

/// What the owner of the graph is told.
#[derive(Debug)]
pub enum Message {
    /// Something of the mesh changed.
    Change(Change),
    /// All fences are to be looked at.
    TouchAll,
    /// Answer, to show that the owner is alive and has taken in all that was sent before.
    Echo(oneshot::Sender<()>),
}

/// The ways to the graph and its owner.
#[derive(Clone, Debug)]
pub struct Mesh {
    graph: Arc<ArcSwap<Graph>>,
    /// Each with the time at which it was told.
    changes: mpsc::Sender<(Timestamp, Message)>,
    calls: mpsc::Sender<Vec<Observation>>,
    /// Since when every watch has listed its objects once: before, nothing is decided.
    synced: watch::Sender<Option<Timestamp>>,
}

/// The owner's ends of the queues.
#[derive(Debug)]
pub struct Owner {
    mesh: Mesh,
    changes: mpsc::Receiver<(Timestamp, Message)>,
    calls: mpsc::Receiver<Vec<Observation>>,
    triggers: mpsc::Sender<ObjectKey>,
    concerns: Option<Concerns>,
    external: Option<Namespaces>,
    limiters: Option<Named>,
}

impl Mesh {
    /// An empty graph of a mesh with this cluster domain, its owner, and the fences that the owner wants looked at.
    #[must_use]
    pub fn new(domain: &str) -> (Self, Owner, mpsc::Receiver<ObjectKey>) {
        Self::over(Graph::new(domain))
    }

    /// The same over `graph`.
    #[must_use]
    pub fn over(graph: Graph) -> (Self, Owner, mpsc::Receiver<ObjectKey>) {
        let (changes, changes_in) = mpsc::channel(CHANGES);
        let (calls, calls_in) = mpsc::channel(CALLS);
        let (triggers, triggers_out) = mpsc::channel(CHANGES);
        let graph = Arc::new(ArcSwap::from_pointee(graph));
        let mesh = Self { graph, changes, calls, synced: watch::Sender::default() };
        (
            mesh.clone(),
            Owner {
                mesh,
                changes: changes_in,
                calls: calls_in,
                triggers,
                concerns: None,
                external: None,
                limiters: None,
            },
            triggers_out,
        )
    }

    /// The graph as it was published last.
    #[must_use]
    pub fn graph(&self) -> Arc<Graph> {
        self.graph.load_full()
    }

    /// What a source needs.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer::new(self.graph.clone(), self.calls.clone())
    }

    /// Tells the owner something, waiting for room.
    pub async fn tell(&self, message: Message) {
        // The owner ends only with the process.
        let _ = self.changes.send((Timestamp::now(), message)).await;
    }

    /// Waits until the owner has taken in all that was told before.
    pub async fn settled(&self) {
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Echo(answer)).await;
        let _ = answered.await;
    }

    /// Says that every watch has listed its objects.
    pub fn set_synced(&self) {
        self.synced.send_replace(Some(Timestamp::now()));
    }

    /// Whether every watch has listed its objects.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced_at().is_some()
    }

    /// Since when every watch has listed its objects.
    #[must_use]
    pub fn synced_at(&self) -> Option<Timestamp> {
        *self.synced.borrow()
    }
}

impl Owner {
    /// Names the automatic fences, too, that changes concern.
    #[must_use]
    pub fn naming(mut self, concerns: Concerns) -> Self {
        self.concerns = Some(concerns);
        self
    }

    /// Names the namespaces, too, whose entries of external hosts changes concern.
    #[must_use]
    pub fn naming_external(mut self, namespaces: Namespaces) -> Self {
        self.external = Some(namespaces);
        self
    }

    /// Names the limiters, too, that changes concern.
    #[must_use]
    pub fn naming_limiters(mut self, limiters: Named) -> Self {
        self.limiters = Some(limiters);
        self
    }

    /// Keeps the graph until `stop` is cancelled: takes changes and calls in, publishes, and names the fences
    /// to look at.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) {
        let mut graph = Graph::clone(&self.mesh.graph());
        // Named as fast as they are looked at; meanwhile, changes are taken in: whoever looks at the fences starts
        // only when all has been listed.
        let (mut waiting, triggers) = (BTreeSet::new(), self.triggers.clone());
        loop {
            tokio::select! {
                taken = self.take_in(&mut graph) => {
                    let Some((touched, echoes)) = taken else { return };
                    self.mesh.graph.store(Arc::new(graph.clone()));
                    self.concerns.iter().for_each(Concerns::publish);
                    self.external.iter().for_each(|external| external.publish(&graph, &touched));
                    self.limiters.iter().for_each(Named::publish);
                    for echo in echoes {
                        let _ = echo.send(());
                    }
                    waiting.extend(touched);
                }
                Ok(room) = triggers.reserve(), if !waiting.is_empty() => {
                    if let Some(key) = waiting.pop_first() {
                        room.send(key);
                    }
                }
            }
        }
    }

    /// Takes in whatever waits, up to a batch; `None` when nobody is left to send. Can be dropped while it waits.
    async fn take_in(
        &mut self,
        graph: &mut Graph,
    ) -> Option<(BTreeSet<ObjectKey>, Vec<oneshot::Sender<()>>)> {
        let (mut touched, mut echoes) = (BTreeSet::new(), Vec::new());
        tokio::select! {
            calls = self.calls.recv() => learn(graph, calls?, &mut touched),
            message = self.changes.recv() => self.hear(graph, message?, &mut touched, &mut echoes),
        }
        for _ in 0..BATCH {
            let (calls, message) = (self.calls.try_recv().ok(), self.changes.try_recv().ok());
            if calls.is_none() && message.is_none() {
                break;
            }
            learn(graph, calls.unwrap_or_default(), &mut touched);
            if let Some(message) = message {
                self.hear(graph, message, &mut touched, &mut echoes);
            }
        }
        Some((touched, echoes))
    }

    fn hear(
        &mut self,
        graph: &mut Graph,
        (at, message): (Timestamp, Message),
        touched: &mut BTreeSet<ObjectKey>,
        echoes: &mut Vec<oneshot::Sender<()>>,
    ) {
        match message {
            Message::Change(change) => {
                // Nothing may be called unused before what the source saw has been taken in.
                let closes =
                    matches!(change, Change::Covered(_) | Change::HistoryTold(_) | Change::ProxiesAsked(..));
                let before = if closes { self.calls.len() } else { 0 };
                for _ in 0..before {
                    learn(graph, self.calls.try_recv().unwrap_or_default(), touched);
                }
                self.concerns.iter().for_each(|concerns| concerns.note(graph, &change));
                self.external.iter().for_each(|external| external.note(graph, &change));
                self.limiters.iter().for_each(|named| named.note(graph.limiters_concerned(&change)));
                graph.note(&change, at);
                touched.extend(graph.apply(change));
            }
            Message::TouchAll => {
                self.concerns.iter().for_each(|concerns| concerns.note_all(graph));
                touched.extend(graph.fence_keys().cloned());
            }
            Message::Echo(answer) => echoes.push(answer),
        }
    }
}

fn learn(graph: &mut Graph, calls: Vec<Observation>, touched: &mut BTreeSet<ObjectKey>) {
    for call in calls {
        touched.extend(graph.apply(Change::Call(call)));
    }
}
