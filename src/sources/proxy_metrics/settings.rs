use jiff::SignedDuration;
use serde::Deserialize;

/// The section `proxyMetrics` of the operator's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether the proxies of pods are asked. The operator must be able to reach the pods at `port`.
    pub enabled: bool,
    /// Where a sidecar serves Envoy's metrics, in plain HTTP: Istio does not capture what comes in there.
    pub port: u16,
    /// How many pods of a fence are asked, from 1.
    pub pods: usize,
    /// How long one answer may take; all pods of a fence together may take three times as long.
    pub timeout: SignedDuration,
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A time that makes no sense.
    #[error("proxyMetrics.timeout must be at least 100ms")]
    Timeout,
    /// A number that makes no sense.
    #[error("proxyMetrics.pods must be at least 1")]
    Pods,
    /// No client came about.
    #[error("no client for the proxies of pods can be made: {0}")]
    Client(String),
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: false, port: 15090, pods: 10, timeout: SignedDuration::from_secs(3) }
    }
}

impl Settings {
    /// Whether the section makes sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.timeout < SignedDuration::from_millis(100) {
            return Err(SettingsError::Timeout);
        }
        if self.pods == 0 { Err(SettingsError::Pods) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_makes_no_sense_is_refused_by_name() {
        let read = |text: &str| serde_json::from_str::<Settings>(text).unwrap().check();
        assert!(read(r#"{"enabled": true, "port": 15020, "pods": 1, "timeout": "1s"}"#).is_ok());
        assert!(read(r#"{"timeout": "-3s"}"#).unwrap_err().to_string().contains("proxyMetrics.timeout"));
        assert!(read(r#"{"pods": 0}"#).unwrap_err().to_string().contains("proxyMetrics.pods"));
    }
}
