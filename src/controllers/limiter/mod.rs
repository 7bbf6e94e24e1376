//! Limiters: watched, decided upon, written as `EnvoyFilter`s.

mod asked;
mod reconcile;
mod watch;
mod write;

pub(super) use asked::{Asked, Questions};
pub(super) use reconcile::run;
pub use reconcile::{LimiterContext, reconcile};
pub use watch::LimiterCaches;
pub(super) use watch::{KINDS, watch};
