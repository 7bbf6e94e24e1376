use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Ok,
    OverLimit,
    /// It passed, although a shadow would have refused it.
    Shadowed,
    /// It is none of ours.
    Invalid,
    /// There was no room for a bucket.
    Full,
    /// There were too many requests at a time.
    TooMany,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Ok, Self::OverLimit, Self::Shadowed, Self::Invalid, Self::Full, Self::TooMany];

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OverLimit => "over_limit",
            Self::Shadowed => "shadowed",
            Self::Invalid => "invalid",
            Self::Full => "full",
            Self::TooMany => "too_many",
        }
    }
}

/// The metrics of the rate limit service. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Result, Counter>,
    buckets: Gauge,
}

impl Metrics {
    /// Makes the metrics and registers them: `palisade_rate_limit_requests_total` by `result`, and
    /// `palisade_rate_limit_buckets`.
    pub fn register(registry: &mut Registry) -> Self {
        let (requests, buckets) = (Family::<Result, Counter>::default(), Gauge::default());
        registry.register(
            "palisade_rate_limit_requests",
            "Requests that proxies asked the rate limit service about",
            requests.clone(),
        );
        registry.register(
            "palisade_rate_limit_buckets",
            "Token buckets that the rate limit service keeps",
            buckets.clone(),
        );
        for outcome in Outcome::ALL {
            drop(requests.get_or_create(&Result { result: outcome.label() }));
        }
        Self { requests, buckets }
    }

    pub(super) fn answered(&self, outcome: Outcome) {
        self.requests.get_or_create(&Result { result: outcome.label() }).inc();
    }

    pub(super) fn kept(&self, buckets: usize) {
        self.buckets.set(i64::try_from(buckets).unwrap_or(i64::MAX));
    }
}
