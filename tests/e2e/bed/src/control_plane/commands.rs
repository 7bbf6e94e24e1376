//! The command lines of the control plane's processes.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::json;
use tokio::process::Command;

use super::pki::Pki;
use crate::{
    sandbox::{POD_NETWORK, ROOT_ADDRESS},
    state::BedDir,
    tools::Tools,
};

const ETCD: &str = "http://127.0.0.1:2379";
const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The audience that istiod asks for in workloads' tokens.
const AUDIENCES: &str = "https://kubernetes.default.svc,istio-ca";

fn command(program: impl AsRef<Path>, arguments: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments.iter().map(|(name, value)| format!("--{name}={value}")));
    command
}

/// etcd without fsync: its data lies in memory and dies with the bed.
pub(super) fn etcd(tools: &Tools, bed: &BedDir) -> Command {
    let folder = bed.etcd();
    let mut etcd = command(
        tools.etcd(),
        &[
            ("data-dir", &folder.to_string_lossy()),
            ("listen-client-urls", ETCD),
            ("advertise-client-urls", ETCD),
            ("listen-peer-urls", "http://127.0.0.1:2380"),
            ("unsafe-no-fsync", "true"),
            ("quota-backend-bytes", "4294967296"),
            ("auto-compaction-retention", "5m"),
            ("logger", "zap"),
            ("log-level", "warn"),
        ],
    );
    // etcd takes its flags from variables of these names too; the user's own are not meant for the bed.
    for variable in ["ETCD_DATA_DIR", "ETCD_NAME", "ETCD_LISTEN_CLIENT_URLS", "ETCD_LISTEN_PEER_URLS"] {
        etcd.env_remove(variable);
    }
    etcd
}

pub(super) fn kube_apiserver(tools: &Tools, pki: &Pki) -> Command {
    command(
        tools.kube_apiserver(),
        &[
            ("etcd-servers", ETCD),
            ("bind-address", "0.0.0.0"),
            ("secure-port", "6443"),
            ("advertise-address", ROOT_ADDRESS),
            ("tls-cert-file", &pki.file("apiserver.crt")),
            ("tls-private-key-file", &pki.file("apiserver.key")),
            ("client-ca-file", &pki.file("ca.crt")),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("api-audiences", AUDIENCES),
            ("service-account-key-file", &pki.file("sa.pub")),
            ("service-account-signing-key-file", &pki.file("sa.key")),
            ("service-cluster-ip-range", SERVICE_NETWORK),
            ("authorization-mode", "RBAC"),
            ("allow-privileged", "true"),
            // Benchmarks measure the mesh, not the API server's fairness.
            ("enable-priority-and-fairness", "false"),
            ("max-requests-inflight", "3000"),
            ("max-mutating-requests-inflight", "1000"),
            ("profiling", "false"),
            // With one, the default, it takes half a minute until two thousand Services are gone.
            ("delete-collection-workers", "16"),
        ],
    )
}

pub(super) fn kube_controller_manager(tools: &Tools, pki: &Pki) -> Command {
    let kubeconfig = pki.kubeconfig("controller-manager");
    command(
        tools.kube_controller_manager(),
        &[
            ("kubeconfig", &kubeconfig),
            ("bind-address", "127.0.0.1"),
            ("leader-elect", "false"),
            ("use-service-account-credentials", "true"),
            ("root-ca-file", &pki.file("ca.crt")),
            ("service-account-private-key-file", &pki.file("sa.key")),
            ("cluster-signing-cert-file", &pki.file("ca.crt")),
            ("cluster-signing-key-file", &pki.file("ca.key")),
            ("kube-api-qps", "300"),
            ("kube-api-burst", "600"),
            ("concurrent-deployment-syncs", "20"),
            ("concurrent-replicaset-syncs", "20"),
            ("concurrent-service-endpoint-syncs", "20"),
            ("concurrent-gc-syncs", "20"),
            ("concurrent-namespace-syncs", "20"),
            // A laptop that sleeps or a machine under load is no reason to evict every pod.
            ("node-monitor-grace-period", "10m"),
        ],
    )
}

pub(super) fn kube_scheduler(tools: &Tools, pki: &Pki) -> Command {
    command(
        tools.kube_scheduler(),
        &[
            ("kubeconfig", &pki.kubeconfig("scheduler")),
            ("bind-address", "127.0.0.1"),
            ("leader-elect", "false"),
            ("kube-api-qps", "300"),
            ("kube-api-burst", "600"),
        ],
    )
}

/// kube-proxy, configured by a file because it has no flags for nftables' sync periods.
pub(super) fn kube_proxy(tools: &Tools, pki: &Pki) -> Result<Command> {
    let file = pki.file("kube-proxy.json");
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": pki.kubeconfig("proxy"), "qps": 100, "burst": 200},
        "mode": "nftables",
        "hostnameOverride": crate::control_plane::NODE,
        "clusterCIDR": POD_NETWORK,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nftables": {
            "minSyncPeriod": "100ms",
            "syncPeriod": "30s",
        },
        // The limits are the machine's: a network namespace cannot and must not change them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    fs::write(&file, configuration.to_string())?;
    Ok(command(tools.kube_proxy(), &[("config", &file)]))
}

/// `CoreDNS` for the cluster's names and those in the bed's hosts file. Every other name is said not to exist:
/// nothing in the bed may ask another name server.
pub(super) fn coredns(tools: &Tools, pki: &Pki, bed: &BedDir) -> Result<Command> {
    let (corefile, zone, hosts) = (pki.file("Corefile"), pki.file("root.zone"), bed.hosts());
    fs::write(&hosts, "")?;
    fs::write(&zone, "@ 5 IN SOA ns.bed. root.bed. 1 3600 600 86400 1\n@ 5 IN NS ns.bed.\n")?;
    let (kubeconfig, hosts) = (pki.kubeconfig("coredns"), hosts.display());
    let text = format!(
        "cluster.local in-addr.arpa ip6.arpa {{
    bind {ROOT_ADDRESS}
    errors
    ready 127.0.0.1:8181
    kubernetes {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 2
    }}
}}
. {{
    bind {ROOT_ADDRESS}
    errors
    hosts {hosts} {{
        ttl 1
        reload 500ms
        fallthrough
    }}
    file {zone}
}}
"
    );
    fs::write(&corefile, text)?;
    let mut coredns = Command::new(tools.coredns());
    coredns.arg("-conf").arg(&corefile);
    Ok(coredns)
}
