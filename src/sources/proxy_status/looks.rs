use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::graph::ObjectKey;
use crate::limiter::Look;

/// What is known of proxies, and who wants to know: shared by who decides about limiters, and who asks.
#[derive(Clone, Debug, Default)]
pub struct Looks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Arc<Look>>,
    of: HashMap<ObjectKey, OfLimiter>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfLimiter {
    /// When its `EnvoyFilter`s were written last.
    written: Option<Timestamp>,
    /// When istiod is to be asked for its sake.
    wanted: Option<Timestamp>,
}

impl Looks {
    /// What was told last.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Look>> {
        self.lock().last.clone()
    }

    /// When a limiter's `EnvoyFilter`s were written last, as far as we know.
    #[must_use]
    pub fn written(&self, limiter: &ObjectKey) -> Option<Timestamp> {
        self.lock().of.get(limiter).and_then(|of| of.written)
    }

    /// Notes when a limiter's `EnvoyFilter`s were written.
    pub fn wrote(&self, limiter: &ObjectKey, at: Timestamp) {
        self.lock().of.entry(limiter.clone()).or_default().written = Some(at);
    }

    /// Says when there is to be a look for a limiter's sake; `None` forgets it.
    pub fn want(&self, limiter: &ObjectKey, at: Option<Timestamp>) {
        let mut state = self.lock();
        let Some(at) = at else {
            state.of.remove(limiter);
            return;
        };
        state.of.entry(limiter.clone()).or_default().wanted = Some(at);
        drop(state);
        self.0.more.notify_one();
    }

    /// Waits until a look is due.
    pub(super) async fn due(&self) {
        loop {
            let Some(at) = self.next() else {
                self.0.more.notified().await;
                continue;
            };
            let Ok(pause) = Duration::try_from(at.duration_since(Timestamp::now())) else { return };
            if pause.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.more.notified() => {}
            }
        }
    }

    /// Has this be what is known, and gives back whom it concerns: who wanted to know by then. They say when they want to know more.
    pub(super) fn publish(&self, look: Look) -> Vec<ObjectKey> {
        let mut state = self.lock();
        let wanting = state.of.iter_mut().filter(|(_, of)| of.wanted.is_some_and(|at| at <= look.at));
        let concerned = wanting.map(|(limiter, of)| {
            of.wanted = None;
            limiter.clone()
        });
        let concerned = concerned.collect();
        state.last = Some(Arc::new(look));
        concerned
    }

    fn next(&self) -> Option<Timestamp> {
        self.lock().of.values().filter_map(|of| of.wanted).min()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_look_concerns_those_who_wanted_it_by_then_and_once() {
        let (looks, [now, later, never]) =
            (Looks::default(), ["now", "later", "never"].map(|name| ObjectKey::new("shop", name)));
        looks.want(&now, Some(at(10)));
        looks.want(&later, Some(at(20)));
        looks.want(&never, Some(at(10)));
        looks.want(&never, None);
        let look = |second| Look { at: at(second), ..Look::default() };
        assert_eq!(looks.publish(look(10)), vec![now.clone()]);
        assert_eq!(looks.publish(look(11)), []);
        assert_eq!(looks.next(), Some(at(20)));
        looks.wrote(&now, at(12));
        assert_eq!(looks.written(&now), Some(at(12)));
        assert_eq!(looks.last().unwrap().at, at(11));
        looks.want(&now, None);
        assert_eq!(looks.written(&now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_due_when_somebody_wants_it_and_not_before() {
        let (looks, limiter) = (Looks::default(), ObjectKey::new("shop", "web"));
        let due = tokio::spawn({
            let looks = looks.clone();
            async move { looks.due().await }
        });
        tokio::task::yield_now().await;
        assert!(!due.is_finished());
        looks.want(&limiter, Some(Timestamp::MAX));
        tokio::task::yield_now().await;
        assert!(!due.is_finished());
        looks.want(&limiter, Some(Timestamp::UNIX_EPOCH));
        due.await.unwrap();
    }
}
