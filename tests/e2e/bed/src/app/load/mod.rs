//! `bed app load`: a steady open-loop load.
//!
//! Requests leave at a fixed rate whatever becomes of those before them, so that a stall is seen as what it
//! is: many late or failed requests, not one. They go to the addresses in turn, over connections that are
//! kept as real clients keep them, and a share of them over a new connection each.

mod pool;
mod summary;
mod turns;

pub use summary::{ErrorGroup, Latency, Summary, UrlSummary};

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pool::Pool;
use self::summary::{Record, Recorder};
use self::turns::Turns;
use super::call::Shape;
use super::client::Caller;
use super::{Outcome, Target, duration};

/// How often due requests are sent at most: tokio's timers are no finer.
const TICK: Duration = Duration::from_millis(1);
/// How often the file that ends the load is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// The most requests in flight; when there are as many, those due fail.
const IN_FLIGHT: usize = 20_000;
const RESOLVE_EVERY: Duration = Duration::from_secs(5);

/// What load to keep.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Addresses, called in turn
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<Target>,
    /// How requests look.
    #[command(flatten)]
    pub shape: Shape,
    /// Requests per second, to all addresses together
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Kept connections, shared equally by the addresses, one each at least
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Share of requests that each open a new connection, from 0 to 1. Closed connections linger in the
    /// kernel for a minute: keep below 400 new ones a second to one address
    #[arg(long, default_value_t = 0.0)]
    pub new_connection_share: f64,
    /// How long; without it until the file appears or a signal comes
    #[arg(long = "for", value_parser = duration)]
    pub lasting: Option<Duration>,
    /// End when this file exists
    #[arg(long, value_name = "PATH")]
    pub until_file: Option<PathBuf>,
    /// Append each failure to this file, as a JSON line, when it happens
    #[arg(long, value_name = "FILE")]
    pub failures: Option<PathBuf>,
}

/// Keeps the load until its end or `stop`, and prints the summary.
///
/// # Errors
///
/// When the options make no sense, or the file for failures cannot be written. Failed requests are no error:
/// the summary counts them.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let summary = drive(options, stop).await?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

/// Keeps the load until its end or `stop`.
///
/// # Errors
///
/// As [`run`].
pub async fn drive(options: Options, stop: CancellationToken) -> anyhow::Result<Summary> {
    ensure!(options.rate.is_finite() && options.rate > 0.0, "the rate must be above 0");
    ensure!((0.0..=1.0).contains(&options.new_connection_share), "the share must be between 0 and 1");
    ensure!(options.connections > 0, "at least one connection is needed");
    let different: HashSet<_> = options.urls.iter().map(|target| &target.url).collect();
    ensure!(different.len() == options.urls.len(), "an address is given twice");
    let (records, received) = mpsc::channel(IN_FLIGHT);
    let recorder = tokio::spawn(Recorder::new(&options)?.run(received));
    let load = Arc::new(Load::new(&options, records));
    let late = send_at_rate(&load, &options, stop).await;
    load.tasks.close();
    // Every call has its own time-out, so this ends.
    load.tasks.wait().await;
    drop(load);
    let mut summary = recorder.await.context("the recorder")??;
    summary.late_ms_max = summary::milliseconds(late);
    Ok(summary)
}

/// Sends until the load's end; tells by how much the sending itself was late at most.
async fn send_at_rate(load: &Arc<Load>, options: &Options, stop: CancellationToken) -> Duration {
    let mut over = pin!(over(options, stop));
    let mut turns = Turns::new(load.routes.len(), options.new_connection_share);
    let period = Duration::from_secs_f64(options.rate.recip());
    let (mut next, mut late) = (Instant::now(), Duration::ZERO);
    loop {
        // Not at each tick: dozens of slow loads would keep the machine busy with nothing.
        let due = next.max(Instant::now() + TICK);
        let ended = tokio::select! {
            biased;
            () = &mut over => true,
            () = tokio::time::sleep_until(due.into()) => false,
        };
        // What came due before the end is sent also when this side was held up until then: to leave it out
        // would hide the stall.
        let now = Instant::now();
        late = late.max(now.saturating_duration_since(next));
        while next <= now {
            let (route, fresh) = turns.next();
            load.send(route, fresh).await;
            next += period;
        }
        if ended {
            return late;
        }
    }
}

/// Waits for the first of the ends that were asked for.
async fn over(options: &Options, stop: CancellationToken) {
    let lasting = async {
        match options.lasting {
            Some(lasting) => tokio::time::sleep(lasting).await,
            None => std::future::pending().await,
        }
    };
    let file = async {
        let Some(path) = &options.until_file else {
            return std::future::pending().await;
        };
        while !tokio::fs::try_exists(path).await.unwrap_or(false) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = lasting => {}
        () = file => {}
        () = stop.cancelled() => {}
    }
}

/// One address and its kept connections.
struct Route {
    target: Target,
    pool: Pool,
}

struct Load {
    caller: Caller,
    timeout: Duration,
    routes: Vec<Route>,
    in_flight: Arc<Semaphore>,
    records: mpsc::Sender<Record>,
    tasks: TaskTracker,
}

impl Load {
    fn new(options: &Options, records: mpsc::Sender<Record>) -> Self {
        let each = options.connections.div_ceil(options.urls.len());
        let route = |target: &Target| Route { target: target.clone(), pool: Pool::new(each) };
        Self {
            caller: Caller::new(options.shape.options(RESOLVE_EVERY)),
            timeout: options.shape.timeout,
            routes: options.urls.iter().map(route).collect(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            records,
            tasks: TaskTracker::new(),
        }
    }

    /// Sends one request in a task of its own.
    async fn send(self: &Arc<Self>, route: usize, fresh: bool) {
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            let outcome = self.failed(route, "not sent: too many requests in flight".to_owned());
            return self.record(route, fresh, outcome).await;
        };
        let load = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = load.call(route, fresh).await;
            load.record(route, fresh, outcome).await;
            drop(permit);
        });
    }

    async fn call(&self, route: usize, fresh: bool) -> Outcome {
        let Route { target, pool } = &self.routes[route];
        let started = Instant::now();
        let mut outcome = if fresh {
            self.caller.call(target, &mut None).await
        } else if let Ok(mut place) = tokio::time::timeout(self.timeout, pool.take()).await {
            let outcome = self.caller.call(target, &mut place.connection).await;
            pool.put_back(place);
            outcome
        } else {
            self.failed(route, format!("timed out after {:?} waiting for a kept connection", self.timeout))
        };
        // The wait for a connection is part of it.
        outcome.elapsed_ms = summary::milliseconds(started.elapsed());
        outcome
    }

    fn failed(&self, route: usize, error: String) -> Outcome {
        Outcome { url: self.routes[route].target.url.clone(), error: Some(error), ..Outcome::default() }
    }

    async fn record(&self, route: usize, fresh: bool, outcome: Outcome) {
        // The recorder only ends when all senders are gone, or on an error that is reported at the end.
        let _ = self.records.send(Record { route, fresh, outcome, ended: Timestamp::now() }).await;
    }
}
