//! `SmartLimiter` + mesh → `EnvoyFilter`s + status. PURE: no I/O, no clock.
//!
//! ```text
//! descriptor ──limit::Rule──▶ understood ──with pods and metrics──▶ Limit ──envoy_filter──▶ patches
//!             (expression, matcher, target)  (known, inputs)       (bucket)
//! ```

mod adaptive;
mod bucket;
mod connections;
mod envoy_filter;
mod expression;
mod function;
mod global;
mod inputs;
mod known;
mod limit;
mod local;
mod matcher;
mod metric;
mod plan;
mod programmed;
mod ratio;
mod refusal;
mod rejection;
mod status;
mod strategy;
mod target;
#[cfg(test)]
mod tests;
mod tokens;

pub use bucket::LONGEST_INTERVAL;
pub use global::{DOMAIN, LIMIT_KEY, RateLimitService};
pub use known::Known;
pub use metric::{Answer, Handler, Metric, MetricSettings, POD_NAME, Reading, Resource, Source};
pub use plan::{Input, Plan, facts, filter_names, is_of, plan};
pub use programmed::{Look, Proxies, ProxyState, Verdict, first_look};
pub use status::Report;
pub use tokens::is_metric_name;
