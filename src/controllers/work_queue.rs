//! Which objects are to be looked at, and when: what controllers of Kubernetes call a work queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use futures::stream::{FuturesUnordered, pending};
use futures::{Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio_util::time::{DelayQueue, delay_queue};
use tracing::warn;

use super::backoff::Failures;
use super::error::Error;
use crate::graph::{ObjectKey, later};

/// How many objects are looked at at once.
const CONCURRENCY: usize = 32;
/// How many of them may be those that can wait: so there is always room for one that cannot.
const PATIENT: usize = 8;
/// The longest wait: [`DelayQueue`] cannot wait for two years. Who is looked at too early waits again.
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// When to look at an object again, even if nothing names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// At that time.
    At(Timestamp),
    /// When no other waits for its turn; if it has a time that is to come, at that time at the latest.
    WhenIdle(Option<Timestamp>),
}

impl From<Timestamp> for Again {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

/// Why an object is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was named, or its time has come.
    Prompt,
    /// The last look said [`Again::WhenIdle`], and that is so.
    Patient,
}

/// Looks at the objects that `keys` names until that stream ends, and then ends what is under way. An object is looked at
/// once at a time, and again at once if it is named meanwhile, when `look` tells, or, a while after it failed, if it is not
/// named before.
///
/// A timer's granularity is a millisecond, so what is named goes by none.
pub(super) async fn work<L, A>(
    what: &'static str,
    keys: impl Stream<Item = ObjectKey>,
    look: impl Fn(ObjectKey, Turn) -> L,
) where
    L: Future<Output = Result<Option<A>, Error>>,
    A: Into<Again>,
{
    work_with(what, keys, pending(), look).await;
}

/// The same with objects that can wait: they have their turn when no other waits for its own.
pub(super) async fn work_with<L, A>(
    what: &'static str,
    keys: impl Stream<Item = ObjectKey>,
    patient: impl Stream<Item = ObjectKey>,
    look: impl Fn(ObjectKey, Turn) -> L,
) where
    L: Future<Output = Result<Option<A>, Error>>,
    A: Into<Again>,
{
    let (mut keys, mut patient) = (pin!(keys), pin!(patient));
    let (mut queue, mut failures, mut under_way) =
        (Queue::default(), Failures::default(), FuturesUnordered::new());
    loop {
        while under_way.len() < CONCURRENCY
            && let Some((key, turn)) = queue.next(under_way.len() < PATIENT)
        {
            let looking = look(key.clone(), turn);
            under_way.push(async move { (key, looking.await) });
        }
        tokio::select! {
            named = keys.next() => match named {
                Some(key) => queue.name(key),
                None => break,
            },
            Some((key, result)) = under_way.next() => {
                let again = failures.again(what, &key, result.map(|again| again.map(Into::into)));
                queue.done(&key, again);
            }
            Some(due) = queue.later.next() => queue.due(due.into_inner()),
            Some(key) = patient.next(), if queue.ready.is_empty() => queue.name(key),
        }
    }
    while under_way.next().await.is_some() {}
}

impl Failures {
    /// When an object is looked at again, after this.
    fn again(
        &mut self,
        what: &'static str,
        key: &ObjectKey,
        result: Result<Option<Again>, Error>,
    ) -> Option<Again> {
        match result {
            // Not done yet, so it has not succeeded.
            Ok(again @ Some(Again::WhenIdle(_))) => again,
            Ok(again) => {
                self.clear(key);
                again
            }
            Err(error) => {
                let delay = self.count(key);
                warn!(%key, %error, ?delay, "{what} could not be brought about; it is tried again");
                let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
                Some(Again::At(later(Timestamp::now(), delay)))
            }
        }
    }
}

/// Objects that are named, looked at, or to be looked at again.
#[derive(Default)]
struct Queue {
    states: HashMap<ObjectKey, State>,
    /// Those that are [`State::Ready`], in the order in which they became it.
    ready: VecDeque<ObjectKey>,
    /// Those that are [`State::Patient`], each by its place, in the order in which they became it.
    patient: BTreeMap<u64, ObjectKey>,
    /// The last place that was given.
    place: u64,
    /// Those that are to be looked at at some time, [`State::Later`] and [`State::Patient`].
    later: DelayQueue<ObjectKey>,
}

enum State {
    Ready,
    /// It has this place among those that are to be looked at when none is ready, or later.
    Patient(u64, Option<delay_queue::Key>),
    UnderWay,
    /// It was named while it was under way.
    Named,
    Later(delay_queue::Key),
}

impl Queue {
    fn name(&mut self, key: ObjectKey) {
        match self.states.get_mut(&key) {
            Some(State::Ready | State::Named) => {}
            Some(under_way @ State::UnderWay) => *under_way = State::Named,
            Some(State::Later(timer)) => {
                self.later.remove(timer);
                self.ready(key);
            }
            Some(State::Patient(place, timer)) => {
                self.patient.remove(place);
                if let Some(timer) = timer {
                    self.later.remove(timer);
                }
                self.ready(key);
            }
            None => self.ready(key),
        }
    }

    /// Its time has come.
    fn due(&mut self, key: ObjectKey) {
        if let Some(State::Patient(place, _)) = self.states.get(&key) {
            self.patient.remove(place);
        }
        self.ready(key);
    }

    fn ready(&mut self, key: ObjectKey) {
        self.states.insert(key.clone(), State::Ready);
        self.ready.push_back(key);
    }

    /// Whose turn it is: it is under way from now on. `room`: one that can wait may have its turn if none is ready.
    fn next(&mut self, room: bool) -> Option<(ObjectKey, Turn)> {
        let (key, turn) = match self.ready.pop_front() {
            Some(key) => (key, Turn::Prompt),
            None if room => (self.next_patient()?, Turn::Patient),
            None => return None,
        };
        self.states.insert(key.clone(), State::UnderWay);
        Some((key, turn))
    }

    fn next_patient(&mut self) -> Option<ObjectKey> {
        let (_, key) = self.patient.pop_first()?;
        if let Some(State::Patient(_, Some(timer))) = self.states.get(&key) {
            self.later.remove(timer);
        }
        Some(key)
    }

    /// It is under way no more, and is to be looked at again, if at all, unless it is named before.
    fn done(&mut self, key: &ObjectKey, again: Option<Again>) {
        match (self.states.remove(key), again) {
            (Some(State::Named), _) => self.ready(key.clone()),
            (_, Some(Again::WhenIdle(at))) => {
                // A time that is over already would be one look after the other.
                let timer = at.filter(|at| *at > Timestamp::now()).map(|at| self.wait(key, at));
                self.place += 1;
                self.patient.insert(self.place, key.clone());
                self.states.insert(key.clone(), State::Patient(self.place, timer));
            }
            (_, Some(Again::At(at))) => {
                let timer = self.wait(key, at);
                self.states.insert(key.clone(), State::Later(timer));
            }
            (_, None) => {}
        }
    }

    fn wait(&mut self, key: &ObjectKey, at: Timestamp) -> delay_queue::Key {
        let delay = Duration::try_from(Timestamp::now().duration_until(at)).unwrap_or_default();
        self.later.insert(key.clone(), delay.min(LONGEST))
    }
}

#[cfg(test)]
mod tests;
