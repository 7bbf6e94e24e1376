//! Whose turn it is, by a clock that only moves when nothing is left to do.

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
        let noted = |key: ObjectKey, _| {
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
    let (names, done) = bench(|_| Ok(None::<Timestamp>));
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
        let look = async |_, _| {
            beginning.send(start.elapsed()).unwrap();
            Ok(None::<Timestamp>)
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
    let (names, done) = bench(|number| if number < 3 { Err(failure()) } else { Ok(None::<Timestamp>) });
    names.send(key("a")).unwrap();
    sleep(Duration::from_hours(1)).await;
    drop(names);
    let looks = done.await.unwrap();
    assert_eq!(looks.len(), 3);
    assert!(looks[2].0 < 10, "{looks:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_looked_at_at_once_than_may_be() {
    let (names, done) = bench(|_| Ok(None::<Timestamp>));
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
    let look = |key: ObjectKey, _| {
        looks.lock().unwrap().push(key.name.to_string());
        async {
            sleep(LOOK).await;
            Ok(None::<Timestamp>)
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
async fn a_look_that_waits_for_others_comes_after_all_of_them_and_leaves_room() {
    let (names, keys) = unbounded_channel();
    let (start, looks) = (Instant::now(), Mutex::new(Vec::new()));
    let look = |_, turn| {
        looks.lock().unwrap().push((start.elapsed().as_secs(), turn));
        async move {
            sleep(LOOK).await;
            Ok((turn == Turn::Prompt).then_some(Again::WhenIdle(None)))
        }
    };
    for number in 0..2 * CONCURRENCY {
        names.send(key(&number.to_string())).unwrap();
    }
    let working = work("an object", UnboundedReceiverStream::new(keys), look);
    tokio::join!(working, async {
        sleep(LOOK * 20).await;
        drop(names);
    });
    let looks = looks.into_inner().unwrap();
    let of = |turn| looks.iter().filter(move |(_, of)| *of == turn).map(|(at, _)| *at);
    assert!(of(Turn::Prompt).eq((0..2).flat_map(|second| [second; CONCURRENCY])), "{looks:?}");
    assert!(of(Turn::Patient).eq((2..10).flat_map(|second| [second; PATIENT])), "{looks:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_others_does_so_until_its_time_comes() {
    let (names, keys) = unbounded_channel();
    let (start, looks) = (Instant::now(), Mutex::new(Vec::new()));
    let look = |key: ObjectKey, turn| {
        let a = &*key.name == "a";
        if a {
            looks.lock().unwrap().push((start.elapsed().as_secs(), turn));
        }
        async move {
            sleep(if a { LOOK } else { LOOK * 10 }).await;
            let first = a && start.elapsed() < LOOK * 2;
            Ok(first.then(|| Again::WhenIdle(Some(Timestamp::now() + SignedDuration::from_secs(3)))))
        }
    };
    names.send(key("a")).unwrap();
    for number in 0..PATIENT {
        names.send(key(&number.to_string())).unwrap();
    }
    let working = work("an object", UnboundedReceiverStream::new(keys), look);
    tokio::join!(working, async {
        sleep(LOOK * 20).await;
        drop(names);
    });
    // Eight others are under way, so there is no room for one that can wait.
    assert_eq!(looks.into_inner().unwrap(), [(0, Turn::Prompt), (4, Turn::Prompt)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_ends_when_no_more_is_named() {
    let (names, keys) = unbounded_channel();
    names.send(key("a")).unwrap();
    let ended = Mutex::new(0);
    let look = |_, _| async {
        sleep(LOOK).await;
        *ended.lock().unwrap() += 1;
        Ok(None::<Timestamp>)
    };
    let working = work("an object", UnboundedReceiverStream::new(keys), look);
    tokio::join!(working, async {
        sleep(LOOK / 2).await;
        drop(names);
    });
    assert_eq!(*ended.lock().unwrap(), 1);
}
