//! Follows the Pods that are bound to this node and has a task for each.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        events::{Event as KubeEvent, EventType, Recorder, Reporter},
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Settings,
    context::PodContext,
    hostfiles,
    network::{Addresses, HOST_ADDRESS, Lease, Namespace},
    objects::Objects,
    pod::{self, Worker},
    registration::NODE,
    state::Board,
    tokens::Tokens,
    volumes,
};

/// Pods that may start at once: more would only take time from each other on two cores.
const STARTS: usize = 4;

/// Runs Pods until `stop`.
///
/// # Errors
/// When a Pod's directory cannot be made.
pub(super) async fn run(client: Client, settings: Settings, stop: CancellationToken) -> Result<()> {
    let mut pods = Pods {
        recorder: Recorder::new(client.clone(), Reporter::from("kubelet")),
        client,
        settings: Arc::new(settings),
        addresses: Arc::new(Addresses::new()),
        starts: Arc::new(Semaphore::new(STARTS)),
        workers: HashMap::new(),
        tasks: TaskTracker::new(),
        stop: stop.clone(),
    };
    let mut events = pods.events();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => pods.handle(event)?,
            Some(Err(error)) => tracing::debug!(%error, "watch of Pods failed; it begins again"),
            None => break,
        }
    }
    pods.tasks.close();
    pods.tasks.wait().await;
    Ok(())
}

struct Pods {
    client: Client,
    recorder: Recorder,
    settings: Arc<Settings>,
    addresses: Arc<Addresses>,
    starts: Arc<Semaphore>,
    workers: HashMap<String, Handle>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the watch tells a Pod's task.
struct Handle {
    latest: watch::Sender<Arc<Pod>>,
    gone: CancellationToken,
    /// Seen in the list that is being read, after the watch had to begin again.
    listed: bool,
}

/// A Pod that is ready for its worker.
struct Prepared {
    context: Arc<PodContext>,
    latest: watch::Sender<Arc<Pod>>,
    /// `None` for a Pod on the node's own network.
    lease: Option<Lease>,
}

impl Pods {
    fn events(&self) -> BoxStream<'static, Result<Event<Pod>, watcher::Error>> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
        watcher(api, config).default_backoff().boxed()
    }

    fn handle(&mut self, event: Event<Pod>) -> Result<()> {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => self.apply(pod)?,
            Event::Delete(pod) => self.forget(&pod.uid().unwrap_or_default()),
            Event::Init => self.workers.values_mut().for_each(|handle| handle.listed = false),
            Event::InitDone => {
                let unseen = self.workers.iter().filter(|(_, handle)| !handle.listed);
                for uid in unseen.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
                    self.forget(&uid);
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, uid: &str) {
        if let Some(handle) = self.workers.remove(uid) {
            handle.gone.cancel();
        }
    }

    fn apply(&mut self, pod: Pod) -> Result<()> {
        let uid = pod.uid().unwrap_or_default();
        if let Some(handle) = self.workers.get_mut(&uid) {
            handle.listed = true;
            handle.latest.send_replace(Arc::new(pod));
            return Ok(());
        }
        let handle = self.start(pod)?;
        self.workers.insert(uid, handle);
        Ok(())
    }

    fn start(&self, pod: Pod) -> Result<Handle> {
        self.tell_unsupported(&pod);
        let gone = self.stop.child_token();
        let Prepared { context, latest, lease } = self.context(pod)?;
        let worker = Worker { context, gone: gone.clone(), starts: Arc::clone(&self.starts) };
        self.tasks.spawn(async move {
            worker.run().await;
            // The address is free when nothing of the Pod is left.
            drop(lease);
        });
        Ok(Handle { latest, gone, listed: true })
    }

    fn context(&self, pod: Pod) -> Result<Prepared> {
        let namespace_name = pod.namespace().unwrap_or_default();
        let uid = pod.uid().unwrap_or_default();
        let directory = format!("{namespace_name}_{}_{uid}", pod.name_any());
        let dir = self.settings.bed_dir.join("pods").join(directory);
        std::fs::create_dir_all(dir.join("rootfs")).with_context(|| dir.display().to_string())?;
        let lease = (!pod::uses_host_network(&pod)).then(|| self.addresses.lease()).transpose()?;
        let namespace = lease.as_ref().map(|lease| Namespace::of(&uid, lease.address()));
        if let Some(namespace) = &namespace {
            std::fs::write(dir.join("netns"), namespace.name())?;
        }
        std::fs::write(dir.join("resolv.conf"), hostfiles::resolv_conf(&pod))?;
        let board = Board::new(&pod);
        let (sender, latest) = watch::channel(Arc::new(pod));
        let context = PodContext {
            client: self.client.clone(),
            settings: Arc::clone(&self.settings),
            latest,
            dir,
            namespace,
            ip: lease.as_ref().map_or(HOST_ADDRESS, Lease::address),
            objects: Objects::new(self.client.clone(), &namespace_name),
            tokens: Tokens::default(),
            board,
        };
        Ok(Prepared { context: Arc::new(context), latest: sender, lease })
    }

    /// Says on the Pod which of its volumes the bed cannot have.
    fn tell_unsupported(&self, pod: &Pod) {
        let names = volumes::unsupported(pod);
        if names.is_empty() {
            return;
        }
        let event = KubeEvent {
            type_: EventType::Warning,
            reason: "UnsupportedVolume".to_owned(),
            note: Some(format!("empty directories stand for the volumes {names:?}")),
            action: "MountVolume".to_owned(),
            secondary: None,
        };
        let (recorder, reference) = (self.recorder.clone(), pod.object_ref(&()));
        self.tasks.spawn(async move {
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::debug!(%error, "event not recorded");
            }
        });
    }
}
