//! Limits of how many requests are under way, which follow how fast they are answered: Envoy's adaptive concurrency.

use serde_json::{Value, json};

use super::envoy_filter::{Limits, duration};
use super::limit::Limit;

/// The filter `envoy.filters.http.adaptive_concurrency`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adaptive;

impl Limits for Adaptive {
    const END: &'static str = "/adaptive";
    const TYPE: &'static str =
        "type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency";
    const STATUS: &'static str = "concurrency_limit_exceeded_status";

    fn empty(&self) -> Value {
        let mut config = of(1000, 60_000);
        config["enabled"] = json!({ "default_value": false, "runtime_key": "palisade.adaptive_concurrency" });
        config
    }

    /// A filter has one: that for its port, if there is one, and of a subset rather than of all pods.
    fn config(&self, limits: &[&Limit]) -> Value {
        let own = limits.iter().rfind(|limit| limit.place.listeners.port.is_some()).or(limits.last());
        own.map_or_else(|| self.empty(), |limit| of(limit.bucket.tokens, limit.bucket.interval))
    }
}

/// No more than so many at a time; how fast an answer can be is measured anew after so many milliseconds. The rest is what
/// Envoy's documentation proposes.
fn of(most: u32, interval: u64) -> Value {
    json!({
        "@type": Adaptive::TYPE,
        "gradient_controller_config": {
            "sample_aggregate_percentile": { "value": 50 },
            "concurrency_limit_params": {
                "max_concurrency_limit": most,
                "min_concurrency_limit": most.min(3),
                "concurrency_update_interval": "0.100s",
            },
            "min_rtt_calc_params": {
                "interval": duration(interval),
                "request_count": 50,
                "jitter": { "value": 10 },
                "min_concurrency": most.min(3),
                "buffer": { "value": 25 },
            },
        },
        "enabled": { "default_value": true, "runtime_key": "palisade.adaptive_concurrency" },
    })
}
