//! The operator as a process of its own, and what it costs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::mesh::Mesh;
use bed::wait::until;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use tokio::process::{Child, Command};

use crate::http::{Samples, get, samples};

/// Where it serves access logs.
pub(crate) const ACCESS_LOG: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18090);
/// Where it serves health and metrics.
const HTTP: &str = "127.0.0.1:18080";
/// How long it may take to be ready.
const LIMIT: Duration = Duration::from_mins(2);
/// What the API server may use of a processor at rest.
const REST_SHARE: f64 = 0.15;
/// For how long the control plane is watched for being at rest.
const REST: Duration = Duration::from_secs(5);
/// What `/proc` counts processor time in: `USER_HZ`, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running operator. Dropped, it is killed.
pub(crate) struct Operator(Child);

impl Operator {
    pub(crate) fn start(mesh: &Mesh, options: &[&str]) -> Result<Self> {
        let exe = std::env::current_exe()?.with_file_name("palisade");
        let log = std::fs::File::create(mesh.bed().log("bench-operator"))?;
        let mut command = Command::new(exe);
        command.args(["run", "--access-log-address", &ACCESS_LOG.to_string(), "--http-address", HTTP]);
        command.args(options).env("KUBECONFIG", mesh.bed().kubeconfig());
        command.stdin(Stdio::null()).stderr(log).kill_on_drop(true);
        Ok(Self(command.spawn().context("cannot start the operator")?))
    }

    /// Kills it as the kernel does when memory runs out, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.0.kill().await?)
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn until_ready(&self) -> Result<()> {
        until("the operator is ready", LIMIT, async || {
            let answer = get(HTTP, "/readyz").await?;
            ensure!(answer.lines().next().is_some_and(|line| line.ends_with("200 OK")), "{answer}");
            Ok(())
        })
        .await
    }

    /// A histogram of its own: the sum, in seconds, and the count.
    pub(crate) async fn histogram(&self, name: &str) -> Result<(f64, f64)> {
        let of = async |suffix| samples(HTTP, &format!("{name}_{suffix}")).await;
        Ok((of("sum").await?.values().sum(), of("count").await?.values().sum()))
    }

    /// The samples of one of its metrics.
    pub(crate) async fn metric(&self, name: &str) -> Result<Samples> {
        samples(HTTP, name).await
    }

    pub(crate) fn print_memory(&self, what: &str) -> Result<()> {
        let (now, peak) = (self.memory("VmRSS")?, self.memory("VmHWM")?);
        println!("{what:<58} {now:.1} MiB (peak {peak:.1})");
        Ok(())
    }

    /// The processor time that it used so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name, in parentheses, may have spaces.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| {
            fields.get(field).context("no such field")?.parse::<f64>().map_err(anyhow::Error::from)
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// A line of `/proc/PID/status`, in MiB.
    fn memory(&self, name: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find(|line| line.starts_with(name)).context("no such line")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib / 1024.0)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let pid = self.0.id().context("the operator has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
    }
}

pub(crate) async fn apply_crds(mesh: &Mesh) -> Result<()> {
    let folder = format!("{}/../../../crds", env!("CARGO_MANIFEST_DIR"));
    mesh.run("kubectl", &["apply", "--server-side", "--filename", &folder]).await.map(drop)
}

pub(crate) fn sidecars(mesh: &Mesh, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(mesh.client().clone(), namespace, &sidecar_resource())
}

pub(crate) fn all_sidecars(mesh: &Mesh) -> Api<DynamicObject> {
    Api::all_with(mesh.client().clone(), &sidecar_resource())
}

fn sidecar_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "Sidecar");
    ApiResource::from_gvk_with_plural(&kind, "sidecars")
}

/// Waits until the rest of the control plane has nothing left to do: an API server that was just started makes up the
/// schemas of all custom resources for some time, and what it writes meanwhile is slow.
pub(crate) async fn until_at_rest(mesh: &Mesh) -> Result<()> {
    let started = Instant::now();
    until("the control plane comes to rest", LIMIT, async || {
        let before = busy(mesh).await?;
        tokio::time::sleep(REST).await;
        let share = (busy(mesh).await? - before) / REST.as_secs_f64();
        ensure!(share < REST_SHARE, "it uses {share:.2} processors");
        Ok(())
    })
    .await?;
    println!("  the control plane has come to rest after {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The processor time that the API server and istiod have used, in seconds.
async fn busy(mesh: &Mesh) -> Result<f64> {
    let of = async |component| mesh.metric(component, "process_cpu_seconds_total", &[]).await;
    Ok(of(Component::Apiserver).await? + of(Component::Istiod).await?)
}
