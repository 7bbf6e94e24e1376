//! What the same `Sidecar`s cost without Palisade: nobody who writes them can be sooner than the API server with istiod's
//! webhook, etcd and istiod, which hears of each, on the same machine.

use std::time::Instant;

use anyhow::Result;
use bed::mesh::Mesh;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::{HOSTS, bursts};
use crate::figure;
use crate::objects::{Size, all, host, namespace_of, namespaces};
use crate::operator::sidecars;

/// Writes a `Sidecar` for each Service and then, for as many as take part in a burst, one with the hosts of that; and takes
/// them away.
pub(super) async fn measure(mesh: &Mesh, size: Size) -> Result<()> {
    let started = Instant::now();
    all("Sidecars", size.services, |number| apply(mesh, number, vec!["*/*".to_owned()])).await?;
    figure("without Palisade: all Sidecars written", started.elapsed());
    for fences in bursts(size) {
        let started = Instant::now();
        let listed = |number| (number..number + HOSTS).map(|next| format!("*/{}", host(next))).collect();
        let (begin, count) = (fences.start, fences.len());
        all("Sidecars", count, |number| apply(mesh, begin + number, listed(begin + number))).await?;
        figure(&format!("without Palisade: {HOSTS} hosts in {count} Sidecars"), started.elapsed());
    }
    for namespace in namespaces() {
        let api = sidecars(mesh, &namespace);
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    }
    Ok(())
}

async fn apply(mesh: &Mesh, number: usize, hosts: Vec<String>) -> Result<()> {
    let (namespace, name) = (namespace_of(number), format!("s{number}"));
    let sidecar = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": name}},
            "egress": [{"hosts": hosts}],
            "outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {
                "host": "global-proxy.palisade-system.svc.cluster.local", "port": {"number": 80},
            }},
        },
    });
    let params = PatchParams::apply("floor");
    sidecars(mesh, &namespace).patch(&name, &params, &Patch::Apply(&sidecar)).await?;
    Ok(())
}
