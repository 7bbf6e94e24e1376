//! Calls that a pod makes, as its application would.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use super::Mesh;
use crate::app::Outcome;
use crate::app::load::Summary;
use crate::inspect::{self, PodHandle};

/// How long a load may take to end after it was told to.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// What came of one call.
pub type Call = Outcome;

impl Mesh {
    /// Lets a pod call addresses, one after the other; gives what came of each, failed or not. `options` are
    /// those of `bed app call`.
    ///
    /// # Errors
    /// When the pod cannot be found, or the client itself fails.
    pub async fn calls(&self, pod: &str, urls: &[&str], options: &[&str]) -> Result<Vec<Call>> {
        self.calls_from(&inspect::find_pod(&self.bed, pod).await?, urls, options).await
    }

    /// A pod to call from while the API server is down.
    ///
    /// # Errors
    /// When the pod cannot be found.
    pub async fn caller(&self, pod: &str) -> Result<PodHandle> {
        inspect::find_pod(&self.bed, pod).await
    }

    /// [`Self::calls`], of a pod that was found before.
    ///
    /// # Errors
    /// When the client itself fails.
    pub async fn calls_from(&self, pod: &PodHandle, urls: &[&str], options: &[&str]) -> Result<Vec<Call>> {
        let exe = self.exe.to_str().context("the program's path is no text")?;
        let line = [&[exe, "app", "call"], options, urls].concat();
        let mut command = self.command_of(pod, &line)?;
        let output = command.stdin(Stdio::null()).output().await?;
        let text = String::from_utf8(output.stdout)?;
        let calls: Vec<Call> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        // The client's exit code says that a call failed, which is for the caller to judge.
        ensure!(!calls.is_empty(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(calls)
    }

    /// Lets a pod call one address.
    ///
    /// # Errors
    /// When the call fails; with its error.
    pub async fn call(&self, pod: &str, url: &str) -> Result<Call> {
        let call = self.calls(pod, &[url], &[]).await?.swap_remove(0);
        ensure!(
            call.ok,
            "{pod} calls {url}: {}",
            call.error.unwrap_or_else(|| format!("status {:?}", call.status))
        );
        Ok(call)
    }

    /// Puts a pod's calls under way and leaves them going. `options` are those of `bed app load`.
    ///
    /// # Errors
    /// When the pod cannot be found.
    pub async fn load(&self, pod: &str, urls: &[&str], options: &[&str]) -> Result<Load> {
        self.load_from(&inspect::find_pod(&self.bed, pod).await?, urls, options)
    }

    /// [`Self::load`], of a pod that was found before.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn load_from(&self, pod: &PodHandle, urls: &[&str], options: &[&str]) -> Result<Load> {
        let exe = self.exe.to_str().context("the program's path is no text")?;
        let line = [&[exe, "app", "load"], options, urls].concat();
        let mut command = self.command_of(pod, &line)?;
        Ok(Load(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?))
    }
}

/// Calls under way.
#[derive(Debug)]
pub struct Load(Child);

impl Load {
    /// Ends the calls, waits for the last answers, and gives what came of all.
    ///
    /// # Errors
    /// When the client failed or does not end.
    pub async fn end(self) -> Result<Summary> {
        let pid = self.0.id().context("the load has ended before it was told to")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        let output = tokio::time::timeout(LAST_ANSWERS, self.0.wait_with_output()).await??;
        serde_json::from_slice(&output.stdout).context("the load gave no summary")
    }
}
