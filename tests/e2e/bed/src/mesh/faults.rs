//! What goes wrong in a mesh, made to happen.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Mesh;
use crate::inspect;
use crate::wait::until;

/// How long what was killed may take to be back, with hundreds of fences and sidecars that all come back to it.
const BACK: Duration = Duration::from_mins(3);

impl Mesh {
    /// Kills all processes of a container, as the kernel does when memory runs out. The node starts it again,
    /// after a pause that grows from 1 s if it happens often.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn kill(&self, pod: &str, container: &str) -> Result<()> {
        self.signal(pod, container, Signal::SIGKILL).await
    }

    /// Has all processes of a container stand still, as on a machine that is out of memory or out of reach.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn freeze(&self, pod: &str, container: &str) -> Result<()> {
        self.signal(pod, container, Signal::SIGSTOP).await
    }

    /// Has them go on.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn thaw(&self, pod: &str, container: &str) -> Result<()> {
        self.signal(pod, container, Signal::SIGCONT).await
    }

    /// What a container has written.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn log(&self, pod: &str, container: &str) -> Result<String> {
        inspect::logs(&self.bed, pod, Some(container)).await
    }

    async fn signal(&self, pod: &str, container: &str, signal: Signal) -> Result<()> {
        Ok(killpg(Pid::from_raw(self.process(pod, container).await?), signal)?)
    }

    /// The process of a container: another one once the container was started again.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn process(&self, pod: &str, container: &str) -> Result<i32> {
        let folder = inspect::find_pod(&self.bed, pod).await?.folder(&self.bed);
        let text = fs::read_to_string(folder.join(format!("{container}.pid")));
        let text = text.with_context(|| format!("container {container} of {pod} does not run"))?;
        Ok(text.trim().parse()?)
    }

    /// How often a pod's container was started again, and whether the pod is ready now.
    ///
    /// # Errors
    /// When there is not one such pod, alive: `POD` is its name or a Deployment's.
    pub async fn restarts(&self, pod: &str) -> Result<(i32, bool)> {
        let (namespace, name) = pod.split_once('/').context("NS/POD is needed")?;
        let pods =
            Api::<Pod>::namespaced(self.client.clone(), namespace).list(&ListParams::default()).await?;
        let beginning = format!("{name}-");
        let mut alive = pods.iter().filter(|pod| {
            pod.metadata.deletion_timestamp.is_none() && pod.name_any().starts_with(&beginning)
        });
        let (only, more) = (alive.next().with_context(|| format!("no pod {pod}"))?, alive.next());
        ensure!(more.is_none(), "{pod} has more than one pod");
        let status = only.status.as_ref().context("a pod without a status")?;
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let ready = !containers.is_empty() && containers.iter().all(|container| container.ready);
        Ok((containers.iter().map(|container| container.restart_count).sum(), ready))
    }

    /// Waits until a pod is ready and was restarted `restarts` times.
    ///
    /// # Errors
    /// When that does not come about.
    pub async fn until_restarted(&self, pod: &str, restarts: i32) -> Result<()> {
        until(&format!("{pod} is ready after {restarts} restarts"), BACK, async || {
            let (count, ready) = self.restarts(pod).await?;
            ensure!(ready && count == restarts, "restarts: {count}, ready: {ready}");
            Ok(())
        })
        .await
    }

    /// Kills the API server, and keeps it down.
    ///
    /// # Errors
    /// When it still answers after a while.
    pub async fn stop_api_server(&self) -> Result<()> {
        fs::write(self.bed.api_server_down(), "")?;
        until("the API server is down", BACK, async || {
            ensure!(self.client.apiserver_version().await.is_err(), "it answers");
            Ok(())
        })
        .await
    }

    /// Starts the API server again, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_api_server(&self) -> Result<()> {
        fs::remove_file(self.bed.api_server_down())?;
        until("the API server is ready", BACK, async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = self.client.request_text(request).await?;
            ensure!(answer.trim() == "ok", "{answer}");
            Ok(())
        })
        .await
    }
}
