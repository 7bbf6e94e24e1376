//! Whom the server calls for a request.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{FutureExt as _, join_all};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::app::client::{self, Caller, Connection};
use crate::app::{Outcome, Target};

/// The most idle connections kept to one address.
const IDLE_MOST: usize = 32;
/// How long an idle connection is kept, shorter than most servers do.
const IDLE_FOR: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);
const RESOLVE_EVERY: Duration = Duration::from_secs(5);

/// Headers that an application hands on, for its mesh's tracing and for Bookinfo's routes by user.
const HANDED_ON: [&str; 10] = [
    "b3",
    "end-user",
    "traceparent",
    "tracestate",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-request-id",
];

/// Addresses to call for requests under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The path's beginning.
    pub prefix: String,
    /// The addresses; all are called.
    pub targets: Vec<Target>,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (prefix, urls) = text.split_once('=').ok_or("a forward looks like /path=url,url")?;
        let targets: Result<_, _> = urls.split(',').map(str::parse).collect();
        let prefix = format!("/{}", prefix.trim_start_matches('/'));
        Ok(Self { prefix, targets: targets.map_err(|error: crate::app::TargetError| error.to_string())? })
    }
}

/// Which paths call whom, and the connections for it.
#[derive(Debug)]
pub(super) struct Wiring {
    forwards: Vec<Forward>,
    caller: Caller,
    options: client::Options,
    idle: Mutex<HashMap<String, Vec<(Instant, Connection)>>>,
}

impl Wiring {
    /// The given wiring, or that of the Bookinfo sample if there is none.
    pub(super) fn new(name: &str, pod: &str, forwards: Vec<Forward>) -> Self {
        let forwards = if forwards.is_empty() { bookinfo(name, pod) } else { forwards };
        let options =
            client::Options { timeout: TIMEOUT, resolve_every: RESOLVE_EVERY, ..client::Options::default() };
        Self { forwards, caller: Caller::new(options.clone()), options, idle: Mutex::default() }
    }

    /// The addresses to call for a path.
    pub(super) fn targets(&self, path: &str) -> &[Target] {
        let found = self.forwards.iter().find(|forward| path.starts_with(&forward.prefix));
        found.map_or(&[], |forward| &forward.targets)
    }

    /// Calls them all at the same time; the outcomes are in the same order.
    pub(super) async fn call(&self, targets: &[Target], headers: &HeaderMap) -> Vec<Outcome> {
        if targets.is_empty() {
            return Vec::new();
        }
        let options = client::Options { headers: handed_on(headers), ..self.options.clone() };
        let calls = targets.iter().map(|target| self.call_one(target, &options).boxed());
        join_all(calls).await
    }

    async fn call_one(&self, target: &Target, options: &client::Options) -> Outcome {
        let mut slot = self.take(target);
        let mut outcome = self.caller.call_with(target, &mut slot, options).await;
        self.put_back(target, slot);
        // What the server said in detail would make the answers of long chains grow and grow.
        outcome.answer = None;
        outcome
    }

    fn take(&self, target: &Target) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&target.url)?;
        kept.retain(|(since, _)| since.elapsed() < IDLE_FOR);
        kept.pop().map(|(_, connection)| connection)
    }

    fn put_back(&self, target: &Target, slot: Option<Connection>) {
        let Some(connection) = slot.filter(|_| target.scheme.has_requests()) else {
            return;
        };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Addresses may come from queries without end.
        if idle.len() > 256 {
            idle.clear();
        }
        let kept = idle.entry(target.url.clone()).or_default();
        if kept.len() < IDLE_MOST {
            kept.push((Instant::now(), connection));
        }
    }
}

fn handed_on(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let found = HANDED_ON.into_iter().filter_map(|name| Some((name, headers.get(name)?)));
    found.map(|(name, value)| (HeaderName::from_static(name), value.clone())).collect()
}

/// Who calls whom in Istio's Bookinfo sample (`samples/bookinfo`): the product page calls details and
/// reviews, and all versions of reviews but the first call ratings.
fn bookinfo(name: &str, pod: &str) -> Vec<Forward> {
    let wired: &[&str] = match name {
        "productpage" => &["/productpage=http://details:9080/details/0,http://reviews:9080/reviews/0"],
        "reviews" if !pod.starts_with("reviews-v1-") => &["/reviews=http://ratings:9080/ratings/0"],
        _ => &[],
    };
    wired.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Forward, Wiring};

    fn called(name: &str, pod: &str, path: &str) -> Vec<String> {
        let wiring = Wiring::new(name, pod, Vec::new());
        wiring.targets(path).iter().map(|target| target.url.clone()).collect()
    }

    #[test]
    fn bookinfo_is_wired_as_in_the_sample() {
        let ratings = vec!["http://ratings:9080/ratings/0".to_owned()];
        assert_eq!(called("productpage", "productpage-v1-x", "/productpage").len(), 2);
        assert_eq!(called("productpage", "productpage-v1-x", "/health"), Vec::<String>::new());
        assert_eq!(called("reviews", "reviews-v1-x", "/reviews/0"), Vec::<String>::new());
        assert_eq!(called("reviews", "reviews-v2-x", "/reviews/0"), ratings);
        assert_eq!(called("reviews", "reviews-v3-x", "/reviews/0"), ratings);
        assert_eq!(called("details", "details-v1-x", "/details/0"), Vec::<String>::new());
    }

    #[test]
    fn forwards_are_read() {
        let forward: Forward = "a=http://b:1/c,tcp://d:2".parse().unwrap();
        let urls: Vec<_> = forward.targets.iter().map(|target| target.url.as_str()).collect();
        assert_eq!((forward.prefix.as_str(), urls), ("/a", vec!["http://b:1/c", "tcp://d:2"]));
        assert!("/a".parse::<Forward>().is_err());
        assert!("/a=nothing".parse::<Forward>().is_err());
    }
}
