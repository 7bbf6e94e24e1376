//! What a test, a demo or a benchmark does with a running bed, from inside it.

mod access_log;
mod bulk;
mod calls;
mod faults;
mod istiods;
mod namespaces;
mod network;
mod prometheus;
mod proxies;
mod writes;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

pub use access_log::{AccessLog, entry};
pub use calls::{Call, Load};
pub use prometheus::{PROMETHEUS, PROMETHEUS_URL, Series};
pub use proxies::{Stats, is_trimmed};
pub use writes::Writes;

use crate::{control_plane, inspect, inspect::PodHandle, state::BedDir};

/// The longest that a command may take.
const LIMIT: Duration = Duration::from_mins(3);

/// A running bed, seen from inside.
#[derive(Clone)]
pub struct Mesh {
    bed: BedDir,
    client: Client,
    exe: PathBuf,
}

impl Mesh {
    /// The bed that this process runs in.
    ///
    /// # Errors
    /// When it runs in none, or the API server does not answer.
    pub async fn connect() -> Result<Self> {
        let dir = std::env::var_os("BED_DIR").context("this runs inside a bed only: `bed run -- …`")?;
        let bed = BedDir::new(dir.into());
        let client = control_plane::client(&bed).await?;
        let exe = std::env::current_exe()?.with_file_name("bed");
        Ok(Self { bed, client, exe })
    }

    /// A client with the administrator's rights.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The bed's state directory.
    #[must_use]
    pub fn bed(&self) -> &BedDir {
        &self.bed
    }

    /// Runs a program of the bed (kubectl, helm, istioctl) and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.feed(program, arguments, "").await
    }

    /// The same, with `input` on its standard input.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub async fn feed(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.bed.bin().join(program));
        command.args(arguments).env("KUBECONFIG", self.bed.kubeconfig());
        output(command, input).await.with_context(|| format!("{program} {}", arguments.join(" ")))
    }

    /// `kubectl` with these arguments.
    ///
    /// # Errors
    /// When it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments).await
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When one is refused; with the API server's message.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        self.feed("kubectl", &["apply", "--filename", "-"], manifests).await.map(drop)
    }

    /// Waits until a namespace's Deployments have all their pods ready.
    ///
    /// # Errors
    /// When one has not in time.
    pub async fn rollout(&self, namespace: &str) -> Result<()> {
        let wait =
            ["wait", "deployment", "--all", "--for=condition=Available", "--timeout=150s", "--namespace"];
        self.kubectl(&[&wait[..], &[namespace]].concat()).await.map(drop)
    }

    /// Installs a chart, and waits until what it installs is ready.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn install(&self, chart: &Path, name: &str, namespace: &str, values: &[&str]) -> Result<()> {
        self.install_from("{}", chart, name, namespace, values).await
    }

    /// The same with values in YAML, over which `values` win.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn install_from(
        &self,
        file: &str,
        chart: &Path,
        name: &str,
        namespace: &str,
        values: &[&str],
    ) -> Result<()> {
        let chart = chart.to_str().context("the chart's path is no text")?;
        let mut line =
            vec!["upgrade", "--install", name, chart, "--namespace", namespace, "--create-namespace"];
        line.extend(["--wait", "--timeout", "150s", "--values", "-"]);
        line.extend(values.iter().flat_map(|value| ["--set", value]));
        self.feed("helm", &line, file).await.map(drop)
    }

    /// Uninstalls a chart, and waits until all of it is gone.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn uninstall(&self, name: &str, namespace: &str) -> Result<()> {
        let line = ["uninstall", name, "--namespace", namespace, "--wait", "--timeout", "150s"];
        self.run("helm", &line).await.map(drop)
    }

    /// A command in a pod's network (`NS/POD`, or the beginning of a pod's name), captured by its sidecar.
    ///
    /// # Errors
    /// When there is no such pod.
    async fn command_in(&self, pod: &str, line: &[&str]) -> Result<Command> {
        self.command_of(&inspect::find_pod(&self.bed, pod).await?, line)
    }

    fn command_of(&self, pod: &PodHandle, line: &[&str]) -> Result<Command> {
        let line: Vec<OsString> = line.iter().map(OsString::from).collect();
        let mut command = Command::from(inspect::command_in(&self.bed, pod, None, &line)?);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Runs a command in a pod's network and gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub async fn exec(&self, pod: &str, line: &[&str]) -> Result<String> {
        output(self.command_in(pod, line).await?, "").await
    }
}

async fn output(mut command: Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early tells why by itself.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.context("it does not end")??;
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}{}", text.trim(), error.trim());
    Ok(text.into_owned())
}
