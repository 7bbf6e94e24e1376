//! Palisade: a management plane for Istio that finds out who calls whom and writes it down as `Sidecar`s.
//!
//! ```text
//! sources ──▶ graph ──▶ fence ──▶ controllers ──▶ API server ──▶ istiod
//! (access log)  (pure)    (pure)    (gather, decide, apply)
//! ```
//!
//! A reader who follows one dependency from the access-log entry that taught it to the `Sidecar` that lists it
//! goes through these modules once, in that order. `ARCHITECTURE.md` tells the same story at more length.

pub mod api;
pub mod cli;
pub mod controllers;
pub mod fence;
pub mod graph;
pub mod istio;
pub mod limiter;
pub mod rate_limit;
pub mod server;
pub mod sources;
