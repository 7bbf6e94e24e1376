//! Which objects are to be looked at, and when: what controllers of Kubernetes call a work queue.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use futures::stream::{FuturesUnordered, pending};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tokio_util::time::{DelayQueue, delay_queue};
use tracing::warn;

use super::backoff::Failures;
use super::error::Error;
use crate::graph::ObjectKey;

/// How many objects are looked at at once.
const CONCURRENCY: usize = 32;
/// The longest wait: [`DelayQueue`] cannot wait for two years. Who is looked at too early waits again.
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// Looks at the objects that `keys` names until that stream ends, and then ends what is under way. An object is looked at
/// once at a time, and again at once if it is named meanwhile, at the time that `look` tells, or, a while after it
/// failed, if it is not named before.
///
/// A timer's granularity is a millisecond, so what is named goes by none.
pub(super) async fn work<L>(
    what: &'static str,
    keys: impl Stream<Item = ObjectKey>,
    look: impl Fn(ObjectKey) -> L,
) where
    L: Future<Output = Result<Option<Timestamp>, Error>>,
{
    work_with(what, keys, pending(), look).await;
}

/// The same with objects that can wait: they have their turn when no other waits for its own.
pub(super) async fn work_with<L>(
    what: &'static str,
    keys: impl Stream<Item = ObjectKey>,
    patient: impl Stream<Item = ObjectKey>,
    look: impl Fn(ObjectKey) -> L,
) where
    L: Future<Output = Result<Option<Timestamp>, Error>>,
{
    let (mut keys, mut patient) = (pin!(keys), pin!(patient));
    let (mut queue, mut failures, mut under_way) =
        (Queue::default(), Failures::default(), FuturesUnordered::new());
    loop {
        while under_way.len() < CONCURRENCY
            && let Some(key) = queue.next()
        {
            let looking = look(key.clone());
            under_way.push(async move { (key, looking.await) });
        }
        tokio::select! {
            named = keys.next() => match named {
                Some(key) => queue.name(key),
                None => break,
            },
            Some((key, result)) = under_way.next() => {
                let again = failures.delay(what, &key, result);
                queue.done(key, again);
            }
            Some(due) = queue.later.next() => queue.ready(due.into_inner()),
            Some(key) = patient.next(), if queue.ready.is_empty() => queue.name(key),
        }
    }
    while under_way.next().await.is_some() {}
}

