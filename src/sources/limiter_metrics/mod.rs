//! The metrics that limiters' expressions name, and no others: asked of Prometheus, and of the cluster.
//!
//! ```text
//! reconciler ──wants──▶ Readings ──▶ question ──▶ Prometheus, metrics.k8s.io
//!     ▲                     │ ▲                         │
//!     └────what is known────┘ └────────values───────────┘
//! ```
//!
//! What several limiters ask for in the same words is asked once. One question that fails, or takes long, spoils only itself.

mod metrics;
mod pods;
mod question;
mod readings;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client as Cluster;
use tracing::{debug, info, warn};

pub use metrics::Metrics;
pub use readings::{OfLimiter, Readings};
pub use settings::{LimiterSettingsError, checked};

use super::prometheus::client::{self, Client, Failure};
use super::prometheus::schedule::Pace;
use super::prometheus::{self, SettingsError};
use crate::graph::{Graph, ObjectKey};
use crate::limiter::{Answer, Metric, MetricSettings, Source};
use pods::Usage;
use question::{Question, question, usage, values};

/// Questions that wait for their answers at once.
const AT_ONCE: usize = 8;
/// Bytes of an answer of Prometheus: some thousand series.
const ANSWER: usize = 1 << 20;
/// The longest pause between two passes while nobody answers, in intervals: limits wait for metrics to be back.
const PAUSE: u32 = 2;

/// Who is told that what is known for a limiter has changed.
pub type Told = Box<dyn Fn(ObjectKey) + Send + Sync>;

/// A source that asks for metrics.
pub struct LimiterMetrics {
    prometheus: Option<Client>,
    cluster: Option<Cluster>,
    settings: Arc<MetricSettings>,
    timeout: Duration,
    graph: Arc<ArcSwap<Graph>>,
    readings: Readings,
    told: Told,
    metrics: Metrics,
}

/// Who wants the answer to a question.
type Wanting = Vec<(ObjectKey, Metric)>;

/// What was answered.
enum Answered {
    Series(Vec<prometheus_http_query::response::InstantVector>),
    Pods(BTreeMap<String, Usage>),
}

