//! A test's own code in a pod's network.

use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::{LIMIT, Mesh};
use crate::inspect;

impl Mesh {
    /// A pod's IP address.
    ///
    /// # Errors
    /// When there is no such pod, or it has none yet.
    pub async fn address(&self, pod: &str) -> Result<String> {
        let found = inspect::find_pod(&self.bed, pod).await?;
        found.address().map(str::to_owned).with_context(|| format!("{pod} has no address"))
    }

    /// Runs `task` in a pod's network, so that its connections come from the pod's address, captured by the
    /// pod's sidecar if it has one. Names are not resolved as in the pod: `task` is to connect to addresses.
    ///
    /// # Errors
    /// When there is no such pod, or `task` fails or does not end.
    pub async fn inside<T, F>(&self, pod: &str, task: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let found = inspect::find_pod(&self.bed, pod).await?;
        let network = found.network().context("a pod on the node's network")?;
        let (answer, answered) = oneshot::channel();
        // A thread of its own, as one that has entered a network never leaves it.
        thread::spawn(move || drop(answer.send(enter(&network, task))));
        tokio::time::timeout(LIMIT, answered)
            .await
            .context("it does not end")?
            .context("the task panicked")?
    }
}

fn enter<T, F: Future<Output = Result<T>>>(network: &Path, task: impl FnOnce() -> F) -> Result<T> {
    let file = File::open(network).with_context(|| format!("{} does not run", network.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET)?;
    Builder::new_current_thread().enable_all().build()?.block_on(async { task().await })
}
