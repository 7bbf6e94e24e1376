use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select;
use jiff::Timestamp;
use kube::runtime::scheduler;
use kube::runtime::scheduler::ScheduleRequest;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{AutoContext, reconcile};
use crate::controllers::backoff::Failures;
use crate::graph::ObjectKey;

/// How many automatic fences are worked on at once.
const CONCURRENCY: usize = 32;
/// How soon a fence is looked at again that changed while it was worked on.
const AGAIN: Duration = Duration::from_millis(50);

/// Who is worked on, and who is to be looked at again.
struct Work {
    context: AutoContext,
    failures: Failures,
    under_way: Mutex<HashSet<ObjectKey>>,
    /// At most one request for each fence that is worked on.
    again: UnboundedSender<ScheduleRequest<ObjectKey>>,
}

/// Brings automatic fences about until `stop` is cancelled.
pub(in crate::controllers) async fn run(context: AutoContext, stop: CancellationToken) {
    let (again, requests) = unbounded_channel();
    let named = context.concerns.stream();
    let named = named.map(|message| ScheduleRequest { message, run_at: Instant::now() });
    let requests = select(Box::pin(named), UnboundedReceiverStream::new(requests));
    let work = Arc::new(Work { context, failures: Failures::default(), under_way: Mutex::default(), again });
    scheduler(requests.take_until(stop.cancelled_owned()))
        .for_each_concurrent(CONCURRENCY, |key| {
            let work = work.clone();
            async move { work.look_at(key).await }
        })
        .await;
}

impl Work {
    async fn look_at(&self, key: ObjectKey) {
        if !self.lock().insert(key.clone()) {
            return self.later(key, AGAIN);
        }
        let result = reconcile(&key, &self.context).await;
        self.lock().remove(&key);
        match result {
            Ok(wake) => {
                self.failures.clear(&key);
                if let Some(at) = wake {
                    let delay = Duration::try_from(Timestamp::now().until(at).unwrap_or_default());
                    self.later(key, delay.unwrap_or_default());
                }
            }
            Err(error) => {
                let delay = self.failures.count(&key);
                warn!(fence = %key, %error, ?delay, "an automatic fence could not be brought about; it is tried again");
                self.later(key, delay);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<ObjectKey>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn later(&self, message: ObjectKey, delay: Duration) {
        // The other end lives as long as we do.
        let _ = self.again.send(ScheduleRequest { message, run_at: Instant::now() + delay });
    }
}
