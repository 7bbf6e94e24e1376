//! More than one istiod, as while a mesh is upgraded.

use anyhow::{Context as _, Result};

use super::Mesh;

const NAMESPACE: &str = "istio-system";

impl Mesh {
    /// Installs an istiod of another revision beside the first one, with the same values, and waits until it is ready.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn install_istiod(&self, revision: &str) -> Result<()> {
        let (chart, values) = (self.bed.istiod_chart(), self.bed.istiod_values());
        let chart = chart.canonicalize()?;
        let values = values.to_str().context("the bed's path is no text")?;
        let (name, set) = (format!("istiod-{revision}"), format!("revision={revision}"));
        let chart = chart.to_str().context("the chart's path is no text")?;
        let mut line = vec!["install", &name, chart, "--namespace", NAMESPACE, "--values", values];
        line.extend(["--set", &set, "--wait", "--timeout", "150s"]);
        self.run("helm", &line).await.map(drop)
    }

    /// Uninstalls it, and waits until it is gone.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn uninstall_istiod(&self, revision: &str) -> Result<()> {
        self.uninstall(&format!("istiod-{revision}"), NAMESPACE).await
    }
}
