use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient::{each_if_it_can_be_read, or_default, those_that_are_known};
use super::{Mode, Observed, RecyclingStrategy, Retention, SidecarPolicy};

/// What a workload may know of the mesh: whom to fence, and which hosts it always needs.
///
/// Everything else is learned from the calls the workload makes. Group, version and field names are Slime's
/// (`microservice.slime.io/v1alpha1`).
// Each printer column has a type.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "microservice.slime.io",
    version = "v1alpha1",
    kind = "ServiceFence",
    plural = "servicefences",
    shortname = "svf",
    namespaced,
    status = "ServiceFenceStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enable"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.mode"),
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
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts"),
    printcolumn(name = "Cut", type_ = "integer", json_path = ".status.observed.cut"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceFenceSpec {
    /// Whether the workload is fenced: `true` writes its Sidecar, `false` gives the full configuration back.
    #[serde(default)]
    pub enable: bool,

    /// Hosts that the workload always needs, whether it has called them or not. A key is a full host name
    /// (`reviews.shop.svc.cluster.local`, `www.example.com`), all hosts that end alike (`*.example.com`), or a
    /// whole namespace (`shop/*`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(
        validation = Rule::new(r"self.all(h, h.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[*]|([*][.])?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$'))")
            .message("each key of host must be a full host name in lower case (reviews.shop.svc.cluster.local, www.example.com), all hosts that end alike (*.example.com) or a whole namespace (shop/*); no port, no short name, no other wildcard")
    )]
    #[schemars(extend("maxProperties" = 512))]
    pub host: BTreeMap<String, RecyclingStrategy>,

    /// Namespaces of which the workload needs every Service: the same as `shop/*` in `host`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 512, "items" = { "type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" }))]
    pub namespace_selector: Vec<String>,

    /// Labels of Services that the workload needs, in whatever namespace they are. A Service has to match one of
    /// the selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub label_selector: Vec<LabelSelector>,

    /// Which pods the fence is for. Without it: the pods of the Service that has the fence's name, and without such a
    /// Service those whose label `app` has that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,

    /// Whether an enabled fence acts on what it knows: `Enforce` writes the Sidecar, `Observe` only learns and
    /// reports. Without it: what the operator's configuration says, `Enforce` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// What to do about a Sidecar that somebody else wrote for the same pods. Without it: what the operator's
    /// configuration says, `Defer` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar_policy: Option<SidecarPolicy>,

    /// How much is learned, and for how long. Ours: Slime has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<Learning>,
}

/// How much a fence learns, and for how long. What it leaves out, the operator's configuration says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Learning {
    /// How long a learned host may be unused before it leaves (`840h`); `0`: it never leaves. A host leaves only
    /// if a source that sees direct calls has watched the workload for all that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,

    /// How many hosts may be learned. What is known already stays; calls to further hosts keep their detour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 2500))]
    pub max_hosts: Option<u32>,

    /// The namespaces of which hosts may be learned; empty: all. Calls to hosts of others keep their detour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 256, "items" = { "type": "string", "maxLength": 63 }))]
    pub namespaces: Option<Vec<String>>,
}

/// Services by their labels.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {
    /// Labels that a Service must all have. None select nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub selector: BTreeMap<String, String>,
}

/// The pods that a fence is for. `labels` win over `fromService`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that a pod of the fence's namespace must all have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(
        validation = Rule::new("self.all(k, self[k].matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$'))")
            .message("each value of workloadSelector.labels must be a label value: at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends"),
        validation = Rule::new("self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
            .message("each key of workloadSelector.labels must be a label key: at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends, after an optional prefix such as example.com/")
    )]
    // The limits keep the rules within the API server's budget for validation.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = { "type": "string", "maxLength": 63 }))]
    pub labels: BTreeMap<String, String>,

    /// Take the selector of the Service that has the fence's name and namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_service: bool,
}

