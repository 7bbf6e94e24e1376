//! The bed: a real Istio mesh on one machine, for tests, demos and benchmarks.
//!
//! The API server, istiod and Envoy are the real programs, run as processes; pods are network
//! namespaces. Everything lives in namespaces of its own and is gone when the bed's first process ends.

pub mod app;
pub mod cli;
pub mod control_plane;
pub mod daemon;
pub mod inspect;
pub mod main_process;
pub mod mesh;
pub mod node;
pub mod process;
pub mod progress;
pub mod sandbox;
pub mod state;
pub mod tools;
pub mod wait;
