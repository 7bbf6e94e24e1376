//! Looking into pods and components of a running bed, from inside it.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, ObjectList},
};

use crate::{cli::Component, control_plane, state::BedDir};

const LIMIT: Duration = Duration::from_secs(30);

/// A pod that runs in the bed.
#[derive(Clone, Debug)]
pub struct PodHandle {
    namespace: String,
    name: String,
    uid: String,
    address: Option<String>,
    host_network: bool,
}

impl PodHandle {
    fn new(pod: &Pod) -> Result<Self> {
        Ok(Self {
            namespace: pod.namespace().context("a Pod without a namespace")?,
            name: pod.name_any(),
            uid: pod.uid().context("a Pod without a uid")?,
            address: pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
            host_network: pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)),
        })
    }

    /// Where the node keeps the pod's volumes and logs.
    #[must_use]
    pub fn folder(&self, bed: &BedDir) -> PathBuf {
        bed.pods().join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }

    /// The pod's IP address.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The file of the pod's network namespace; none for a pod on the node's network.
    pub(crate) fn network(&self) -> Option<PathBuf> {
        (!self.host_network).then(|| Path::new("/run/netns").join(format!("pod-{}", self.uid)))
    }
}

/// The pod `NS/POD`. POD may be the beginning of the name, up to a dash: the youngest such pod is taken.
///
/// # Errors
/// When the API server does not answer, or there is no such pod.
pub async fn find_pod(bed: &BedDir, pod: &str) -> Result<PodHandle> {
    let (namespace, name) = pod.split_once('/').ok_or_else(|| anyhow!("{pod} is not of the form NS/POD"))?;
    let pods: Api<Pod> = Api::namespaced(control_plane::client(bed).await?, namespace);
    let everything = ListParams::default();
    let pods = tokio::time::timeout(LIMIT, pods.list(&everything))
        .await
        .context("the API server does not answer")??;
    choose(&pods, name)
        .ok_or_else(|| anyhow!("no Pod {name} in namespace {namespace}"))
        .and_then(PodHandle::new)
}

fn choose<'a>(pods: &'a ObjectList<Pod>, name: &str) -> Option<&'a Pod> {
    let beginning = format!("{name}-");
    let alive = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    pods.iter().find(|pod| pod.name_any() == name).or_else(|| {
        let matching = pods.iter().filter(|pod| pod.name_any().starts_with(&beginning)).filter(alive);
        matching.max_by_key(|pod| pod.creation_timestamp())
    })
}

/// A command in the pod's network. Its user is root, whose traffic the sidecar captures as it does every
/// user's but its own. It sees the bed's files with the pod's `resolv.conf`, or those of `container`.
///
/// # Errors
/// When the pod does not run, or has no such container.
pub fn command_in(
    bed: &BedDir,
    pod: &PodHandle,
    container: Option<&str>,
    line: &[OsString],
) -> Result<Command> {
    let mut command = Command::new("nsenter");
    if let Some(container) = container {
        let process = container_process(&pod.folder(bed), container)?;
        command.arg(format!("--target={process}")).args(["--net", "--mount", "--root", "--"]).args(line);
        return Ok(command);
    }
    if let Some(network) = pod.network() {
        ensure!(network.exists(), "Pod {}/{} does not run", pod.namespace, pod.name);
        command.arg(format!("--net={}", network.display()));
    }
    command.arg("--");
    if let Some(names) = resolv_conf(&pod.folder(bed)) {
        command.args(["unshare", "--mount", "sh", "-c"]);
        command.arg(r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#).arg(names);
    }
    command.args(line);
    Ok(command)
}

/// The pod's `resolv.conf`, which all its containers share.
fn resolv_conf(folder: &Path) -> Option<PathBuf> {
    let containers = fs::read_dir(folder.join("rootfs")).ok()?.flatten();
    containers.map(|container| container.path().join("etc/resolv.conf")).find(|file| file.exists())
}

/// A process of a container: one whose root directory is the one that the node has made for the container.
fn container_process(folder: &Path, container: &str) -> Result<i32> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let root = identity(&folder.join("rootfs").join(container));
    let rooted = |process: &i32| identity(Path::new(&format!("/proc/{process}/root/."))) == root;
    let entries = fs::read_dir("/proc")?.flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    processes
        .filter(|process| root.is_some() && rooted(process))
        .min()
        .ok_or_else(|| anyhow!("container {container} does not run"))
}

/// What the containers of a pod have written, or only `container`, each line after the container's name.
///
/// # Errors
/// When there is no such pod, or it has no such log.
pub async fn logs(bed: &BedDir, pod: &str, container: Option<&str>) -> Result<String> {
    let folder = find_pod(bed, pod).await?.folder(bed);
    if let Some(container) = container {
        let file = folder.join(format!("{container}.log"));
        return fs::read(&file).map(lossy).with_context(|| format!("no log {}", file.display()));
    }
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let mut text = String::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        for line in lossy(fs::read(&file)?).lines() {
            text.extend([&*name, ": ", line, "\n"]);
        }
    }
    Ok(text)
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// What the administration interface of the pod's Envoy answers at `path`.
///
/// # Errors
/// When the pod does not run or its Envoy does not answer.
pub async fn envoy(bed: &BedDir, pod: &str, path: &str) -> Result<String> {
    let pod = find_pod(bed, pod).await?;
    let url = format!("http://127.0.0.1:15000/{}", path.trim_start_matches('/'));
    let line = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "30", &url];
    let command = command_in(bed, &pod, None, &line.map(OsString::from))?;
    output(command).await
}

/// The metrics of a component, in Prometheus' text format.
///
/// # Errors
/// When the component does not answer.
pub async fn metrics(bed: &BedDir, component: Component) -> Result<String> {
    match component {
        Component::Apiserver => {
            let client = control_plane::client(bed).await?;
            let request = http::Request::get("/metrics").body(Vec::new())?;
            Ok(tokio::time::timeout(LIMIT, client.request_text(request)).await??)
        }
        Component::Istiod => scrape(bed, "istio-system/istiod", 15014).await,
        Component::Palisade => scrape(bed, "palisade-system/palisade", 8080).await,
    }
}

async fn scrape(bed: &BedDir, pod: &str, port: u16) -> Result<String> {
    let found = find_pod(bed, pod).await?;
    let address = found.address().with_context(|| format!("{pod} has no address"))?;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"]);
    curl.arg(format!("http://{address}:{port}/metrics"));
    output(curl).await
}

async fn output(command: Command) -> Result<String> {
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
