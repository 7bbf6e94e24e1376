//! What proxies have, read from their Envoys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use serde_json::Value;

use super::Mesh;
use crate::cli::Component;
use crate::inspect;

/// An Envoy's counters and gauges, by name.
pub type Stats = BTreeMap<String, u64>;

/// The address of the listener of what has clusters and no routes.
const KEEP_BIND: &str = "unix://@palisade-keep";

/// Whether a Sidecar lists just what is used: nothing is yet to be warmed or drained.
#[must_use]
pub fn is_trimmed(sidecar: &Value) -> bool {
    let listeners = sidecar["spec"]["egress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let keeps = listeners.iter().any(|listener| listener["bind"] == KEEP_BIND);
    let captured = listeners.iter().find(|listener| listener["port"].is_null());
    let hosts = captured.and_then(|listener| listener["hosts"].as_array());
    !keeps && hosts.is_some_and(|hosts| !hosts.iter().any(|host| host == "*/*"))
}

impl Mesh {
    /// How long proxies drain old listeners, by the mesh's configuration.
    ///
    /// # Errors
    /// When there is none.
    pub async fn drain(&self) -> Result<Duration> {
        let line =
            ["get", "configmap", "istio", "--namespace=istio-system", "--output=jsonpath={.data.mesh}"];
        let config: Value = serde_saphyr::from_str(&self.kubectl(&line).await?)?;
        let text = config["defaultConfig"]["drainDuration"].as_str().context("no drainDuration")?;
        Ok(Duration::try_from(text.parse::<SignedDuration>()?)?)
    }

    /// What a pod's Envoy answers at an administration path.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn envoy(&self, pod: &str, path: &str) -> Result<String> {
        inspect::envoy(&self.bed, pod, path).await.with_context(|| format!("Envoy of {pod} at {path}"))
    }

    /// The names of a pod's outbound clusters (`outbound|9080||reviews.shop.svc.cluster.local`).
    ///
    /// # Errors
    /// When its Envoy does not answer.
    pub async fn outbound_clusters(&self, pod: &str) -> Result<BTreeSet<String>> {
        let text = self.envoy(pod, "/config_dump?resource=dynamic_active_clusters&mask=cluster.name").await?;
        let dump: Value = serde_json::from_str(&text)?;
        let configs = dump["configs"].as_array().into_iter().flatten();
        let names = configs.filter_map(|config| config["cluster"]["name"].as_str());
        Ok(names.filter(|name| name.starts_with("outbound|")).map(str::to_owned).collect())
    }

    /// The hosts that a pod has outbound clusters of.
    ///
    /// # Errors
    /// When its Envoy does not answer.
    pub async fn outbound_hosts(&self, pod: &str) -> Result<BTreeSet<String>> {
        let clusters = self.outbound_clusters(pod).await?;
        Ok(clusters.iter().filter_map(|name| name.rsplit('|').next()).map(str::to_owned).collect())
    }

    /// An Envoy's counters and gauges whose names match a regular expression.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stats(&self, pod: &str, filter: &str) -> Result<Stats> {
        let encoded: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let text = self.envoy(pod, &format!("/stats?filter={encoded}")).await?;
        let pairs = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// A component's metrics: the sum of the samples of `name` whose labels contain all of `labels`.
    ///
    /// # Errors
    /// When the component does not answer.
    pub async fn metric(&self, component: Component, name: &str, labels: &[&str]) -> Result<f64> {
        let text = inspect::metrics(&self.bed, component).await?;
        let samples = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            let (metric, rest) = series.split_once('{').unwrap_or((series, ""));
            metric == name && labels.iter().all(|label| rest.contains(label))
        });
        Ok(samples.filter_map(|(_, value)| value.parse::<f64>().ok()).sum())
    }
}
