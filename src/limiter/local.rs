//! Limits that each pod keeps by itself: Envoy's local rate limit.

use serde_json::{Value, json};

use super::envoy_filter::{KEY, Limits, add_headers, duration, rate_limit, single_buckets};
use super::limit::Limit;

/// How many values Envoy keeps buckets for, of a limit that has one for each; then the one that was not used for longest goes.
const VALUES: u32 = 1024;

/// The filter `envoy.filters.http.local_ratelimit`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local;

impl Limits for Local {
    const END: &'static str = "";
    const TYPE: &'static str =
        "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
    const STATUS: &'static str = "status";

    /// It has no bucket for requests that match none.
    fn empty(&self) -> Value {
        let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
        json!({
            "@type": Self::TYPE,
            "stat_prefix": KEY,
            "filter_enabled": always,
            "filter_enforced": always,
            "always_consume_default_token_bucket": false,
        })
    }

    fn config(&self, limits: &[&Limit]) -> Value {
        let buckets = limits.iter().flat_map(|limit| {
            let buckets = single_buckets(limit).into_iter();
            buckets.map(|(entries, actions)| (descriptor(limit, &entries), rate_limit(limit, &actions)))
        });
        let (descriptors, rate_limits): (Vec<_>, Vec<_>) = buckets.unzip();
        let mut config = self.empty();
        config["descriptors"] = json!(descriptors);
        config["rate_limits"] = json!(rate_limits);
        if limits.iter().any(|limit| limit.matchers.all.iter().any(|action| action.separate)) {
            config["max_dynamic_descriptors"] = json!(VALUES);
        }
        add_headers(limits, &mut config);
        config
    }
}

fn descriptor(limit: &Limit, entries: &[Value]) -> Value {
    let mut descriptor = json!({ "entries": entries, "token_bucket": {
        "max_tokens": limit.bucket.tokens,
        "tokens_per_fill": limit.bucket.tokens,
        "fill_interval": duration(limit.bucket.interval),
    } });
    if limit.shadow {
        descriptor["shadow_mode"] = json!(true);
    }
    descriptor
}
