//! The Istio resources that are read and written, with only the fields that matter here.

mod service_entry;
mod sidecar;

pub use service_entry::{ServiceEntry, ServiceEntrySpec};
pub use sidecar::{
    EgressListener, EgressProxy, Mode, OutboundTrafficPolicy, Port, PortSelector, Sidecar, SidecarSpec,
    WorkloadSelector,
};
