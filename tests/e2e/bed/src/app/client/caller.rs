//! One call from start to end: connection, request, the retry that real clients make, the report.

use std::time::{Duration, Instant};

use http::Method;
use tokio::time::timeout_at;

use super::dial::Dialer;
use super::error::{CallError, Failure};
use super::{Connection, Options, Reply};
use crate::app::{Outcome, Retried, Target};

/// Makes calls.
#[derive(Debug)]
pub struct Caller {
    options: Options,
    dialer: Dialer,
}

impl Caller {
    /// A caller whose requests all look alike.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let dialer = Dialer::new(options.resolve_every);
        Self { options, dialer }
    }

    /// Calls `target` over the connection in `slot`, or over a new one; leaves the connection there if it
    /// can carry another call.
    pub async fn call(&self, target: &Target, slot: &mut Option<Connection>) -> Outcome {
        self.call_with(target, slot, &self.options).await
    }

    /// [`Self::call`] with options for this call alone.
    pub(in crate::app) async fn call_with(
        &self,
        target: &Target,
        slot: &mut Option<Connection>,
        options: &Options,
    ) -> Outcome {
        let started = Instant::now();
        let mut attempt = Attempt { caller: self, target, options, started, retried: None };
        let result = attempt.run(slot).await;
        outcome(target, result, attempt.retried, started.elapsed())
    }
}

struct Attempt<'a> {
    caller: &'a Caller,
    target: &'a Target,
    options: &'a Options,
    started: Instant,
    retried: Option<Retried>,
}

impl Attempt<'_> {
    async fn run(&mut self, slot: &mut Option<Connection>) -> Result<Reply, CallError> {
        // A connection that is seen to be closed before it is used costs nothing: no retry, just a new one.
        if let Some(mut kept) = slot.take().filter(Connection::is_open) {
            match self.exchange(&mut kept).await {
                Ok(reply) => return Ok(keep(slot, kept, reply)),
                Err(failure) => self.retried = Some(self.replay(failure)?),
            }
        }
        let mut fresh = self.open().await?;
        let reply = self.exchange(&mut fresh).await.map_err(|failure| failure.error)?;
        Ok(keep(slot, fresh, reply))
    }

    /// As what the request may be sent again: anything that was surely not processed, and like Go's client
    /// an idempotent request that a reused connection swallowed. gRPC calls are never idempotent.
    fn replay(&self, failure: Failure) -> Result<Retried, CallError> {
        let idempotent = matches!(self.options.method, Method::GET | Method::HEAD | Method::OPTIONS);
        match failure.replay {
            Some(Retried::Unanswered) if !idempotent => Err(failure.error),
            Some(why) if self.target.scheme.has_requests() => Ok(why),
            _ => Err(failure.error),
        }
    }

    async fn open(&self) -> Result<Connection, CallError> {
        // It is large, and most calls need none.
        let opening = Box::pin(Connection::open(self.target, self.options, &self.caller.dialer));
        let late = |_| CallError::Timeout(self.options.timeout, "connecting");
        timeout_at(self.deadline(), opening).await.map_err(late)?
    }

    async fn exchange(&self, connection: &mut Connection) -> Result<Reply, Failure> {
        let exchange = connection.exchange(self.target, self.options);
        let late = |_| CallError::Timeout(self.options.timeout, "waiting for the answer");
        timeout_at(self.deadline(), exchange).await.map_err(late)?
    }

    fn deadline(&self) -> tokio::time::Instant {
        (self.started + self.options.timeout).into()
    }
}

fn keep(slot: &mut Option<Connection>, connection: Connection, reply: Reply) -> Reply {
    *slot = Some(connection).filter(Connection::is_open);
    reply
}

fn outcome(
    target: &Target,
    result: Result<Reply, CallError>,
    retried: Option<Retried>,
    elapsed: Duration,
) -> Outcome {
    let outcome = Outcome {
        url: target.url.clone(),
        elapsed_ms: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
        retried,
        ..Outcome::default()
    };
    match result {
        Ok(reply) => answered(outcome, reply),
        Err(error) => Outcome { status: error.status(), error: Some(error.to_string()), ..outcome },
    }
}

fn answered(mut outcome: Outcome, reply: Reply) -> Outcome {
    outcome.ok = reply.success;
    outcome.status = reply.status;
    reply.protocol.clone_into(&mut outcome.protocol);
    if !reply.success {
        let status = reply.status.unwrap_or_default();
        outcome.error = Some(CallError::Status(status, reply.text).to_string());
    }
    if let Some(answer) = reply.answer {
        outcome.name = Some(answer.name.clone());
        outcome.pod = Some(answer.pod.clone()).filter(|pod| !pod.is_empty());
        outcome.namespace = Some(answer.namespace.clone()).filter(|namespace| !namespace.is_empty());
        outcome.host = Some(answer.host.clone()).filter(|host| !host.is_empty());
        outcome.identity.clone_from(&answer.identity);
        outcome.calls.clone_from(&answer.calls);
        outcome.answer = Some(Box::new(answer));
    }
    outcome
}
