//! What the tasks of one Pod share.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Client;
use tokio::sync::watch;

use super::{
    Settings,
    network::Namespace,
    objects::Objects,
    state::{Board, Slot, init_containers},
    tokens::Tokens,
};

/// One Pod on this node.
pub(super) struct PodContext {
    pub(super) client: Client,
    pub(super) settings: Arc<Settings>,
    /// The Pod as the API server last showed it.
    pub(super) latest: watch::Receiver<Arc<Pod>>,
    /// `BED_DIR/pods/<namespace>_<name>_<uid>`.
    pub(super) dir: PathBuf,
    /// `None` when the Pod uses the node's own network.
    pub(super) namespace: Option<Namespace>,
    pub(super) ip: Ipv4Addr,
    pub(super) objects: Objects,
    pub(super) tokens: Tokens,
    pub(super) board: Board,
}

impl PodContext {
    pub(super) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.latest.borrow())
    }

    /// A container's specification.
    pub(super) fn container(&self, slot: Slot) -> Option<Container> {
        let pod = self.pod();
        let spec = pod.spec.as_ref()?;
        match slot {
            Slot::Init(index) => init_containers(spec).get(index).cloned(),
            Slot::Main(index) => spec.containers.get(index).cloned(),
        }
    }

    /// For log lines.
    pub(super) fn label(&self) -> String {
        let pod = self.pod();
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
    }
}

/// A container or init container by its name.
pub(super) fn container_named<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(init_containers(spec)).find(|container| container.name == name)
}
