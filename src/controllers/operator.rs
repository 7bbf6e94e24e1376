use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::mesh::Mesh;
use super::metrics::Metrics;
use super::service_fence::{self, Context};
use super::switch::Switch;
use super::watches;
use crate::fence::Settings;
use crate::graph::{Graph, ObjectKey};
use crate::server;
use crate::sources::access_log;

/// What `palisade run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where access logs are served.
    pub access_log_address: SocketAddr,
    /// Where health and metrics are served.
    pub http_address: SocketAddr,
    /// The cluster domain (`cluster.local`).
    pub cluster_domain: String,
    /// The `ConfigMap` that opens all fences.
    pub switch: ObjectKey,
    /// What holds for all fences.
    pub settings: Settings,
    /// The name of this instance, for Events.
    pub instance: Option<String>,
}

/// Runs the operator until `stop` is cancelled.
///
/// # Errors
/// If an address cannot be bound, or a part of the operator ends before it is told to.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let access_log_metrics = access_log::Metrics::register(&mut registry);
    let access_log = bind(options.access_log_address, "access logs").await?;
    let http = bind(options.http_address, "health and metrics").await?;

    let learning = options.settings.defaults.learning();
    let graph = Graph::new(&options.cluster_domain).with_learning(learning);
    let (mesh, owner, triggers) = Mesh::over(graph);
    let mut tasks = JoinSet::new();
    tasks.spawn(owner.run(stop.clone()));
    let serving = server::serve(http, mesh.clone(), registry, stop.clone());
    tasks.spawn(async move { report(serving.await, "serving health and metrics") });
    let serving = access_log::serve(access_log, mesh.observer(), access_log_metrics, stop.clone());
    tasks.spawn(async move { report(serving.await, "serving access logs") });

    let (listed, synced) = mpsc::channel(16);
    let caches = watches::start(&client, &mesh, &stop, &mut tasks, &listed);
    let switch = Switch::default();
    let following = switch.clone().follow(client.clone(), options.switch.clone(), mesh.clone(), listed);
    tasks.spawn(until(stop.clone(), following));

    let (instance, settings) = (options.instance, options.settings);
    let context = Context::new(client, instance, mesh.clone(), caches, switch, settings, metrics);
    let context = Arc::new(context);
    tasks.spawn(control(context, mesh, synced, triggers, stop.clone()));
    supervise(tasks, &stop).await
}

/// Starts deciding once every watch has listed its objects: on half a picture nothing is decided.
async fn control(
    context: Arc<Context>,
    mesh: Mesh,
    mut synced: mpsc::Receiver<()>,
    triggers: mpsc::Receiver<ObjectKey>,
    stop: CancellationToken,
) {
    // The kinds and the switch.
    for _ in 0..=watches::KINDS {
        let _ = stop.run_until_cancelled(synced.recv()).await;
    }
    if stop.is_cancelled() {
        return;
    }
    mesh.settled().await;
    mesh.set_synced();
    info!("every watch has listed its objects; fences are brought about from now on");
    let triggers = ReceiverStream::new(triggers);
    let keys = futures::StreamExt::take_until(triggers, stop.cancelled_owned());
    service_fence::run(context, keys).await;
}

/// Waits for the end of all parts. One that ends by itself ends the others, so that the process is restarted
/// instead of living on by half.
async fn supervise(mut tasks: JoinSet<()>, stop: &CancellationToken) -> anyhow::Result<()> {
    let first = tasks.join_next().await;
    let told = stop.is_cancelled();
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    if let Some(Err(error)) = first {
        return Err(error).context("a part of the operator failed");
    }
    anyhow::ensure!(told, "a part of the operator ended by itself");
    Ok(())
}

/// Runs a part that never ends by itself.
async fn until(stop: CancellationToken, part: impl Future<Output = ()> + Send) {
    stop.run_until_cancelled(part).await;
}

fn report<E: std::error::Error>(result: Result<(), E>, what: &'static str) {
    if let Err(error) = result {
        tracing::error!(%error, "{what} failed");
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for {what}"))
}
