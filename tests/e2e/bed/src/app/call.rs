//! `bed app call`: single calls, one JSON line each.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::{HeaderName, HeaderValue, Method};
use tokio_util::sync::CancellationToken;

use super::client::{self, Caller, Connection};
use super::{Outcome, Target, duration};

/// How requests look: shared by `call` and `load`.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// Header or gRPC metadata to send, `name:value` (repeatable)
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Authority of the requests and server name for TLS, instead of the address's
    #[arg(long)]
    pub host: Option<String>,
    /// HTTP method
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// Longest time for one call
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    /// Messages each way in a call over a stream (grpc-stream, ws, tcp, tls)
    #[arg(long, default_value_t = 3)]
    pub messages: u32,
}

impl Shape {
    /// The client's options, with names resolved again after `resolve_every`.
    #[must_use]
    pub fn options(&self, resolve_every: Duration) -> client::Options {
        client::Options {
            method: self.method.clone(),
            headers: self.headers.clone(),
            host: self.host.clone(),
            timeout: self.timeout,
            messages: self.messages,
            resolve_every,
        }
    }
}

/// What to call.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Addresses: http, https, h2c, grpc, grpc-stream, ws, tcp, tcp-server-first or tls, with host[:port][/path] after `://`
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<Target>,
    /// How requests look.
    #[command(flatten)]
    pub shape: Shape,
    /// Calls to each address
    #[arg(long, default_value_t = 1)]
    pub repeat: u64,
    /// Pause between repeats
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub interval: Duration,
    /// One connection to each address for all repeats
    #[arg(long)]
    pub keepalive: bool,
    /// A new connection for each repeat (the default)
    #[arg(long, conflicts_with = "keepalive")]
    pub new_connection: bool,
    /// Print the server's whole answer too, with the headers that it saw
    #[arg(long)]
    pub answer: bool,
}

/// Calls every address in turn and prints each outcome as it comes.
///
/// # Errors
///
/// When a call failed, or `stop` came before the last.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let caller = Caller::new(options.shape.options(Duration::ZERO));
    let mut kept: HashMap<&str, Option<Connection>> = HashMap::new();
    let (mut calls, mut failed) = (0_u64, 0_u64);
    for round in 0..options.repeat {
        if round > 0 && stop.run_until_cancelled(tokio::time::sleep(options.interval)).await.is_none() {
            bail!("stopped after {calls} calls");
        }
        for target in &options.urls {
            let mut none = None;
            let slot = if options.keepalive { kept.entry(&target.url).or_default() } else { &mut none };
            let call = stop.run_until_cancelled(caller.call(target, slot)).await;
            let outcome = call.with_context(|| format!("stopped after {calls} calls"))?;
            calls += 1;
            failed += u64::from(!outcome.ok);
            print(outcome, options.answer)?;
        }
    }
    if failed > 0 {
        bail!("{failed} of {calls} calls failed");
    }
    Ok(())
}

fn print(mut outcome: Outcome, with_answer: bool) -> anyhow::Result<()> {
    if !with_answer {
        outcome.answer = None;
    }
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header looks like name:value")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    Ok((name, value))
}
