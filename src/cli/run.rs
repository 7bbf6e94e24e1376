use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Span};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::config::Config;
use crate::controllers::{Options, run};
use crate::fence::{GlobalProxy, Settings, Timings};
use crate::graph::{Debounce, EgressHost, ObjectKey};

/// Runs the operator.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Where to serve the access logs of the global proxy (gRPC).
    #[arg(long, default_value = "0.0.0.0:18090")]
    access_log_address: SocketAddr,
    /// Where to serve the access logs of ordinary sidecars (gRPC); nowhere by default.
    #[arg(long)]
    sidecar_log_address: Option<SocketAddr>,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    http_address: SocketAddr,
    /// The global proxy's Service, as namespace/host:port.
    #[arg(
        long,
        default_value = "palisade-system/global-proxy.palisade-system.svc.cluster.local:15001",
        value_parser = global_proxy
    )]
    global_proxy: GlobalProxy,
    /// The `ConfigMap` that opens all fences, as namespace/name. Beside it, NAME-deleted-fences remembers the automatic
    /// fences that somebody deleted.
    #[arg(long, env = "PALISADE_SWITCH", default_value = "palisade-system/palisade", value_parser = key)]
    switch: ObjectKey,
    /// The `ConfigMap` of the mesh's configuration (`istio-<revision>` for a revision), as namespace/name. Its
    /// namespace is taken for Istio's root namespace.
    #[arg(long, default_value = "istio-system/istio", value_parser = key)]
    mesh_config: ObjectKey,
    /// The cluster's DNS domain.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// How long a new cluster gets to be warm before calls are routed to it.
    #[arg(long, default_value = "300ms", value_parser = duration)]
    settle: SignedDuration,
    /// How long a change that concerns the whole mesh at once gets to take effect: before a workload's first
    /// trimming, and twice before its Sidecar goes.
    #[arg(long, default_value = "10s", value_parser = duration)]
    open_settle: SignedDuration,
    /// How long a cluster is kept after its last route went: the mesh's drainDuration and a margin.
    #[arg(long, default_value = "50s", value_parser = duration)]
    drain: SignedDuration,
    /// istiod's `PILOT_DEBOUNCE_AFTER`: how long nothing has to change before it pushes.
    #[arg(long, default_value = "100ms", value_parser = duration)]
    debounce_after: SignedDuration,
    /// istiod's `PILOT_DEBOUNCE_MAX`: after how long it pushes in any case.
    #[arg(long, default_value = "10s", value_parser = duration)]
    debounce_max: SignedDuration,
    /// How long proxies may take to come back to an istiod that was away, and istiod to the API server.
    #[arg(long, default_value = "30s", value_parser = duration)]
    reconnect: SignedDuration,
    /// A JSON file with the settings that flags are too poor for: the chart renders it from its values.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The name of this instance.
    #[arg(long, env = "POD_NAME")]
    instance: Option<String>,
    /// The Lease by which several replicas decide who leads, as namespace/name. Without it, this one does.
    #[arg(long, value_parser = key, requires = "instance")]
    lease: Option<ObjectKey>,
    #[command(flatten)]
    logging: Logging,
}

/// How to log.
#[derive(Debug, Args)]
pub(super) struct Logging {
    /// What to log: a level, or levels by module (`info,palisade=debug`).
    #[arg(long, env = "PALISADE_LOG", default_value = "info")]
    log_level: String,
    /// How to write log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How long the API server may say nothing: kube's watches last 290 s.
const SILENCE: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Run {
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        self.logging.start()?;
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        let config = Config::read(self.config.as_deref())?;
        let client = client().await.context("cannot find the cluster")?;
        info!(version = env!("CARGO_PKG_VERSION"), "starting");
        run(client, self.options(config), stop).await
    }

    fn options(self, config: Config) -> Options {
        let (after, max) = (self.debounce_after, self.debounce_max);
        let debounce = Debounce { after, max, reconnect: self.reconnect };
        let (settle, open_settle, drain) = (self.settle, self.open_settle, self.drain);
        let timings = Timings { settle, open_settle, drain, debounce };
        let ObjectKey { namespace, name } = &self.switch;
        let deleted_fences = ObjectKey::new(namespace.clone(), format!("{name}-deleted-fences"));
        Options {
            access_log_address: self.access_log_address,
            sidecar_log_address: self.sidecar_log_address,
            http_address: self.http_address,
            cluster_domain: self.cluster_domain,
            switch: self.switch,
            mesh_config: self.mesh_config,
            settings: Settings {
                global_proxy: self.global_proxy,
                timings,
                defaults: config.fence,
                patience: config.prometheus.patience(),
                asks_proxies: config.proxy_metrics.enabled,
                istio: config.istio.clone(),
            },
            prometheus: config.prometheus,
            proxy_metrics: config.proxy_metrics,
            election: self.lease.zip(self.instance.clone()),
            auto_fence: config.auto_fence,
            deleted_fences,
            istio: config.istio,
            limits: config.limiter.enabled,
            limiter_metrics: config.limiter.metrics,
            proxy_status: config.limiter.proxy_status,
            rate_limit_service: config.limiter.rate_limit_service,
            external: config.external,
            instance: self.instance,
        }
    }
}

/// A client that sends each request once: who writes decides whether it is still to be sent again. What nobody answers ends
/// with an error; a watch is begun anew by the API server in less time.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    Ok(Client::try_from(config)?)
}

impl Logging {
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log_level).context("--log-level cannot be read")?;
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => subscriber.try_init(),
            LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
    }
}

/// Cancels `stop` when the process is told to end.
pub(super) fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        stop.cancel();
    })
}

/// Reads a duration such as `300ms`, `50s` or `2m`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = |error: jiff::Error| format!("{error}; write it like 300ms, 50s or 1m");
    let span: Span = text.parse().map_err(wrong)?;
    let duration = SignedDuration::try_from(span).map_err(wrong)?;
    if duration.is_negative() { Err("it must not be negative".to_owned()) } else { Ok(duration) }
}

/// Reads `namespace/name`.
pub(super) fn key(text: &str) -> Result<ObjectKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectKey::new(namespace, name))
        }
        _ => Err("write it as namespace/name".to_owned()),
    }
}

/// Reads `namespace/host:port`.
fn global_proxy(text: &str) -> Result<GlobalProxy, String> {
    let wrong = || "write it as namespace/host:port".to_owned();
    let (service, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let key = key(service).map_err(|_| wrong())?;
    let port = port.parse().map_err(|_| wrong())?;
    Ok(GlobalProxy { host: EgressHost { namespace: key.namespace, host: key.name }, port })
}
