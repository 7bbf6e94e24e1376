//! Tools that are built from Go modules, whose versions `tests/e2e/bed/tools/*/go.mod` pins.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::cache::Cache;
use crate::{process, progress::Step};

/// Clients parse the API server's version, so it must say the one that go.mod asks for.
const KUBERNETES_VERSION: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";
const PLAIN: &str = "-s -w";
const ISTIO_MODULE: &str = "istio.io/istio";
/// What the bed reads of Istio's module: charts and CRDs, samples, Envoy's bootstrap template.
const ISTIO_FOLDERS: [&str; 3] = ["manifests", "samples", "tools/packaging/common"];

/// Istio's go.mod pins the version that istiod understands.
const GATEWAY_API_MODULE: &str = "sigs.k8s.io/gateway-api";
/// What the bed reads of it.
const GATEWAY_API_CRDS: &str = "config/crd/standard";

/// A module of ours that only pins versions.
struct Module {
    go_mod: &'static str,
    go_sum: &'static str,
    ldflags: &'static str,
}

const KUBERNETES: Module = Module {
    go_mod: include_str!("../../tools/kubernetes/go.mod"),
    go_sum: include_str!("../../tools/kubernetes/go.sum"),
    ldflags: KUBERNETES_VERSION,
};
const ETCD: Module = Module {
    go_mod: include_str!("../../tools/etcd/go.mod"),
    go_sum: include_str!("../../tools/etcd/go.sum"),
    ldflags: PLAIN,
};
const ISTIO: Module = Module {
    go_mod: include_str!("../../tools/istio/go.mod"),
    go_sum: include_str!("../../tools/istio/go.sum"),
    ldflags: PLAIN,
};
const HELM: Module = Module {
    go_mod: include_str!("../../tools/helm/go.mod"),
    go_sum: include_str!("../../tools/helm/go.sum"),
    ldflags: PLAIN,
};
const COREDNS: Module = Module {
    go_mod: include_str!("../../tools/coredns/go.mod"),
    go_sum: include_str!("../../tools/coredns/go.sum"),
    ldflags: PLAIN,
};

/// A program to build.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    KubeProxy,
    Kubectl,
    PilotDiscovery,
    PilotAgent,
    Istioctl,
    Helm,
    Coredns,
}

impl Program {
    /// Module, Go package, and the minutes that it takes on two cores after those before it.
    const fn source(self) -> (&'static Module, &'static str, &'static str) {
        match self {
            Self::Etcd => (&ETCD, "go.etcd.io/etcd/server/v3", "1 min"),
            Self::KubeApiserver => (&KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver", "3 min"),
            Self::KubeControllerManager => {
                (&KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager", "1 min")
            }
            Self::KubeScheduler => (&KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler", "10 s"),
            Self::KubeProxy => (&KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy", "20 s"),
            Self::Kubectl => (&KUBERNETES, "k8s.io/kubernetes/cmd/kubectl", "20 s"),
            Self::PilotDiscovery => (&ISTIO, "istio.io/istio/pilot/cmd/pilot-discovery", "4 min"),
            Self::PilotAgent => (&ISTIO, "istio.io/istio/pilot/cmd/pilot-agent", "10 s"),
            Self::Istioctl => (&ISTIO, "istio.io/istio/istioctl/cmd/istioctl", "1 min"),
            Self::Helm => (&HELM, "helm.sh/helm/v4/cmd/helm", "2 min"),
            Self::Coredns => (&COREDNS, "github.com/coredns/coredns", "2 min"),
        }
    }

    /// The executable's name: the last part of its package, but for a major version.
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            _ => self.source().1.rsplit('/').next().unwrap_or_default(),
        }
    }
}

/// The path of `program`, built if the cache lacks it.
pub(super) fn ensure(cache: &Cache, program: Program) -> Result<PathBuf> {
    let (module, package, minutes) = program.source();
    let name = program.name();
    let inputs = [module.go_mod, module.go_sum, module.ldflags, package].map(str::as_bytes);
    let entry = cache.entry(name, &inputs, |folder| {
        let step = Step::start(format!("building {name} (once; about {minutes} without a build cache)"));
        build(module, package, &folder.join(name)).with_context(|| format!("cannot build {name}"))?;
        step.done();
        Ok(())
    })?;
    Ok(entry.join(name))
}

/// A copy of what the bed reads of Istio's module, so that a warm cache needs neither Go nor a network.
pub(super) fn istio_source(cache: &Cache) -> Result<PathBuf> {
    let inputs = [ISTIO.go_mod.as_bytes(), b"istio source", ISTIO_FOLDERS[0].as_bytes()];
    cache.entry("istio-source", &inputs, |folder| {
        let module = download(ISTIO_MODULE)?;
        ISTIO_FOLDERS.iter().try_for_each(|part| copy(&module.join(part), &folder.join(part)))
    })
}

/// A copy of the Gateway API's custom resource definitions.
pub(super) fn gateway_api_crds(cache: &Cache) -> Result<PathBuf> {
    let inputs = [ISTIO.go_mod.as_bytes(), GATEWAY_API_CRDS.as_bytes()];
    cache.entry("gateway-api-crds", &inputs, |folder| {
        copy(&download(GATEWAY_API_MODULE)?.join(GATEWAY_API_CRDS), folder)
    })
}

/// The folder of a module among those that Istio's go.mod names.
fn download(module: &str) -> Result<PathBuf> {
    let work = workspace(&ISTIO)?;
    go(work.path(), &["mod", "download", module])?;
    let folder = go(work.path(), &["list", "-m", "-f", "{{.Dir}}", module])?;
    Ok(PathBuf::from(folder.trim()))
}

fn build(module: &Module, package: &str, output: &Path) -> Result<()> {
    let work = workspace(module)?;
    let output = output.to_string_lossy();
    go(work.path(), &["build", "-buildvcs=false", "-ldflags", module.ldflags, "-o", &output, package])?;
    Ok(())
}

/// A folder with only the module's files: the dependencies come from Go's own caches.
fn workspace(module: &Module) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("go.mod"), module.go_mod)?;
    fs::write(folder.path().join("go.sum"), module.go_sum)?;
    Ok(folder)
}

/// Runs `go` and gives its standard output. It dies with us, as nobody would use what it builds.
fn go(folder: &Path, arguments: &[&str]) -> Result<String> {
    ensure!(
        super::packages::find("go").is_some(),
        "Go is needed to build the bed's tools: install Go 1.26 or newer (https://go.dev/dl) and have `go` in PATH"
    );
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "go"])
        .args(arguments)
        .current_dir(folder)
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly")])
        .stdin(Stdio::null())
        .output()
        .context("cannot run go")?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        bail!("go {} failed:\n{}", arguments.join(" "), process::last_lines(&log, 20));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            // Contents only: Go's module cache is read-only, ours has to be deletable.
            fs::write(&target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
