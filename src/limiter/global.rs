//! Limits that all pods share: Envoy asks the rate limit service, and tells it the limit with each request.

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::envoy_filter::{KEY, Limits, add_headers, generic_key, rate_limit, single_buckets};
use super::limit::Limit;

/// Whose limits the rate limit service is asked about.
pub const DOMAIN: &str = "palisade";
/// The key of the entry that says the limit: `<requests>/<milliseconds>`, with `/shadow` after it if it refuses nothing.
pub const LIMIT_KEY: &str = "palisade.limit";

/// Where the rate limit service is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitService {
    /// The full host name of its Service.
    pub host: String,
    /// The Service's port.
    pub port: u16,
    /// How long a request waits for its answer.
    pub timeout: SignedDuration,
}

/// The filter `envoy.filters.http.ratelimit`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Global<'a> {
    pub(super) service: &'a RateLimitService,
    /// Whether requests are refused that the service has no answer for.
    pub(super) denies: bool,
}

impl Limits for Global<'_> {
    const END: &'static str = "/global";
    const TYPE: &'static str = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit";
    const STATUS: &'static str = "rate_limited_status";

    /// It asks about nothing: without limits of its own, it would take those of routes.
    fn empty(&self) -> Value {
        let mut config = self.asking();
        config["filter_enabled"] = json!({ "default_value": { "numerator": 0, "denominator": "HUNDRED" } });
        config
    }

    fn config(&self, limits: &[&Limit]) -> Value {
        let all = limits.iter().flat_map(|limit| {
            single_buckets(limit).into_iter().map(|(_, mut actions)| {
                actions.push(generic_key(LIMIT_KEY, &text(limit)));
                rate_limit(limit, &actions)
            })
        });
        let mut config = self.asking();
        config["rate_limits"] = all.collect();
        add_headers(limits, &mut config);
        config
    }
}

impl Global<'_> {
    fn asking(&self) -> Value {
        let RateLimitService { host, port, timeout } = self.service;
        json!({
            "@type": Self::TYPE,
            "domain": DOMAIN,
            "stat_prefix": KEY,
            "timeout": format!("{}.{:03}s", timeout.as_secs(), timeout.subsec_millis()),
            "failure_mode_deny": self.denies,
            "rate_limit_service": {
                "transport_api_version": "V3",
                // Without an authority Envoy says the cluster's name, whose `|` another Envoy refuses.
                "grpc_service": { "envoy_grpc": {
                    "cluster_name": format!("outbound|{port}||{host}"),
                    "authority": host,
                } },
            },
        })
    }
}

/// A limit in words that the rate limit service reads.
fn text(limit: &Limit) -> String {
    let shadow = if limit.shadow { "/shadow" } else { "" };
    format!("{}/{}{shadow}", limit.bucket.tokens, limit.bucket.interval)
}
