//! Whether proxies have taken what istiod sent: istiod itself is asked, by the API with which `istioctl proxy-status` asks it.
//!
//! ```text
//! reconciler ──wants to know──▶ Looks ──when due──▶ client ──▶ every istiod
//!     ▲                          │  ▲                             │
//!     └──────what was told───────┘  └───────────reading───────────┘
//! ```
//!
//! An answer tells of all proxies of an istiod: it is asked when some limiter is about to be known, for all that are, and no more often
//! than the settings say.

mod client;
mod looks;
mod metrics;
mod reading;
mod settings;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

pub use looks::Looks;
pub use metrics::Metrics;
pub use settings::{Settings, SettingsError};

use crate::graph::{Graph, ObjectKey};
use crate::limiter::Look;
use client::{Client, Failure};
use reading::{merge, read};

/// Istiods that are asked at once.
const AT_ONCE: usize = 4;

/// Who is told that there is another look at a limiter's proxies.
pub type Told = Box<dyn Fn(ObjectKey) + Send + Sync>;

/// A source that asks istiod.
pub struct ProxyStatus {
    client: Client,
    interval: Duration,
    /// Our own namespace.
    namespace: Arc<str>,
    graph: Arc<ArcSwap<Graph>>,
    looks: Looks,
    told: Told,
    metrics: Metrics,
}

impl ProxyStatus {
    /// A source that asks the istiods of `graph` under an account of `namespace` when `looks` wants it, and tells `told` for whom.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new(
        settings: Settings,
        namespace: &str,
        graph: Arc<ArcSwap<Graph>>,
        (looks, told): (Looks, Told),
        metrics: Metrics,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let interval = Duration::try_from(settings.interval).unwrap_or_default();
        let client = Client::new(settings, namespace);
        Ok(Self { client, interval, namespace: namespace.into(), graph, looks, told, metrics })
    }

    /// Asks whenever somebody wants to know. Never ends.
    pub async fn run(self) {
        info!("asking istiod whether proxies have taken limits");
        let mut earliest = Instant::now();
        loop {
            self.looks.due().await;
            sleep_until(earliest).await;
            self.look().await;
            earliest = Instant::now() + self.interval;
        }
    }

    /// Asks every istiod once, and tells those who wanted to know.
    pub async fn look(&self) {
        let at = Timestamp::now();
        let istiods: Vec<_> = {
            let graph = self.graph.load();
            let ready = graph.pushes().ready_istiods();
            ready.map(|(key, address)| (key.clone(), address)).collect()
        };
        let mut look = Look { at, ..Look::default() };
        if istiods.is_empty() {
            look.failure = Some("no istiod that is ready runs in this cluster".to_owned());
        }
        let asking = stream::iter(istiods).map(|(istiod, address)| async move {
            let answer = self.client.ask(&istiod, address).await;
            (istiod, answer)
        });
        let mut answers = asking.buffer_unordered(AT_ONCE);
        while let Some((istiod, answer)) = answers.next().await {
            self.take_in(&istiod, answer, &mut look);
        }
        look.restricted = look.proxies.keys().all(|pod| pod.namespace == self.namespace);
        self.metrics.proxies(&look);
        debug!(proxies = look.proxies.len(), failure = ?look.failure, "istiod was asked what proxies say");
        for limiter in self.looks.publish(look) {
            (self.told)(limiter);
        }
    }

    fn take_in(&self, istiod: &ObjectKey, answer: Result<Vec<wire::Any>, Failure>, look: &mut Look) {
        self.metrics.asked(answer.as_ref().err());
        match answer {
            Ok(resources) => {
                for (pod, state) in resources.into_iter().filter_map(read) {
                    merge(&mut look.proxies, pod, state);
                }
            }
            Err(failure) => {
                warn!(%istiod, %failure, "istiod does not tell what proxies say");
                look.failure = Some(format!("{istiod}: {}", failure.told()));
            }
        }
    }
}
