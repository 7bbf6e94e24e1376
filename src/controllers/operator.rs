use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use kube::runtime::reflector::store;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::auto_fence::{self, AutoContext, Concerns, Deletions};
use super::census::Census;
use super::external::{Entries, Namespaces};
use super::health::{alive, ready};
use super::history::Asked;
use super::leadership::Leadership;
use super::lease::Election;
use super::limiter::{self, LimiterContext};
use super::mesh::{Mesh, Owner};
use super::mesh_config;
use super::metrics::Metrics;
use super::named::Named;
use super::record::Record;
use super::service_fence::{self, Context};
use super::switch::Switch;
use super::watch::Watch;
use super::watches;
use crate::fence::Settings;
use crate::fence::auto::AutoFence;
use crate::graph::{Aliases, ExternalPolicy, Graph, Identity, MeshWide, ObjectKey};
use crate::istio::Installation;
use crate::limiter::{MetricSettings, RateLimitService};
use crate::server;
use crate::sources::access_log::{self, Peers};
use crate::sources::proxy_metrics::{self, Queue};
use crate::sources::{Observer, prometheus, proxy_status};

/// What `palisade run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where access logs of the global proxy are served.
    pub access_log_address: SocketAddr,
    /// Where those of ordinary sidecars are; `None` if they are not.
    pub sidecar_log_address: Option<SocketAddr>,
    /// Where health and metrics are served.
    pub http_address: SocketAddr,
    /// The cluster domain (`cluster.local`).
    pub cluster_domain: String,
    /// The `ConfigMap` that opens all fences.
    pub switch: ObjectKey,
    /// The `ConfigMap` of the mesh's configuration, in Istio's root namespace.
    pub mesh_config: ObjectKey,
    /// What holds for all fences.
    pub settings: Settings,
    /// Which fences there are without anybody writing them.
    pub auto_fence: AutoFence,
    /// The `ConfigMap` of the automatic fences that somebody deleted.
    pub deleted_fences: ObjectKey,
    /// Where and how Prometheus is asked.
    pub prometheus: prometheus::Settings,
    /// Which external hosts get a `ServiceEntry`.
    pub external: ExternalPolicy,
    /// Whether and how the proxies of pods are asked before they are fenced.
    pub proxy_metrics: proxy_metrics::Settings,
    /// How Istio is installed.
    pub istio: Installation,
    /// Whether `SmartLimiter`s are looked after.
    pub limits: bool,
    /// Which metrics their expressions may name.
    pub limiter_metrics: MetricSettings,
    /// Whether and how istiod is asked whether proxies have taken limits.
    pub proxy_status: proxy_status::Settings,
    /// What counts for limits that all pods share, if it is there.
    pub rate_limit_service: Option<RateLimitService>,
    /// The name of this instance, for Events.
    pub instance: Option<String>,
    /// The `Lease` by which replicas decide who leads, and the name of this one in it; `None` if it is the only one.
    pub election: Option<(ObjectKey, String)>,
}

impl Options {
    /// A graph of the mesh in which nothing is known yet.
    fn graph(&self) -> Graph {
        Graph::of(self.mesh_wide()).with_learning(self.settings.defaults.learning())
    }

    /// Who is asked what workloads have used.
    fn asked(&self) -> Asked {
        Asked {
            prometheus: self.prometheus.clone(),
            proxies: self.proxy_metrics.clone(),
            queue: Queue::default(),
            detour: self.settings.global_proxy.host.host.clone(),
        }
    }

    /// What is asked for the sake of limiters, if they are looked after.
    fn questions(&self) -> Option<limiter::Questions> {
        self.limits.then(|| limiter::Questions {
            metrics: self.limiter_metrics.clone(),
            proxies: self.proxy_status.clone(),
            debounce: self.settings.timings.debounce,
        })
    }

    /// The global proxy runs, as its chart has it, under a service account of its Service's name.
    fn mesh_wide(&self) -> MeshWide {
        let Settings { global_proxy, defaults, .. } = &self.settings;
        let account = global_proxy.host.host.split('.').next().unwrap_or_default().into();
        let identity = Identity { namespace: global_proxy.host.namespace.clone(), account };
        MeshWide {
            cluster_domain: self.cluster_domain.as_str().into(),
            root_namespace: self.mesh_config.namespace.clone(),
            global_proxy_namespace: global_proxy.host.namespace.clone(),
            global_proxy: global_proxy.host.host.clone(),
            global_proxy_identity: Some(identity),
            service_label: defaults.service_label_key.clone(),
            wants: defaults.wants(),
            external: self.external.clone(),
            aliases: Arc::new(Aliases::new(&defaults.domain_aliases, |rule, error| {
                warn!(pattern = rule.pattern, %error, "a rule of fence.domainAliases cannot be understood");
            })),
        }
    }
}

