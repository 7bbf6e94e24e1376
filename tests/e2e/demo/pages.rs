//! Calls, and the way that each of them took.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use bed::mesh::{Call, Mesh};
use futures::future::try_join_all;

use crate::setup::{BOOKINFO, CLIENT, PALISADE, sidecars};

const URL: &str = "http://productpage.bookinfo:9080/productpage";

/// The way of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over the global proxy.
    GlobalProxy,
    /// From sidecar to sidecar.
    Direct,
}

/// One call that was made for a page.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Who called: a service's name, or `client`.
    pub caller: String,
    /// Whom: a service's name.
    pub callee: String,
    /// The pod that answered.
    pub pod: String,
    /// How it went there.
    pub way: Way,
}

/// A page that the client has read.
#[derive(Clone, Debug)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// Milliseconds until it was there.
    pub elapsed: f64,
    /// All calls that were made for it, the client's own first.
    pub hops: Vec<Hop>,
    /// Connections that reached the global proxy meanwhile.
    pub detours: u64,
}

impl Page {
    /// The version of reviews that answered: `v1`, `v2` or `v3`.
    pub fn reviews(&self) -> &str {
        let hop = self.hops.iter().find(|hop| hop.callee == "reviews");
        hop.and_then(|hop| hop.pod.split('-').nth(1)).unwrap_or_default()
    }
}

/// Reads the product page and tells the way of every call that was made for it.
///
/// # Errors
/// When a call failed, or one is in the counters of no proxy.
pub async fn read(mesh: &Mesh) -> Result<Page> {
    let before = Counters::read(mesh).await?;
    let call = mesh.call(CLIENT, URL).await?;
    let after = Counters::read(mesh).await?;
    let mut hops = Vec::new();
    follow("client", &call, &mut hops, &before, &after)?;
    let status = call.status.context("the page has no status")?;
    Ok(Page { status, elapsed: call.elapsed_ms, hops, detours: after.connections - before.connections })
}

fn follow(caller: &str, call: &Call, hops: &mut Vec<Hop>, before: &Counters, after: &Counters) -> Result<()> {
    ensure!(call.ok, "{caller} calls {}: {:?}, status {:?}", call.url, call.error, call.status);
    let answered = call.name.as_deref().with_context(|| format!("nobody answered at {}", call.url))?;
    let way = after.way_since(before, answered)?;
    let pod = call.pod.clone().unwrap_or_default();
    hops.push(Hop { caller: caller.to_owned(), callee: answered.to_owned(), pod, way });
    call.calls.iter().try_for_each(|next| follow(answered, next, hops, before, after))
}

/// Requests to each of Bookinfo's services so far, counted by the proxies that sent them on.
///
/// Each service has callers of one kind only, so a service's name stands for a pair.
#[derive(Debug, Default)]
struct Counters {
    global_proxy: BTreeMap<String, u64>,
    callers: BTreeMap<String, u64>,
    connections: u64,
}

impl Counters {
    async fn read(mesh: &Mesh) -> Result<Self> {
        let global_proxy = &format!("{PALISADE}/global-proxy");
        let sidecars = sidecars();
        let callers = try_join_all(sidecars.iter().map(|pod| requests(mesh, pod)));
        let hop = mesh.stats(global_proxy, "^tcp.global-proxy-hop.downstream_cx_total$");
        let (global_proxy, callers, hop) = futures::try_join!(requests(mesh, global_proxy), callers, hop)?;
        let mut sum = BTreeMap::new();
        for (service, count) in callers.into_iter().flatten() {
            *sum.entry(service).or_default() += count;
        }
        let connections = hop.into_values().next().context("the global proxy does not count connections")?;
        Ok(Self { global_proxy, callers: sum, connections })
    }

    fn way_since(&self, before: &Self, service: &str) -> Result<Way> {
        let more = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            now.get(service).copied().unwrap_or_default() > then.get(service).copied().unwrap_or_default()
        };
        let over = more(&self.global_proxy, &before.global_proxy);
        match (over, more(&self.callers, &before.callers)) {
            (true, false) => Ok(Way::GlobalProxy),
            (false, true) => Ok(Way::Direct),
            (true, true) => bail!("a call to {service} was sent on twice"),
            (false, false) => bail!("a call to {service} is in the counters of no proxy"),
        }
    }
}

/// Requests that a pod's Envoy has sent to each of Bookinfo's services.
async fn requests(mesh: &Mesh, pod: &str) -> Result<BTreeMap<String, u64>> {
    let text =
        mesh.envoy(pod, &format!("/clusters?filter=%5Eoutbound.9080..%5Ba-z%5D*.{BOOKINFO}.svc")).await?;
    let mut requests = BTreeMap::new();
    for line in text.lines() {
        let Some((series, count)) = line.rsplit_once("::") else { continue };
        let (Some(cluster), true) = (series.split("::").next(), series.ends_with("::rq_total")) else {
            continue;
        };
        let Some(host) = cluster.rsplit('|').next() else { continue };
        let service = host.split('.').next().unwrap_or_default().to_owned();
        *requests.entry(service).or_default() += count.parse().unwrap_or(0);
    }
    Ok(requests)
}
