use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a fence acts on what it knows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Learn, and report what the workload would keep; write no Sidecar.
    Observe,
    /// Write the Sidecar.
    #[default]
    Enforce,
}

/// What to do about a Sidecar that somebody else wrote for the same pods. Of several whose `workloadSelector` matches
/// a pod, Istio takes the oldest, and merges none.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SidecarPolicy {
    /// Step back while there is one.
    #[default]
    Defer,
    /// Carry its hosts and its ingress too, as long as Istio prefers ours because it is older; else step back.
    Compose,
    /// Take over the one that has the fence's name and the annotation `palisade.io/adopt: "true"`, carry what it says,
    /// and give it back as it was when the fence opens. Others are treated as with `Compose`.
    Adopt,
}

/// What a fence means for its workload, counted in hosts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// How many of the mesh's hosts the workload keeps, or would keep.
    pub kept: u32,
    /// How many it does without, or would. Counted anew when `kept` changes, or the mesh by more than a tenth: a
    /// new service somewhere is no reason to write to every fence.
    pub cut: u32,
}