/// What must have been listed before anything is decided, besides what limits rest on: the kinds, the switch, the mesh
/// configuration, and the memory of deletions.
const LISTED: usize = watches::KINDS + 3;

/// What only the leader does: it is started when this replica leads.
type Part = BoxFuture<'static, ()>;

/// Runs the operator until `stop` is cancelled. Every replica watches and is ready; one leads: it learns and writes.
///
/// # Errors
/// If an address cannot be bound, or a part of the operator ends before it is told to.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let (graph, asked, questions) = (options.graph(), options.asked(), options.questions());
    let (queue, mut registry) = (asked.queue.clone(), Registry::default());
    let metrics = Metrics::register(&mut registry);
    let logs = access_log::Metrics::register(&mut registry);
    let leadership = Leadership::register(&mut registry);
    let http = bind(options.http_address, "health and metrics").await?;
    let (client, election) = elect(client, options.election, &leadership);
    let (mesh, owner, triggers) = Mesh::over(graph);
    let mut tasks = JoinSet::new();
    let limiters = Named::default();
    let limiting = limiter::Asked::all(questions, &asked.prometheus, (&client, &mesh), &mut registry)?;
    let asking = asked.ask(&mesh, &mut registry)?;
    let (concerns, namespaces) = (Concerns::new(options.auto_fence), Namespaces::default());
    let writes_entries = options.external.service_entries;
    let named = (writes_entries.then_some(&namespaces), options.limits.then_some(&limiters));
    tasks.spawn(naming(owner, &concerns, named).run(stop.clone()));
    // Room for one word of each: `lead` waits for as many.
    let (listed, synced) = mpsc::channel(LISTED + if options.limits { limiter::KINDS } else { 0 });
    let watch = Watch { client: client.clone(), mesh: mesh.clone(), listed: listed.clone() };
    let caches = watches::start(&watch, options.istio.clone(), &stop, &mut tasks);
    let limits = options.limits.then(|| limiter::watch(&watch, options.istio, &stop, &mut tasks));
    registry.register_collector(Box::new(Census::new(caches.clone(), limits.clone())));
    let serving = server::serve(http, (alive(mesh.clone()), ready(mesh.clone())), registry, stop.clone());
    tasks.spawn(async move { report(serving.await, "serving health and metrics") });

    let switch = Switch::default();
    let followed = (options.mesh_config, switch.clone(), options.switch.clone());
    tasks.spawn(until(stop.clone(), follow(client.clone(), followed, mesh.clone(), listed.clone())));

    let record = record(&client, &options.switch);
    let (deleted, writer) = store();
    let deletions = Deletions::new(options.deleted_fences, deleted);
    let (memory, known) = (deletions.clone(), concerns.clone());
    tasks.spawn(until(stop.clone(), memory.follow(client.clone(), writer, known, listed)));

    let (instance, settings, service) = (options.instance, options.settings, options.rate_limit_service);
    let context =
        Context::new(client, instance, mesh.clone(), caches, switch, settings, metrics).asking(queue);
    let entries = writes_entries.then(|| Entries::new(&context, namespaces));
    let limits = limits.map(|caches| LimiterContext::new(&context, limiters, caches, service));
    let auto = AutoContext::new(&context, concerns, deletions);
    let keys = futures::StreamExt::take_until(ReceiverStream::new(triggers), stop.clone().cancelled_owned());
    let mut observer = mesh.observer();
    let entries = entries.map(|entries| entries.writing(&mut observer));
    let mut parts: Vec<Part> = vec![
        // Who does not lead does not even listen, so that Envoy comes to who does.
        learn(options.access_log_address, Peers::GlobalProxy, observer, logs.clone(), stop.clone()).boxed(),
        service_fence::run(Arc::new(context), keys).boxed(),
        until(stop.clone(), watch_directly(record, mesh.clone(), asking)).boxed(),
        auto_fence::run(auto, stop.clone()).boxed(),
    ];
    parts.extend(limits.zip(limiting).into_iter().flat_map(|(limits, asked)| asked.parts(limits, &stop)));
    parts.extend(entries.map(|entries| until(stop.clone(), entries).boxed()));
    parts.extend(
        options
            .sidecar_log_address
            .map(|address| learn(address, Peers::Sidecars, mesh.observer(), logs, stop.clone()).boxed()),
    );
    tasks.spawn(lead(election, parts, mesh, synced, stop.clone()));
    supervise(tasks, &stop).await
}

