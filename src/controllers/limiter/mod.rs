//! Limiters: watched, decided upon, written as `EnvoyFilter`s.

mod metrics;
mod reconcile;
mod watch;
mod write;

pub(super) use metrics::Asked;
pub(super) use reconcile::run;
pub use reconcile::{LimiterContext, reconcile};
pub use watch::LimiterCaches;
pub(super) use watch::{KINDS, watch};
