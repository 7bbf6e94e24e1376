//! Automatic fences: which workloads get one without anybody writing it, and when it goes again. PURE.
//!
//! The labels, their precedence and the names are Slime's. A wish is what labels and configuration say; a fence
//! is created when there is a wish and a pod that it can be enforced on, and deleted when the wish is gone.

mod concern;
mod plan;
mod settings;
#[cfg(test)]
mod tests;
mod wish;

pub use concern::{all, concerned};
pub use plan::{AutoInput, AutoPlan, FenceAction, Memory, VACANCY, is_its_service, plan};
pub use settings::{AutoFence, ManagementSelector, NamespaceLists, WorkloadLabel};

/// The label that marks a fence as automatic; who takes it off owns the fence from then on (Slime's).
pub const CREATED_BY: &str = "app.kubernetes.io/created-by";
/// The value of [`CREATED_BY`].
pub const FENCE_CONTROLLER: &str = "fence-controller";
/// The label on a Service, a Namespace or a Pod that asks for a fence (`true`) or refuses one (`false`) (Slime's).
pub const FENCED: &str = "slime.io/serviceFenced";
/// Keeps an automatic fence that somebody deletes until that was noted.
pub const REMEMBER: &str = "palisade.io/remember-deletion";