impl Failures {
    /// How long to wait before an object is looked at again, after this.
    fn delay(
        &mut self,
        what: &'static str,
        key: &ObjectKey,
        result: Result<Option<Timestamp>, Error>,
    ) -> Option<Duration> {
        match result {
            Ok(wake) => {
                self.clear(key);
                wake.map(|at| Duration::try_from(Timestamp::now().duration_until(at)).unwrap_or_default())
            }
            Err(error) => {
                let delay = self.count(key);
                warn!(%key, %error, ?delay, "{what} could not be brought about; it is tried again");
                Some(delay)
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
    /// Those that are to be looked at [`State::Later`].
    later: DelayQueue<ObjectKey>,
}

enum State {
    Ready,
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
            None => self.ready(key),
        }
    }

    fn ready(&mut self, key: ObjectKey) {
        self.states.insert(key.clone(), State::Ready);
        self.ready.push_back(key);
    }

    /// Whose turn it is: it is under way from now on.
    fn next(&mut self) -> Option<ObjectKey> {
        let key = self.ready.pop_front()?;
        self.states.insert(key.clone(), State::UnderWay);
        Some(key)
    }

    /// It is under way no more, and is to be looked at again after a while.
    fn done(&mut self, key: ObjectKey, again: Option<Duration>) {
        match (self.states.remove(&key), again) {
            (Some(State::Named), _) => self.ready(key),
            (_, Some(delay)) => {
                let timer = self.later.insert(key.clone(), delay.min(LONGEST));
                self.states.insert(key, State::Later(timer));
            }
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::SignedDuration;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, advance, sleep};
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    /// How long a look takes.
    const LOOK: Duration = Duration::from_secs(1);

    type Look = Result<Option<Timestamp>, Error>;

    /// Looks that take a second each; when each began, and of what.
    fn bench(look: fn(usize) -> Look) -> (UnboundedSender<ObjectKey>, JoinHandle<Vec<(u64, String)>>) {
        let (names, keys) = unbounded_channel();
        let done = tokio::spawn(async move {
            let (start, looks) = (Instant::now(), Mutex::new(Vec::new()));
            let noted = |key: ObjectKey| {
                let mut looks = looks.lock().unwrap();
                looks.push((start.elapsed().as_secs(), key.name.to_string()));
                let number = looks.len();
                async move {
                    sleep(LOOK).await;
                    look(number)
                }
            };
            work("an object", UnboundedReceiverStream::new(keys), noted).await;
            looks.into_inner().unwrap()
        });
        (names, done)
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    fn looks(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(second, name)| (*second, (*name).to_owned())).collect()
    }

    fn failure() -> Error {
        Error::Timeout { action: "look", time: LOOK }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_named_while_it_is_looked_at_is_looked_at_once_more() {
        let (names, done) = bench(|_| Ok(None));
        names.send(key("a")).unwrap();
        sleep(LOOK / 2).await;
        for name in ["a", "b", "a"] {
            names.send(key(name)).unwrap();
        }
        sleep(LOOK * 10).await;
        drop(names);
        assert_eq!(done.await.unwrap(), looks(&[(0, "a"), (0, "b"), (1, "a")]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_named_begins_at_once() {
        let (names, keys) = unbounded_channel();
        let (beginning, mut beginnings) = unbounded_channel();
        let start = Instant::now();
        tokio::spawn(async move {
            let look = async |_| {
                beginning.send(start.elapsed()).unwrap();
                Ok(None)
            };
            work("an object", UnboundedReceiverStream::new(keys), look).await;
        });
        for _ in 0..3 {
            names.send(key("a")).unwrap();
            // Time stands still while there is something to do, and would move if this waited for a timer.
            assert_eq!(beginnings.recv().await, Some(Duration::ZERO));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_says_when_is_followed_by_one_at_that_time_unless_the_object_is_named_before() {
        let (names, done) =
            bench(|number| Ok((number == 1).then(|| Timestamp::now() + SignedDuration::from_hours(1))));
        names.send(key("a")).unwrap();
        sleep(Duration::from_hours(2)).await;
        drop(names);
        assert_eq!(done.await.unwrap().len(), 2);

        let (names, done) =
            bench(|number| Ok((number == 1).then(|| Timestamp::now() + SignedDuration::from_hours(1))));
        names.send(key("a")).unwrap();
        sleep(LOOK * 5).await;
        names.send(key("a")).unwrap();
        sleep(Duration::from_hours(2)).await;
        drop(names);
        assert_eq!(done.await.unwrap(), looks(&[(0, "a"), (5, "a")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_years_is_no_trouble() {
        let (names, done) = bench(|_| Ok(Some(Timestamp::MAX)));
        names.send(key("a")).unwrap();
        sleep(LOOK * 10).await;
        advance(LONGEST).await;
        sleep(LOOK * 10).await;
        drop(names);
        assert_eq!(done.await.unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_failed_is_followed_by_another_soon() {
        let (names, done) = bench(|number| if number < 3 { Err(failure()) } else { Ok(None) });
        names.send(key("a")).unwrap();
        sleep(Duration::from_hours(1)).await;
        drop(names);
        let looks = done.await.unwrap();
        assert_eq!(looks.len(), 3);
        assert!(looks[2].0 < 10, "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_looked_at_at_once_than_may_be() {
        let (names, done) = bench(|_| Ok(None));
        for number in 0..=CONCURRENCY {
            names.send(key(&number.to_string())).unwrap();
        }
        sleep(LOOK * 10).await;
        drop(names);
        let looks = done.await.unwrap();
        let at = |second| looks.iter().filter(|(at, _)| *at == second).count();
        assert_eq!((at(0), at(1)), (CONCURRENCY, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_wait_does_not_make_others_wait() {
        let (names, keys) = unbounded_channel();
        let (patient, can_wait) = unbounded_channel();
        for number in 0..10 * CONCURRENCY {
            patient.send(key(&format!("patient-{number}"))).unwrap();
        }
        let looks = Mutex::new(Vec::new());
        let look = |key: ObjectKey| {
            looks.lock().unwrap().push(key.name.to_string());
            async {
                sleep(LOOK).await;
                Ok(None)
            }
        };
        let streams = (UnboundedReceiverStream::new(keys), UnboundedReceiverStream::new(can_wait));
        let working = work_with("an object", streams.0, streams.1, look);
        tokio::join!(working, async {
            sleep(LOOK / 2).await;
            names.send(key("urgent")).unwrap();
            sleep(LOOK * 20).await;
            drop(names);
        });
        let looks = looks.into_inner().unwrap();
        let turn = looks.iter().position(|name| name == "urgent").unwrap();
        assert!(turn <= CONCURRENCY + 1, "it was the {turn}th");
        assert_eq!(looks.len(), 10 * CONCURRENCY + 1, "the others have their turn as well");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_ends_when_no_more_is_named() {
        let (names, keys) = unbounded_channel();
        names.send(key("a")).unwrap();
        let ended = Mutex::new(0);
        let look = |_| async {
            sleep(LOOK).await;
            *ended.lock().unwrap() += 1;
            Ok(None)
        };
        let working = work("an object", UnboundedReceiverStream::new(keys), look);
        tokio::join!(working, async {
            sleep(LOOK / 2).await;
            drop(names);
        });
        assert_eq!(*ended.lock().unwrap(), 1);
    }
}
