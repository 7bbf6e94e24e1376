//! Every state that Sidecars were in, seen by a watch: what no case may miss between two looks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::{SOON, World};

const EVERYTHING: &str = "*/*";

/// A watch that goes on while this lives.
pub struct History {
    states: Arc<Mutex<Vec<State>>>,
    task: JoinHandle<()>,
}

/// A Sidecar as it was for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `namespace/name`.
    pub sidecar: String,
    /// Whether it was deleted.
    pub gone: bool,
    /// What is routed.
    pub routes: BTreeSet<String>,
    /// What has clusters only.
    pub keeps: BTreeSet<String>,
}

impl History {
    /// Begins to watch; the states at this moment are the first ones.
    pub async fn start(world: &World) -> Result<Self> {
        let states = Arc::new(Mutex::new(Vec::new()));
        let (listed, mut begun) = watch::channel(false);
        let task = tokio::spawn(follow(world.mesh.client().clone(), states.clone(), listed));
        tokio::time::timeout(SOON, begun.wait_for(|listed| *listed)).await??;
        Ok(Self { states, task })
    }

    /// The states that a Sidecar was in, one after the other.
    pub fn of(&self, sidecar: &str) -> Vec<State> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own: Vec<_> = states.iter().filter(|state| state.sidecar == sidecar).cloned().collect();
        own.dedup();
        own
    }

    /// The state that a Sidecar is in.
    pub fn last(&self, sidecar: &str) -> State {
        self.of(sidecar).pop().unwrap_or_default()
    }

    /// Makes sure that the Sidecar is there all the time, and that no host that it ever routed to left it.
    pub fn nothing_lost(&self, sidecar: &str) -> Result<()> {
        for (before, after) in pairs(&self.of(sidecar)) {
            let has = after.hosts();
            let lost = before.routes.iter().find(|host| *host != EVERYTHING && !has.contains(*host));
            ensure!(lost.is_none(), "{sidecar} lost {lost:?}\nbefore: {before:?}\nafter: {after:?}");
        }
        Ok(())
    }

    /// Makes sure that a host that the Sidecar lists now was in it ever since it came.
    pub fn never_left(&self, sidecar: &str, host: &str) -> Result<()> {
        let states = self.of(sidecar);
        let left = states.iter().skip_while(|state| !state.has(host)).find(|state| !state.has(host));
        ensure!(left.is_none(), "{host} left {sidecar}: {left:?}");
        Ok(())
    }

    /// Makes sure that the Sidecar made every change before it broke what was: nothing was routed that had no
    /// cluster before, and no cluster went in the write in which routes changed.
    pub fn made_before_broken(&self, sidecar: &str) -> Result<()> {
        for (before, after) in pairs(&self.of(sidecar)) {
            let shown = || format!("{sidecar}\nbefore: {before:?}\nafter: {after:?}");
            if after.gone {
                ensure!(before.routes.contains(EVERYTHING), "it went before it was opened: {}", shown());
                continue;
            }
            if before.gone || before.routes == after.routes {
                continue;
            }
            ensure!(before.has_clusters_of(&after.routes), "routed before there were clusters: {}", shown());
            ensure!(after.has_clusters_of(&before.routes), "clusters went with their routes: {}", shown());
        }
        Ok(())
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// Whether clusters of the whole mesh are there.
    pub fn is_open(&self) -> bool {
        self.keeps.contains(EVERYTHING) || self.routes.contains(EVERYTHING)
    }

    /// Whether a host is listed, routed to or not.
    pub fn has(&self, host: &str) -> bool {
        self.hosts().contains(host)
    }

    fn hosts(&self) -> BTreeSet<String> {
        self.routes.union(&self.keeps).filter(|host| *host != EVERYTHING).cloned().collect()
    }

    fn has_clusters_of(&self, hosts: &BTreeSet<String>) -> bool {
        self.is_open() || hosts.is_subset(&self.hosts())
    }

    fn new(object: &DynamicObject, gone: bool) -> Self {
        let sidecar = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        if gone {
            return Self { sidecar, gone, ..Self::default() };
        }
        let listeners = object.data["spec"]["egress"].as_array().map(Vec::as_slice).unwrap_or_default();
        let hosts = |captured: bool| {
            let of_kind = listeners.iter().filter(|listener| listener.get("port").is_none() == captured);
            let hosts = of_kind.flat_map(|listener| listener["hosts"].as_array().into_iter().flatten());
            hosts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self { sidecar, gone, routes: hosts(true), keeps: hosts(false) }
    }
}

fn pairs(states: &[State]) -> impl Iterator<Item = (&State, &State)> {
    states.iter().zip(states.iter().skip(1))
}

async fn follow(client: Client, states: Arc<Mutex<Vec<State>>>, listed: watch::Sender<bool>) {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "Sidecar");
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&kind));
    let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let state = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => State::new(&object, false),
            Ok(Event::Delete(object)) => State::new(&object, true),
            Ok(Event::InitDone) => {
                listed.send_replace(true);
                continue;
            }
            // The API server is away; the watch goes on where it ended.
            Ok(Event::Init) | Err(_) => continue,
        };
        states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
    }
}
