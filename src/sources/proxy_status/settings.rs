use std::path::PathBuf;

use jiff::SignedDuration;
use serde::Deserialize;

/// The section `limiter.proxyStatus` of the operator's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether istiod is asked.
    pub enabled: bool,
    /// How long it is left alone after an answer, at least.
    pub interval: SignedDuration,
    /// How long an answer may take.
    pub timeout: SignedDuration,
    /// Where istiod serves xDS over TLS.
    pub port: u16,
    /// The file of the token by which istiod knows us: a service account's, for the audience `istio-ca`.
    pub token: PathBuf,
    /// The file of the certificates by which we know istiod.
    pub ca: PathBuf,
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It would be asked without end.
    #[error("limiter.proxyStatus.interval must be at least 1s")]
    Interval,
    /// Nobody answers in no time.
    #[error("limiter.proxyStatus.timeout must be at least 100ms")]
    Timeout,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: SignedDuration::from_secs(5),
            timeout: SignedDuration::from_secs(10),
            port: 15012,
            token: "/var/run/secrets/tokens/istio-token".into(),
            ca: "/var/run/secrets/istio/root-cert.pem".into(),
        }
    }
}

impl Settings {
    /// Whether the section makes sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.interval < SignedDuration::from_secs(1) {
            return Err(SettingsError::Interval);
        }
        if self.timeout < SignedDuration::from_millis(100) { Err(SettingsError::Timeout) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_makes_no_sense_is_refused_by_name() {
        let read = |text: &str| serde_json::from_str::<Settings>(text).unwrap().check();
        assert!(read(r#"{"enabled": true, "interval": "1s", "timeout": "100ms"}"#).is_ok());
        assert!(read(r#"{"interval": "0s"}"#).unwrap_err().to_string().contains("proxyStatus.interval"));
        assert!(read(r#"{"timeout": "-3s"}"#).unwrap_err().to_string().contains("proxyStatus.timeout"));
    }
}