impl LimiterMetrics {
    /// A source that answers what `readings` wants, and tells `told` for whom something has changed. How Prometheus is asked, all but
    /// where, `prometheus` says.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new(
        settings: Arc<MetricSettings>,
        prometheus: &prometheus::Settings,
        cluster: Cluster,
        graph: Arc<ArcSwap<Graph>>,
        (readings, told): (Readings, Told),
        metrics: Metrics,
    ) -> Result<Self, SettingsError> {
        let here = prometheus::Settings { url: settings.url.clone(), ..prometheus.clone() };
        let prometheus = (!settings.url.is_empty()).then(|| Client::new(&here)).transpose()?;
        let prometheus = prometheus.map(|client| client.at_most(ANSWER));
        let cluster = settings.pod_metrics.then_some(cluster);
        let timeout = Duration::try_from(here.timeout).unwrap_or_default();
        Ok(Self { prometheus, cluster, settings, timeout, graph, readings, told, metrics })
    }

    /// Asks again and again, and for what is new at once. Never ends.
    pub async fn run(self) {
        info!(prometheus = self.settings.url, "asking for the metrics that limiters name");
        let interval = self.interval();
        let mut pace = Pace::new(interval, Instant::now() + interval).at_most(interval * PAUSE);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(pace.due().into()) => {
                    let success = self.pass(false).await;
                    pace.done(success, Instant::now());
                }
                () = self.readings.more() => {
                    self.pass(true).await;
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        Duration::try_from(self.settings.interval).unwrap_or(Duration::from_secs(30))
    }

    /// Asks once for all that is wanted, or only for what is `new`; tells whether any question was answered, if there was one.
    pub async fn pass(&self, new: bool) -> bool {
        let questions = self.questions(new);
        let (count, end) = (questions.len(), Instant::now() + self.interval().max(self.timeout));
        let asking = stream::iter(questions).map(|(question, wanting)| self.ask(question, wanting, end));
        let answered = asking.buffer_unordered(AT_ONCE).filter(|ok| std::future::ready(*ok)).count().await;
        let (wanted, known) = self.readings.count();
        self.metrics.count(wanted, known);
        debug!(count, answered, "metrics were asked for");
        if answered < count {
            warn!(count, answered, "not all metrics that limiters name are known; debug tells which");
        }
        count == 0 || answered > 0
    }

    /// What to ask, and for whom: what was answered longest ago goes first.
    fn questions(&self, new: bool) -> Vec<(Question, Wanting)> {
        let (graph, mut all) = (self.graph.load_full(), BTreeMap::<_, (Option<Timestamp>, Wanting)>::new());
        for (limiter, metric, answered) in self.readings.wanted(new) {
            match question(&limiter, &metric, &self.settings, &graph) {
                Ok(question) => {
                    let (oldest, wanting) = all.entry(question).or_insert_with(|| (answered, Vec::new()));
                    *oldest = answered.min(*oldest);
                    wanting.push((limiter, metric));
                }
                Err(why) => self.note(&limiter, &metric, Err(why)),
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(_, (oldest, _))| *oldest);
        all.into_iter().map(|(question, (_, wanting))| (question, wanting)).collect()
    }

    /// Asks one question, unless the pass has taken too long already.
    async fn ask(&self, question: Question, wanting: Wanting, end: Instant) -> bool {
        let late = Instant::now() > end;
        let answer = if late { Err(Failure::Timeout) } else { self.answer(&question).await };
        let result = answer.as_ref().err().map_or("ok", Failure::label);
        self.metrics.asked(&question, if late { "skipped" } else { result });
        if let Err(failure) = &answer {
            debug!(%failure, ?question, "there are no metrics");
        }
        let graph = self.graph.load_full();
        for (limiter, metric) in wanting {
            let values = match &answer {
                Ok(answer) => self.values(&limiter, &metric, answer, &graph),
                Err(failure) => Err(told(failure)),
            };
            self.note(&limiter, &metric, values);
        }
        answer.is_ok()
    }

    async fn answer(&self, question: &Question) -> Result<Answered, Failure> {
        let nobody = || Failure::Unreachable("nobody is to be asked".to_owned());
        match question {
            Question::Query(query) => {
                let body = self.prometheus.as_ref().ok_or_else(nobody)?.ask(query).await?;
                let series = client::read(&body)?;
                if series.in_part {
                    return Err(Failure::Refused("warnings came along: some may be missing".to_owned()));
                }
                Ok(Answered::Series(series.all))
            }
            Question::Pods(namespace) => {
                let cluster = self.cluster.as_ref().ok_or_else(nobody)?;
                pods::usages(cluster, namespace, self.timeout).await.map(Answered::Pods)
            }
        }
    }

    fn values(
        &self,
        limiter: &ObjectKey,
        metric: &Metric,
        answer: &Answered,
        graph: &Graph,
    ) -> Result<BTreeMap<String, f64>, String> {
        match (answer, &metric.source) {
            (Answered::Series(series), Source::Handler(name)) => {
                let answer = self.settings.handlers.get(name).map_or(Answer::Value, |handler| handler.answer);
                values(series, answer)
            }
            (Answered::Pods(usages), Source::Pods(resource)) => {
                let labels = metric.pods.clone().unwrap_or_default();
                usage(limiter, &labels, *resource, usages, graph)
            }
            _ => Err("the answer is to another question".to_owned()),
        }
    }

    fn note(&self, limiter: &ObjectKey, metric: &Metric, values: Result<BTreeMap<String, f64>, String>) {
        if self.readings.answered(limiter, metric, values, Timestamp::now()) {
            (self.told)(limiter.clone());
        }
    }
}

/// What a status says of a failure: the same for as long as it lasts, else the status would be written again and again.
fn told(failure: &Failure) -> String {
    match failure {
        Failure::Unreachable(_) => "who knows it cannot be reached".to_owned(),
        other => other.to_string(),
    }
}
