//! The cluster's own metrics of pods: `metrics.k8s.io`, which metrics-server and others serve.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::AsyncReadExt;
use http::Request;
use kube::Client;
use serde::Deserialize;

use super::super::prometheus::client::Failure;

/// Bytes of one answer: some 50,000 pods.
const ANSWER: usize = 32 << 20;

/// What a pod uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// In cores.
    pub(super) cpu: f64,
    /// In bytes.
    pub(super) memory: f64,
}

#[derive(Deserialize)]
struct List {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Container {
    usage: Quantities,
}

#[derive(Deserialize)]
struct Quantities {
    cpu: String,
    memory: String,
}

/// What the pods of a namespace use, by name.
pub(super) async fn usages(
    client: &Client,
    namespace: &str,
    timeout: Duration,
) -> Result<BTreeMap<String, Usage>, Failure> {
    let body =
        tokio::time::timeout(timeout, list(client, namespace)).await.map_err(|_| Failure::Timeout)??;
    read(&body)
}

async fn list(client: &Client, namespace: &str) -> Result<Vec<u8>, Failure> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let request = Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Failure::Unreachable(error.to_string()))?;
    let answer = client.request_stream(request).await.map_err(|error| match error {
        kube::Error::Api(status) => Failure::Refused(format!("{} {}", status.code, status.reason)),
        other => Failure::Unreachable(other.to_string()),
    })?;
    let mut body = Vec::new();
    let reading = std::pin::pin!(answer.take(ANSWER as u64 + 1)).read_to_end(&mut body).await;
    reading.map_err(|error| Failure::Unreachable(error.to_string()))?;
    if body.len() > ANSWER { Err(Failure::TooLarge(ANSWER)) } else { Ok(body) }
}

fn read(body: &[u8]) -> Result<BTreeMap<String, Usage>, Failure> {
    let unreadable = |error: serde_json::Error| Failure::Unreadable(error.to_string());
    let list: List = serde_json::from_slice(body).map_err(unreadable)?;
    list.items.into_iter().map(|pod| Ok((pod.metadata.name, usage(&pod.containers)?))).collect()
}

fn usage(containers: &[Container]) -> Result<Usage, Failure> {
    let mut all = Usage { cpu: 0.0, memory: 0.0 };
    for Container { usage } in containers {
        let read = |text: &String| {
            quantity(text).ok_or_else(|| Failure::Unreadable(format!("{text:?} is no quantity")))
        };
        all.cpu += read(&usage.cpu)?;
        all.memory += read(&usage.memory)?;
    }
    Ok(all)
}

/// Suffixes of Kubernetes' quantities. The longer ones first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// A quantity as Kubernetes writes them: `250m`, `64Mi`, `1e3`.
fn quantity(text: &str) -> Option<f64> {
    let with = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)));
    let (number, factor) = with.unwrap_or((text, &1.0));
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_read_as_kubernetes_writes_it() {
        for (text, expected) in [
            ("250m", Some(0.25)),
            ("1500000n", Some(0.0015)),
            ("2", Some(2.0)),
            ("64Mi", Some(67_108_864.0)),
            ("12Ki", Some(12_288.0)),
            ("1.5G", Some(1.5e9)),
            ("1e3", Some(1000.0)),
            ("", None),
            ("-1", None),
            ("inf", None),
            ("many", None),
        ] {
            assert_eq!(quantity(text), expected, "{text}");
        }
    }
}
