use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Seconds;
use super::lenient::each_if_it_can_be_read;
use super::rejection::{RejectionBody, STATUSES};
use super::spelling::both_spellings;

/// What expressions are written with: names between braces have a dot before them.
const EXPRESSION: &str = r"^([^{}]|\{\{ *\.[-A-Za-z0-9_.]+ *\}\})*$";

/// How many requests a workload lets in or out, in which time. Group, version and field names are Slime's
/// (`microservice.slime.io/v1alpha2`); fields with two words may be spelled `fill_interval` or `fillInterval`.
// Each printer column has a type.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "microservice.slime.io",
    version = "v1alpha2",
    kind = "SmartLimiter",
    plural = "smartlimiters",
    namespaced,
    status = "SmartLimiterStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(name = "Limits", type_ = "integer", json_path = ".status.limits"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SmartLimiterSpec {
    /// The limits by the subset of pods that they are for: `_base` for all of them, else the name of a subset of a
    /// `DestinationRule` for the Service of the limiter's name. Pods of a subset have the limits of `_base` as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub sets: BTreeMap<String, LimiterSet>,

    /// Labels of the pods that the limits are for. Without any: the pods of `host`, or of the Service that has the limiter's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(
        validation = Rule::new("self.all(k, self[k].matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$'))")
            .message("each value of workloadSelector must be a label value: at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends"),
        validation = Rule::new("self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
            .message("each key of workloadSelector must be a label key: at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends, after an optional prefix such as example.com/")
    )]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = { "type": "string", "maxLength": 63 }))]
    pub workload_selector: BTreeMap<String, String>,

    /// Whether the pods are gateways.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gateway: bool,

    /// A host whose pods the limits are for, if `workloadSelector` does not say: those that the Service or the `ServiceEntry` of the
    /// limiter's namespace selects that has the host. Slime finds their labels in a registry of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub host: Option<String>,

    /// What descriptors are for that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// Whether requests are refused while the rate limit service does not answer; otherwise they pass. For limits of the
    /// strategy `global`. Ours: Slime has no such field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failure_mode_deny: bool,

    /// The status of answers to requests that are rejected: 429 if none is given, and 503 with the strategy `adaptive`. Those that
    /// Envoy knows, from 400 on. Ours: Slime has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = STATUSES))]
    pub rejection_status: Option<u16>,

    /// The body of answers to requests that are rejected; Envoy's own if none is given. All rejections by limits at the same ports have
    /// it, other limiters' too. Ours: Slime has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection_body: Option<RejectionBody>,

    /// Deprecated by Slime, and not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rls: Option<String>,
}

/// The limits of one subset.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct LimiterSet {
    /// The limits. A request needs a token of each one that it matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub descriptor: Vec<Descriptor>,
}

/// One limit.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[schemars(transform = both_spellings)]
pub struct Descriptor {
    /// When the limit is in force: `"true"`, or an expression of numbers, of the subsets' ready pods
    /// (`{{._base.pod}} > 2`), and of metrics (`{{._base.cpu.sum}} > 10`).
    #[serde(default)]
    #[schemars(extend("maxLength" = 1024, "pattern" = EXPRESSION))]
    pub condition: String,

    /// How long metrics must say that the condition holds, or that it does not, before the limit comes or goes; none: at
    /// once. Ours: Slime has no such field.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Seconds>,

    /// What becomes of the limit while metrics of its expressions are not known. Ours: Slime has no such field.
    #[serde(default, alias = "onMissingMetrics", skip_serializing_if = "OnMissingMetrics::is_default")]
    pub on_missing_metrics: OnMissingMetrics,

    /// What the limit is. A descriptor without one is refused in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,

    /// Which requests it is for: those that match all of these; without any, all requests.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16))]
    pub matches: Vec<Match>,

    /// Where it is enforced; without it, what the spec's `target` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// The key of Envoy's descriptor entry, next to the one that Palisade adds.
    #[serde(default, alias = "customKey", skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 253))]
    pub custom_key: String,

    /// The value of Envoy's descriptor entry, next to the one that Palisade adds.
    #[serde(default, alias = "customValue", skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 253))]
    pub custom_value: String,

    /// Whether requests above the limit are only counted, not rejected. Ours: Slime has no such field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,

    /// Whether answers tell the caller how much of the limit is left (`x-ratelimit-limit`, `-remaining`, `-reset`).
    /// Ours: Slime has no such field.
    #[serde(default, alias = "rateLimitHeaders", skip_serializing_if = "std::ops::Not::not")]
    pub rate_limit_headers: bool,
}

/// What becomes of a limit while metrics are not known.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingMetrics {
    /// It stays as the metrics had it that were known last, pods that come and go aside.
    #[default]
    Keep,
    /// It is in force, with `fallbackQuota` if its quota needs metrics. A condition that needs them is taken to hold.
    Limit,
    /// It is not in force.
    DoNotLimit,
}

impl OnMissingMetrics {
    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A number of requests in a time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[schemars(transform = both_spellings)]
pub struct Action {
    /// The number: digits, or an expression (`100/{{._base.pod}}`). It must be above zero.
    #[serde(default)]
    #[schemars(extend("maxLength" = 1024, "pattern" = EXPRESSION))]
    pub quota: String,

    /// The number while metrics are not known: digits, or an expression without metrics. With `onMissingMetrics: Limit`, and
    /// with `Keep` if there is nothing to keep. Ours: Slime has no such field.
    #[serde(default, alias = "fallbackQuota", skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 1024, "pattern" = EXPRESSION))]
    pub fallback_quota: String,