/// Has the graph's owner name what changes concern besides fences.
fn naming(owner: Owner, concerns: &Concerns, more: (Option<&Namespaces>, Option<&Named>)) -> Owner {
    let (external, limiters) = more;
    let owner = owner.naming(concerns.clone());
    let owner = external.into_iter().fold(owner, |owner, named| owner.naming_external(named.clone()));
    limiters.into_iter().fold(owner, |owner, named| owner.naming_limiters(named.clone()))
}

/// Follows the mesh's configuration, and the switch.
async fn follow(
    client: Client,
    (mesh_config, switch, key): (ObjectKey, Switch, ObjectKey),
    mesh: Mesh,
    listed: mpsc::Sender<()>,
) {
    let config = mesh_config::follow(client.clone(), mesh_config, mesh.clone(), listed.clone());
    // Neither ends by itself.
    tokio::select! {
        () = config => {}
        () = switch.follow(client, key, mesh, listed) => {}
    }
}

/// The record of how far sources have looked, beside the switch.
fn record(client: &Client, switch: &ObjectKey) -> Record {
    let name = format!("{}-sources", switch.name);
    Record::new(client.clone(), &ObjectKey::new(switch.namespace.clone(), name))
}

/// Whether this replica stands for election, and the client that all others get: by that, only the leader can write.
fn elect(
    client: Client,
    candidate: Option<(ObjectKey, String)>,
    leadership: &Leadership,
) -> (Client, Option<Election>) {
    let Some((lease, identity)) = candidate else { return (client, None) };
    let election = Election::new(client.clone(), &lease, identity, leadership.clone());
    (leadership.guard(client), Some(election))
}

/// Starts `parts` once every watch has listed its objects (on half a picture nothing is decided) and this replica
/// leads. When another one does, it ends at once.
async fn lead(
    election: Option<Election>,
    parts: Vec<Part>,
    mesh: Mesh,
    mut synced: mpsc::Receiver<()>,
    stop: CancellationToken,
) {
    for _ in 0..synced.max_capacity() {
        let _ = stop.run_until_cancelled(synced.recv()).await;
    }
    if stop.is_cancelled() {
        return;
    }
    mesh.settled().await;
    mesh.set_synced();
    info!("every watch has listed its objects");
    let Some(mut election) = election else { return together(parts, &stop).await };
    if stop.run_until_cancelled(election.won()).await.is_none() {
        return;
    }
    let told = tokio::select! {
        () = election.lost() => false,
        () = together(parts, &stop) => true,
    };
    if told {
        election.release().await;
    }
}

/// Runs parts until one of them ends, and then the others' ends. Dropped, it stops them in the middle.
async fn together(parts: Vec<Part>, stop: &CancellationToken) {
    let tasks = parts.into_iter().collect::<JoinSet<_>>();
    if let Err(error) = supervise(tasks, stop).await {
        error!("{error:#}");
    }
}

/// Runs those who ask for direct calls. They begin where they ended before we started: who looks before that is known would
/// begin anew.
async fn watch_directly(record: Record, mesh: Mesh, asking: Vec<Part>) {
    record.restore(&mesh).await;
    tokio::join!(record.keep(&mesh), futures::future::join_all(asking));
}

/// Learns from access logs.
async fn learn(
    address: SocketAddr,
    peers: Peers,
    observer: Observer,
    metrics: access_log::Metrics,
    stop: CancellationToken,
) {
    match bind(address, "access logs").await {
        Ok(listener) => {
            report(access_log::serve(listener, peers, observer, metrics, stop).await, "serving access logs");
        }
        Err(error) => error!("{error:#}"),
    }
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
pub(super) async fn until(stop: CancellationToken, part: impl Future<Output = ()> + Send) {
    stop.run_until_cancelled_owned(part).await;
}

fn report<E: std::error::Error>(result: Result<(), E>, what: &'static str) {
    if let Err(error) = result {
        error!(%error, "{what} failed");
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for {what}"))
}
