//! The configuration file: what is too rich for flags. The chart renders it from its values.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::fence::Defaults;
use crate::fence::auto::AutoFence;
use crate::graph::ExternalPolicy;
use crate::istio::Installation;
use crate::limiter::{MetricSettings, RateLimitService};
use crate::sources::{prometheus, proxy_metrics, proxy_status};

/// The whole file. A field that nobody knows is refused: a word misspelt would otherwise be a wish ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    /// What holds for all fences.
    pub(super) fence: Defaults,
    /// Which fences there are without anybody writing them.
    pub(super) auto_fence: AutoFence,
    /// Where and how Prometheus is asked.
    pub(super) prometheus: prometheus::Settings,
    /// Whether and how the proxies of pods are asked before they are fenced.
    pub(super) proxy_metrics: proxy_metrics::Settings,
    /// Which external hosts get a `ServiceEntry`.
    pub(super) external: ExternalPolicy,
    /// Whether limiters are looked after.
    pub(super) limiter: Limiter,
    /// How Istio is installed.
    pub(super) istio: Installation,
}

/// What holds for limiters.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Limiter {
    /// Whether they are looked after.
    pub(super) enabled: bool,
    /// Which metrics their expressions may name.
    pub(super) metrics: MetricSettings,
    /// Whether and how istiod is asked whether proxies have taken limits.
    pub(super) proxy_status: proxy_status::Settings,
    /// What counts for limits that all pods share, if it is there.
    pub(super) rate_limit_service: Option<RateLimitService>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            enabled: true,
            metrics: MetricSettings::default(),
            proxy_status: proxy_status::Settings::default(),
            rate_limit_service: None,
        }
    }
}

impl Config {
    /// Reads the file at `path`; without a path, everything has its default.
    pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read --config {}", path.display()))?;
        let config = serde_json::from_str::<Self>(&text).map_err(anyhow::Error::from).and_then(Self::checked);
        config.with_context(|| format!("--config {} is not valid", path.display()))
    }

    /// Refuses automatic fences that would be nobody's.
    fn checked(self) -> anyhow::Result<Self> {
        let revision = self.auto_fence.revision.as_deref();
        anyhow::ensure!(
            !self.auto_fence.enabled || self.istio.covers_revision(revision),
            "autoFence.revision must be one of istio.revisions: the fences that are created with it would not be looked after"
        );
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<Config>(r#"{"fence": {"stableHosts": []}}"#).unwrap_err();
        assert!(error.to_string().contains("stableHosts"), "{error}");
    }

    #[test]
    fn automatic_fences_that_would_be_nobodys_are_refused() {
        let read = |text: &str| serde_json::from_str::<Config>(text).unwrap().checked().is_ok();
        let strict = r#""istio": {"revisions": ["1-31"], "strictRevision": true}"#;
        assert!(!read(&format!(r#"{{{strict}, "autoFence": {{"enabled": true}}}}"#)));
        assert!(!read(&format!(r#"{{{strict}, "autoFence": {{"enabled": true, "revision": "1-30"}}}}"#)));
        assert!(read(&format!(r#"{{{strict}, "autoFence": {{"enabled": true, "revision": "1-31"}}}}"#)));
        assert!(read(&format!("{{{strict}}}")), "there are none");
    }

    #[test]
    fn no_file_means_defaults() {
        assert_eq!(Config::read(None).unwrap(), Config::default());
    }
}