    /// The time: at least 50 ms, at most a day. A descriptor without one is refused in the status.
    #[serde(default, alias = "fillInterval", skip_serializing_if = "Option::is_none")]
    pub fill_interval: Option<Seconds>,

    /// `single`, and nothing: each pod lets the quota pass. `average`: all ready pods together do, each its part.
    /// `global`: all pods together do, and the rate limit service counts. `adaptive`: each pod has so many requests under
    /// way at most, and fewer while answers are slow. `connections`: each pod has so many TCP connections open at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63))]
    pub strategy: String,

    /// Headers of the answers to requests that are rejected. Those of all limits of a port are added.
    #[serde(default, alias = "headersToAdd", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16))]
    pub headers_to_add: Vec<Header>,
}

/// A header.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Its name.
    #[serde(default)]
    #[schemars(extend("maxLength" = 256))]
    pub key: String,
    /// Its value.
    #[serde(default)]
    #[schemars(extend("maxLength" = 4096))]
    pub value: String,
}

/// What a request must have. Exactly one of the operators is given.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[schemars(transform = both_spellings)]
pub struct Match {
    /// The name of the header or query parameter. `:method`, `:path` and `:authority` are headers too.
    #[serde(default)]
    #[schemars(extend("maxLength" = 256))]
    pub name: String,

    /// The value matches this regular expression (RE2) as a whole.
    #[serde(default, alias = "regexMatch", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 1024))]
    pub regex_match: Option<String>,

    /// The value is this. Of `SourceIpMatch`: addresses or ranges (`10.0.0.0/8`) with commas between, each of which
    /// has the quota for itself.
    #[serde(default, alias = "exactMatch", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 4096))]
    pub exact_match: Option<String>,

    /// The value begins with this.
    #[serde(default, alias = "prefixMatch", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 4096))]
    pub prefix_match: Option<String>,

    /// The value ends with this.
    #[serde(default, alias = "suffixMatch", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 4096))]
    pub suffix_match: Option<String>,

    /// The value is empty.
    #[serde(default, alias = "isExactMatchEmpty", skip_serializing_if = "std::ops::Not::not")]
    pub is_exact_match_empty: bool,

    /// Whether there is such a header or query parameter at all.
    #[serde(default, alias = "presentMatch", skip_serializing_if = "Option::is_none")]
    pub present_match: Option<bool>,

    /// There is such a header or query parameter, and each of its values has the quota for itself; of `SourceIpMatch`: each
    /// caller's address has. No other operator is given.
    #[serde(default, alias = "presentMatchSeparate", skip_serializing_if = "Option::is_none")]
    pub present_match_separate: Option<bool>,

    /// Whether the request must not match instead.
    #[serde(default, alias = "invertMatch", skip_serializing_if = "std::ops::Not::not")]
    pub invert_match: bool,

    /// `HeadMatch`, and nothing: a header. `QueryMatch`: a query parameter. `SourceIpMatch`: the caller's address.
    /// `JsonBodyMatch` needs an Envoy that nobody ships, and is not supported.
    #[serde(
        default,
        rename = "matchSource",
        alias = "match_source",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("maxLength" = 63))]
    pub match_source: String,

    /// The same as `matchSource: QueryMatch`. Slime's older field.
    #[serde(
        default,
        rename = "useQueryMatch",
        alias = "use_query_match",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub use_query_match: bool,
}

/// Where a limit is enforced.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// `inbound`, and nothing: requests that come in. `outbound`: requests that the pods send. Gateways have one
    /// direction only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63))]
    pub direction: String,

    /// The port: of the container for requests that come in, of the destination for those that are sent, of the
    /// server for gateways. None or 0: each port, with a quota of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 65535))]
    pub port: Option<i32>,

    /// Routes, as `virtual host/route`: a request must take one of them. The virtual host is a host, with or without
    /// its port (`reviews.shop.svc.cluster.local:9080/canary`); the route's name is that of the `VirtualService`'s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64, "items" = { "type": "string", "maxLength": 512 }))]
    pub route: Vec<String>,

    /// Virtual hosts: hosts, with or without their ports. A request must be to one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64, "items" = { "type": "string", "maxLength": 512 }))]
    pub host: Vec<String>,
}

/// What limits are in force, and what they were made of.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SmartLimiterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready` tells whether all that the spec asks for is in force, and what is not; `Enforced`, whether any limit
    /// is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// How many limits are in force.
    #[serde(default)]
    pub limits: u32,

    /// The limits in force, by subset: with their numbers in place of expressions, and as each pod has them.
    // Atomic: written as a whole, so that nothing stays of what Slime wrote there.
    #[serde(
        default,
        deserialize_with = "each_if_it_can_be_read",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub ratelimit_status: BTreeMap<String, LimiterSet>,

    /// What the expressions were computed from: `_base.pod` is the number of ready pods, one at least; others are metrics.
    #[serde(
        default,
        deserialize_with = "each_if_it_can_be_read",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub metric_status: BTreeMap<String, String>,

    /// The metrics that limits are computed from, by subset and number of the descriptor (`_base/0`). They are in use until
    /// others would change the limit by enough, and while none are known.
    #[serde(
        default,
        deserialize_with = "each_if_it_can_be_read",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub metrics_in_use: BTreeMap<String, MetricsInUse>,
}

/// The metrics that a limit is computed from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct MetricsInUse {
    /// Their values, by their names in expressions.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Since when they are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Whether some are not known any more, or never were, so that the limit is as its `onMissingMetrics` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}
