use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{AutoContext, reconcile};
use crate::controllers::work_queue::work;

/// Brings automatic fences about until `stop` is cancelled.
pub(in crate::controllers) async fn run(context: AutoContext, stop: CancellationToken) {
    let (named, context) = (context.concerns.stream().take_until(stop.cancelled_owned()), &context);
    work("an automatic fence", named, |key, _| async move { reconcile(&key, context).await }).await;
}
