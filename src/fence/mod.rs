//! What a fence makes of what is known: its `Sidecar`, its status, and when to look again. PURE: the same
//! input gives the same bytes.

mod adoption;
pub mod auto;
mod conditions;
mod course;
mod declared;
mod defaults;
mod domains;
mod egress;
#[cfg(test)]
mod egress_tests;
mod expiry;
mod external;
mod facts;
mod fitness;
mod handover;
mod history;
mod observed;
mod obstacle;
mod others;
mod pace;
#[cfg(test)]
mod pace_tests;
mod plan;
mod scope;
mod sidecar;
mod slime;
mod stance;
mod status;
#[cfg(test)]
mod tests;
mod wants;
mod writers;

pub use adoption::{ADOPT, ADOPTED, consent, may_force};
pub use defaults::Defaults;
pub use egress::Egress;
pub use expiry::FORGET_BEFORE;
pub use external::{EntryAction, entries};
pub use facts::facts;
pub use fitness::Unfit;
pub use pace::Timings;
pub use plan::{Input, Plan, Settings, SidecarAction, plan};
pub use scope::Scope;
pub use sidecar::{
    CLUSTERS_ADDED, GlobalProxy, KEEP_BIND, MANAGED_BY, MANAGER, ROUTES_ADDED, ROUTES_REMOVED, WARMING_SINCE,
    WIDENED, is_ours, is_owned_by, standing,
};
pub use writers::keep_writers;
