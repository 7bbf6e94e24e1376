use crate::limiter::{MetricSettings, is_metric_name};
use crate::sources::prometheus::{self, SettingsError};

/// Why the settings of metrics cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LimiterSettingsError {
    /// A duration that makes no sense.
    #[error("limiter.metrics.interval must be at least 1s")]
    Interval,
    /// A metric would be too old before the next one comes.
    #[error("limiter.metrics.maxAge must be longer than limiter.metrics.interval")]
    MaxAge,
    /// A time that cannot be.
    #[error("limiter.metrics.minInterval must not be negative")]
    MinInterval,
    /// A name that no expression can have.
    #[error(
        "limiter.metrics.handlers: {0:?} is no name: words of letters, digits, '-' and '_', with dots between"
    )]
    Name(String),
    /// There is nobody to ask.
    #[error("limiter.metrics.handlers needs limiter.metrics.url, or prometheus.url")]
    Url,
    /// Prometheus cannot be asked.
    #[error(transparent)]
    Prometheus(#[from] SettingsError),
}

/// The settings with all that they leave to those of Prometheus.
///
/// # Errors
/// If they make no sense; by name.
pub fn checked(
    settings: MetricSettings,
    prometheus: &prometheus::Settings,
) -> Result<MetricSettings, LimiterSettingsError> {
    let url = if settings.url.is_empty() { prometheus.url.clone() } else { settings.url };
    let settings = MetricSettings { url, ..settings };
    if settings.interval.as_secs() < 1 {
        return Err(LimiterSettingsError::Interval);
    }
    if settings.max_age <= settings.interval {
        return Err(LimiterSettingsError::MaxAge);
    }
    if settings.min_interval.is_negative() {
        return Err(LimiterSettingsError::MinInterval);
    }
    if let Some(name) = settings.handlers.keys().find(|name| !is_metric_name(name)) {
        return Err(LimiterSettingsError::Name(name.to_string()));
    }
    if settings.url.is_empty() && !settings.handlers.is_empty() {
        return Err(LimiterSettingsError::Url);
    }
    Ok(settings)
}
