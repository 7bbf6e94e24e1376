//! Automatic fences: created, deleted, and not created again when somebody deleted them.

mod concerns;
mod deletions;
mod reconcile;
mod run;
mod write;

pub use concerns::Concerns;
pub use deletions::Deletions;
pub use reconcile::{AutoContext, reconcile};
pub(super) use run::run;
