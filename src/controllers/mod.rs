//! The I/O around the decisions: watch, keep the graph, decide, write.
//!
//! ```text
//! watches ──changes──▶ mesh (owns the graph) ──fences to look at──▶ service_fence ──writes──▶ API server
//! sources ──calls────▶    │                                            ▲
//!                         └──────────── published graph ───────────────┘
//! ```

mod auto_fence;
mod backoff;
mod cache;
mod census;
mod control_plane;
mod declarations;
mod envoy_filters;
mod error;
mod external;
mod gateway_routes;
mod health;
mod history;
mod hosts;
mod leadership;
mod lease;
#[cfg(test)]
mod lease_tests;
mod limiter;
mod listed;
mod mesh;
mod mesh_config;
mod metrics;
mod named;
mod operator;
mod pods;
mod policies;
mod record;
mod service_fence;
mod sidecars;
mod switch;
mod virtual_services;
mod watch;
mod watches;
mod work_queue;
mod write;

pub use auto_fence::{AutoContext, Concerns, Deletions, reconcile as reconcile_auto};
pub use census::Census;
pub use error::Error;
pub use external::{Entries, Namespaces};
pub use leadership::Leadership;
pub use limiter::{LimiterCaches, LimiterContext, reconcile as reconcile_limiter};
pub use mesh::{Mesh, Message};
pub use metrics::Metrics;
pub use named::Named;
pub use operator::{Options, run};
pub use record::Record;
pub use service_fence::{Context, reconcile};
pub use switch::{OPEN_ALL, Switch};
pub use watches::Caches;
pub use work_queue::{Again, Turn};