/// What is known of the workload, and what was made of it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceFenceStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready` tells whether what the spec asks for is in force, and why not; `Enforced`, whether a trimmed Sidecar
    /// of this fence is; `Conflict`, of another object for the same pods; `Learning`, whether calls were seen, and
    /// by whom; `Degraded`, whether something is left out that the workload uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The mode that the fence is in, by its spec or by the operator's configuration; none while it is not enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// What the fence means for the workload, or would mean if it were enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,

    /// How many hosts the workload is known to use.
    #[serde(default)]
    pub hosts: u32,

    /// The hosts that the workload is known to use, each with who said so. This is the durable form of what
    /// was learned: it is written before the Sidecar is, and read back after a restart.
    // Atomic: written as a whole, so that nothing stays of what Slime wrote there.
    #[serde(
        default,
        deserialize_with = "each_if_it_can_be_read",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub domains: BTreeMap<String, Dependency>,

    /// Read only: what Slime had learned. Its hosts are taken over when the fence is seen for the first time.
    #[serde(default, deserialize_with = "each_if_it_can_be_read", skip_serializing)]
    pub metric_status: BTreeMap<String, String>,
}

/// One host that a workload uses.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The host as the Sidecar imports it, once for each namespace that defines it (`namespace/host`). Empty
    /// for a host of the spec that no Service or ServiceEntry defines (yet), and for one whose time is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,

    /// `ACTIVE`: the Sidecar lists it. `EXPIRE`: its time is over, by the spec's strategy for it.
    // No enum: an object that Slime left with another word would be refused whenever anything of it is written.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "String")]
    pub status: DomainStatus,

    /// Who said that the workload uses it.
    #[serde(default, deserialize_with = "those_that_are_known", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<DependencySource>,

    /// When a call to it was seen first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Time>,

    /// When a call to it was seen last, at most an eighth of the retention behind: a repeated call is no reason
    /// for a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// Whether a host of a fence is in force (Slime's words).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DomainStatus {
    /// The Sidecar lists it.
    #[default]
    #[serde(rename = "ACTIVE")]
    Active,
    /// The spec's strategy for it says that its time is over.
    #[serde(rename = "EXPIRE")]
    Expired,
}

/// Who said that a workload uses a host.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DependencySource {
    /// The fence's own spec.
    Spec,
    /// The operator's configuration.
    Configuration,
    /// An access log of the global proxy.
    AccessLog,
    /// Metrics of the workload's own proxies, in Prometheus.
    Prometheus,
    /// The workload's own proxies, which were asked what they have counted before it was fenced.
    ProxyMetrics,
    /// An `AuthorizationPolicy` that names the workload as a caller of the host.
    Policy,
    /// A `VirtualService` that has routes for the workload as a caller (`sourceLabels`, `sourceNamespace`).
    VirtualService,
    /// A `DestinationRule` that the workload's namespace goes by, and the global proxy's does not.
    DestinationRule,
    /// An `EnvoyFilter` for the workload's proxies, which names the host.
    EnvoyFilter,
    /// Istio's mesh configuration: an extension provider, which every proxy may need.
    MeshConfig,
    /// The global proxy's namespace does not see the host (`exportTo`), so it could not be learned there.
    Visibility,
    /// A `ServiceEntry` whose hosts the workload resolves by istiod (`ISTIO_META_DNS_CAPTURE`), which tells it of listed hosts alone.
    Dns,
    /// Slime, which had learned it before.
    Slime,
    /// Another fence that selects pods of this one.
    Fence,
    /// A Sidecar that somebody else wrote, and that this fence is composed with.
    Sidecar,
}

impl DependencySource {
    /// Those that tell of calls.
    pub const LEARNED: [Self; 4] = [Self::AccessLog, Self::Prometheus, Self::ProxyMetrics, Self::Slime];

    /// Whether it tells of calls that were seen, which are remembered; the others state what is needed, for as long
    /// as they state it.
    #[must_use]
    pub fn is_learned(self) -> bool {
        Self::LEARNED.contains(&self)
    }

    /// Whether it sees calls that do not go through the global proxy. Only what such a source no longer sees is
    /// unused: a host that is known is called directly, and the global proxy hears no more of it.
    #[must_use]
    pub fn sees_direct_calls(self) -> bool {
        matches!(self, Self::Prometheus)
    }
}
