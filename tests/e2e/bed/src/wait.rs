//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Short enough not to be felt, long enough not to be load.
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats `check` until it succeeds, and gives what it gave.
///
/// # Errors
/// When `limit` has passed: what was waited for, and `check`'s last error.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let mut last = anyhow!("nothing was answered");
    loop {
        let left = limit.saturating_sub(began.elapsed());
        match tokio::time::timeout(left, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if began.elapsed() >= limit {
            return Err(last.context(format!("{what}: not so within {} s", limit.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_what_the_check_gives_once_it_succeeds() {
        let mut left = 2;
        let value = until("counted down", Duration::from_secs(10), async || {
            left -= 1;
            if left == 0 { Ok("done") } else { Err(anyhow!("still {left}")) }
        });
        assert_eq!(value.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn says_what_it_waited_for_and_why_it_failed() {
        let limit = Duration::from_millis(120);
        let error =
            until("the door opens", limit, async || Err::<(), _>(anyhow!("locked"))).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("the door opens") && text.contains("locked"), "{text}");
    }
}
