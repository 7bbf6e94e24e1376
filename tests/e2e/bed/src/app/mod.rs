//! The stand-in application: a server that speaks every protocol a mesh carries, and its clients.
//!
//! [`serve`] answers on any number of ports and names itself in every answer, so that a test can tell
//! who answered, under which authority and to which caller. [`call`] makes single calls, and [`load`]
//! keeps a steady open-loop load and reports every failure with its time.

mod answer;
pub mod call;
pub mod client;
mod echo;
pub mod load;
pub mod serve;
mod target;
pub mod targets;
pub mod tls;

pub use answer::{Answer, Outcome, Retried};
pub use serve::serve;
pub use target::{Scheme, Target, TargetError};

use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What `bed app` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Listen on the given ports; every answer names this server
    Serve(serve::Options),
    /// Call addresses; one JSON line for each call
    Call(call::Options),
    /// Keep a steady load; one JSON summary at the end
    Load(load::Options),
    /// Tell Prometheus which pods there are, in a file for its discovery
    Targets(targets::Options),
}

/// Runs one command until it ends, or until SIGTERM or SIGINT.
///
/// # Errors
///
/// When a port cannot be bound, an argument makes no sense, or a call of [`Command::Call`] failed.
pub async fn run(command: Command) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    match command {
        Command::Serve(options) => serve(options, stop).await,
        Command::Call(options) => call::run(options, stop).await,
        Command::Load(options) => load::run(options, stop).await,
        Command::Targets(options) => targets::run(options, stop).await,
    }
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

/// Reads a duration such as `5s`, `200ms` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(signed).map_err(|_| format!("{text} is negative"))
}
