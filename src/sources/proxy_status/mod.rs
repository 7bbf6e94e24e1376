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

use std::collections::BTreeMap;
use std::net::IpAddr;
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
use client::Client;
use reading::{carry, merge, read};

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
        let istiods = self.istiods();
        let mut look = Look { at: Timestamp::now(), ..Look::default() };
        if istiods.is_empty() {
            look.failure = Some("no istiod that is ready runs in this cluster".to_owned());
        }
        let asking = stream::iter(istiods).map(|(istiod, address)| async move {
            let answer = self.client.ask(&istiod, address).await;
            (istiod, answer)
        });
        let (mut answers, mut failures) = (asking.buffer_unordered(AT_ONCE), BTreeMap::new());
        while let Some((istiod, answer)) = answers.next().await {
            self.metrics.asked(answer.as_ref().err());
            match answer {
                Ok(resources) => self.take_in(resources, &mut look),
                Err(failure) => {
                    warn!(%istiod, %failure, "istiod does not tell what proxies say");
                    failures.insert(istiod, failure);
                }
            }
        }
        // Of several always the same, else statuses would be written again and again.
        if let Some((istiod, failure)) = failures.first_key_value() {
            look.failure = Some(format!("{istiod}: {}", failure.told()));
        }
        self.publish(look);
    }

    fn istiods(&self) -> Vec<(ObjectKey, IpAddr)> {
        let graph = self.graph.load();
        let ready = graph.pushes().ready_istiods();
        ready.map(|(key, address)| (key.clone(), address)).collect()
    }

    fn take_in(&self, resources: Vec<wire::Any>, look: &mut Look) {
        let (at, mut of_others, mut any) = (look.at, false, false);
        for (pod, state) in resources.into_iter().filter_map(|resource| read(resource, at)) {
            any = true;
            of_others |= pod.namespace != self.namespace;
            merge(&mut look.proxies, pod, state);
        }
        look.restricted |= any && !of_others;
    }

    fn publish(&self, mut look: Look) {
        if let Some(last) = self.looks.last() {
            carry(&last, &mut look);
        }
        look.until = Timestamp::now();
        self.metrics.proxies(&look);
        debug!(proxies = look.proxies.len(), failure = ?look.failure, "istiod was asked what proxies say");
        for limiter in self.looks.publish(look) {
            (self.told)(limiter);
        }
    }
}
