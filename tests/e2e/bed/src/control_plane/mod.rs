//! Kubernetes' control plane and Istio's, as processes of the bed's root network namespace; istiod itself is a
//! Pod that the node runs.

mod commands;
mod istio;
mod pki;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use futures::future::select_all;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, Config, config::Kubeconfig};
use tokio::process::Command;

pub use self::istio::Options as IstioOptions;
use self::pki::Pki;
use crate::{process::Process, state::BedDir, tools::Tools, wait};

/// The name of the bed's only node.
pub const NODE: &str = "bed";

/// How long a process may take to answer, on a machine that does much else.
const LIMIT: Duration = Duration::from_mins(1);
const API_SERVER: &str = "kube-apiserver";
/// How often the file is looked for that wants the API server down.
const LOOK: Duration = Duration::from_millis(50);
const DNS_MANIFEST: &str = include_str!("../../manifests/dns.yaml");

/// The running processes. Dropped, they are killed.
pub struct ControlPlane {
    bed: BedDir,
    tools: Tools,
    pki: Pki,
    client: Client,
    processes: Vec<Process>,
}

impl ControlPlane {
    /// Starts etcd and the API server, and waits until it is ready.
    ///
    /// # Errors
    /// When a process cannot be started, ends, or is not ready in time; with the end of its log.
    pub async fn start(bed: &BedDir, tools: &Tools) -> Result<Self> {
        let pki = pki::write(bed).context("cannot make the bed's certificates")?;
        let client = client(bed).await?;
        let mut plane = Self { bed: bed.clone(), tools: tools.clone(), pki, client, processes: Vec::new() };
        plane.spawn("etcd", commands::etcd(tools, bed))?;
        plane.spawn(API_SERVER, commands::kube_apiserver(tools, &plane.pki))?;
        let client = plane.client.clone();
        plane.require("the API server is ready", async || ready(&client, "/readyz").await).await?;
        Ok(plane)
    }

    /// A client with all rights.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Starts what acts on the API server's objects, and installs Istio. The node has to be running.
    ///
    /// # Errors
    /// When a part cannot be started, ends, or is not ready in time; with the end of its log.
    pub async fn complete(&mut self, options: &IstioOptions) -> Result<()> {
        let (tools, pki) = (self.tools.clone(), self.pki.clone());
        self.spawn("kube-controller-manager", commands::kube_controller_manager(&tools, &pki))?;
        self.spawn("kube-scheduler", commands::kube_scheduler(&tools, &pki))?;
        let (client, bed) = (self.client.clone(), self.bed.clone());
        self.guard(async {
            tokio::try_join!(
                apply(&tools, &bed, DNS_MANIFEST),
                istio::install(&client, &tools, &bed, options)
            )
        })
        .await?;
        // Its rights come with its Service.
        self.spawn("coredns", commands::coredns(&tools, &pki, &bed)?)?;
        self.require("the node is registered", async || registered(&client).await).await?;
        // Before its Node exists, kube-proxy waits half a minute.
        self.spawn("kube-proxy", commands::kube_proxy(&tools, &pki)?)?;
        self.require("istiod injects sidecars", async || istio::injects(&client).await)
            .await
            .with_context(|| format!("istiod's log is below {} (kept with --keep)", bed.pods().display()))
    }

    /// Waits until one of the processes ends, which none should. Meanwhile the API server is killed and started
    /// again as tests ask for it.
    pub async fn failure(&mut self) -> Error {
        let order = self.bed.api_server_down();
        loop {
            let down = !self.processes.iter().any(|process| process.name() == API_SERVER);
            let ends = select_all(self.processes.iter_mut().map(|process| Box::pin(process.failure())));
            tokio::select! {
                (error, ..) = ends => return error,
                () = turned(&order, down) => {}
            }
            if let Err(error) = self.turn_api_server().await {
                return error;
            }
        }
    }

    /// Kills the API server if it runs, and starts it if it does not.
    async fn turn_api_server(&mut self) -> Result<()> {
        match self.processes.iter().position(|process| process.name() == API_SERVER) {
            Some(index) => self.processes.swap_remove(index).kill().await,
            None => self.spawn(API_SERVER, commands::kube_apiserver(&self.tools, &self.pki)),
        }
    }

    fn spawn(&mut self, name: &str, command: Command) -> Result<()> {
        let process = Process::start(name, command, &self.bed.log(name))?;
        self.processes.push(process);
        Ok(())
    }

    async fn require(&mut self, what: &str, check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        self.guard(wait::until(what, LIMIT, check)).await
    }

    /// Does `work`, unless a process ends meanwhile.
    async fn guard<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            error = self.failure() => Err(error),
        }
    }
}

/// Waits until the API server is wanted down although it is up, or up although it is down.
async fn turned(order: &Path, down: bool) {
    while order.exists() == down {
        tokio::time::sleep(LOOK).await;
    }
}

/// A client with all rights, from the bed's kubeconfig.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub async fn client(bed: &BedDir) -> Result<Client> {
    let file = Kubeconfig::read_from(bed.kubeconfig()).context("cannot read the bed's kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn ready(client: &Client, path: &str) -> Result<()> {
    let request = http::Request::get(path).body(Vec::new())?;
    let answer = client.request_text(request).await?;
    ensure!(answer.trim() == "ok", "{path} says {answer}");
    Ok(())
}

async fn registered(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.get_opt(NODE).await?.map(drop).ok_or_else(|| anyhow!("there is no Node {NODE}"))
}

/// Applies a manifest as a user would.
async fn apply(tools: &Tools, bed: &BedDir, manifest: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifest)?;
    let mut kubectl = Command::new(tools.kubectl());
    kubectl.args(["apply", "--server-side", "--filename"]).arg(file.path());
    run(kubectl, bed).await
}

/// Runs a command of the administrator's to its end.
async fn run(mut command: Command, bed: &BedDir) -> Result<()> {
    let line = format!("{:?}", command.as_std());
    command.env("KUBECONFIG", bed.kubeconfig()).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .with_context(|| format!("{line}: no end within {} s", LIMIT.as_secs()))??;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line} failed:\n{}", crate::process::last_lines(&error, 15));
    Ok(())
}
