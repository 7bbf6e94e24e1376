//! Prometheus, scraping the proxies of the mesh.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::{Mesh, output};
use crate::wait::until;

/// The pod of Prometheus, and its one container: to be killed, frozen and thawed.
pub const PROMETHEUS: (&str, &str) = ("monitoring/prometheus", "prometheus");
/// Where it answers inside the mesh.
pub const PROMETHEUS_URL: &str = "http://prometheus.monitoring:9090";

const NAMESPACE: &str = "monitoring";
const MANIFEST: &str = include_str!("../../manifests/prometheus.yaml");

/// A series of an instant vector: its labels and its value.
pub type Series = (BTreeMap<String, String>, f64);

impl Mesh {
    /// Starts Prometheus, and waits until it answers. It is installed if this machine lacks it.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_prometheus(&self) -> Result<()> {
        self.until_not_going(NAMESPACE).await?;
        self.apply(MANIFEST).await?;
        self.rollout(NAMESPACE).await
    }

    /// Stops Prometheus, and waits until it is gone with all its data.
    ///
    /// # Errors
    /// When it is not gone in time.
    pub async fn stop_prometheus(&self) -> Result<()> {
        self.kubectl(&["scale", "deployment/prometheus", "--replicas=0", "--namespace", NAMESPACE]).await?;
        until("Prometheus is gone", super::LIMIT, async || {
            let left = self.kubectl(&["get", "pods", "--output=name", "--namespace", NAMESPACE]).await?;
            ensure!(left.trim().is_empty(), "{left}");
            Ok(())
        })
        .await
    }

    /// What Prometheus answers to an instant query.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn query(&self, query: &str) -> Result<Vec<Series>> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "10", "--data-urlencode"]);
        curl.arg(format!("query={query}"));
        curl.arg(format!("http://{}:9090/api/v1/query", self.address(PROMETHEUS.0).await?));
        let answer: Value = serde_json::from_str(&output(curl, "").await?)?;
        ensure!(answer["data"]["resultType"] == "vector", "{query}: {answer}");
        answer["data"]["result"].as_array().into_iter().flatten().map(series).collect()
    }
}

fn series(series: &Value) -> Result<Series> {
    let value = series["value"][1].as_str().unwrap_or_default().parse()?;
    Ok((serde_json::from_value(series["metric"].clone())?, value))
}
