//! The chapters, in the order in which they are told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use bed::mesh::Mesh;

use crate::crowd::{self, NAMESPACES, SERVICES};
use crate::envoy::{Figures, figures};
use crate::istiod::Pushes;
use crate::pages::{self, Page, Way};
use crate::screen::{Progress, chapter, good, quote, ratio, say, seconds, size, step, thousands, title};
use crate::setup::{self, BOOKINFO, CLIENT, PALISADE, WORKLOADS, pod, sidecars};
use crate::{fences, tables};

/// All versions of reviews have answered long before so many pages: each is as likely as the others.
const PAGES: usize = 100;
/// The fewest pages that are read to see that calls go straight.
const LATER: usize = 12;

/// Tells the whole story.
pub async fn tell(mesh: &Mesh, istio: &Path) -> Result<()> {
    company(mesh, istio).await?;
    let before = everything(mesh).await?;
    fencing(mesh).await?;
    first_calls(mesh).await?;
    lessons(mesh).await?;
    later_calls(mesh).await?;
    saving(mesh, &before).await?;
    farewell();
    Ok(())
}

/// What the mesh cost before: each pod's figures, and what one new service costs.
struct Before {
    rows: Vec<(String, Figures)>,
    ripple: Pushes,
}

async fn company(mesh: &Mesh, istio: &Path) -> Result<()> {
    title("Palisade: a mesh that finds out by itself who calls whom");
    chapter(1, "A mesh");
    say(
        "The API server, istiod and every Envoy here are the real programs; pods are network namespaces. mTLS is \
         STRICT. Only the applications are stand-ins, which call each other as Bookinfo's do. So that you need not \
         wait, Envoy drains old listeners for 5 s here instead of Istio's 45 s, and fences wait for that (7 s).",
    );
    println!();
    let what =
        format!("{} services in {NAMESPACES} namespaces, two endpoints each", thousands(SERVICES as u64));
    step(&what, async |progress| crowd::create(mesh, progress).await).await?;
    step("Bookinfo from Istio's own manifests, and a client, with sidecars", async |_| {
        setup::bookinfo(mesh, istio).await
    })
    .await?;
    step("Palisade from its Helm chart: the operator and one global proxy", async |_| {
        setup::palisade(mesh).await
    })
    .await?;
    step("every sidecar has been told of every service", async |_| {
        setup::until_told(mesh, &sidecars(), 0..SERVICES).await
    })
    .await
}

async fn everything(mesh: &Mesh) -> Result<Before> {
    chapter(2, "Before: every sidecar knows everything");
    let ripple =
        step("one more service somewhere in the mesh", async |_| ripple(mesh, SERVICES, &sidecars()).await)
            .await?;
    say(&format!("istiod, for this one service: {}.", ripple.describe()));
    let rows = step("reading all Envoys", async |progress| all_figures(mesh, progress).await).await?;
    tables::now(&rows);
    say(
        "memory: what Envoy has allocated (/memory). config: the bytes of its clusters, endpoints, listeners and routes \
         as JSON (/config_dump). istiod's figures are its metrics pilot_xds_pushes, pilot_xds_config_size_bytes and \
         pilot_proxy_convergence_time.",
    );
    let sent = Pushes::read(mesh).await?;
    say(&format!("istiod since its start: {}.", sent.describe()));
    Ok(Before { rows, ripple })
}

async fn fencing(mesh: &Mesh) -> Result<()> {
    chapter(3, "Fences: each workload forgets all that it does not use");
    say("Nobody writes down who calls whom: the fences are empty.");
    quote(&format!("kubectl apply --filename - <<END\n{}END", fences::manifests()));
    mesh.apply(&fences::manifests()).await?;
    step("all four fences are in force", async |_| fences::until_in_force(mesh).await).await?;
    quote(&mesh.kubectl(&["get", "servicefences", "--namespace", BOOKINFO]).await?);
    let hosts = mesh.outbound_hosts(&pod(WORKLOADS[0])).await?;
    let known = hosts.iter().find(|host| host.ends_with(".bookinfo.svc.cluster.local"));
    ensure!(known.is_none(), "productpage's sidecar still has {known:?}");
    let lean = figures(mesh, &pod(WORKLOADS[0])).await?;
    say(&format!(
        "productpage's sidecar now has {} clusters, and none of them is of Bookinfo.",
        thousands(lean.clusters)
    ));
    Ok(())
}

async fn first_calls(mesh: &Mesh) -> Result<()> {
    chapter(4, "First calls: over the global proxy, and none is lost");
    say(
        "The client reads the product page. The way of each call is read from the proxies' own counters of requests. \
         Pages are read until all three versions of reviews have answered.",
    );
    println!();
    let (mut versions, mut known) = (BTreeSet::new(), BTreeSet::new());
    for number in 1..=PAGES {
        let page = pages::read(mesh).await?;
        show(number, &page)?;
        versions.insert(page.reviews().to_owned());
        for hop in page.hops.iter().filter(|hop| hop.caller != "client") {
            let first = known.insert((hop.caller.clone(), hop.callee.clone()));
            let expected = if first { Way::GlobalProxy } else { Way::Direct };
            ensure!(
                hop.way == expected,
                "{} called {}: expected {expected:?}, was {:?}",
                hop.caller,
                hop.callee,
                hop.way
            );
        }
        learn(mesh, &page).await?;
        if versions.len() == 3 {
            good("each pair of workloads took the detour once");
            return Ok(());
        }
    }
    anyhow::bail!("after {PAGES} pages only these versions of reviews have answered: {versions:?}")
}

/// Waits until what a page has taught is known.
async fn learn(mesh: &Mesh, page: &Page) -> Result<()> {
    let began = Instant::now();
    let detours: Vec<_> = page.hops.iter().filter(|hop| hop.way == Way::GlobalProxy).collect();
    for hop in &detours {
        fences::until_learned(mesh, hop).await?;
    }
    if !detours.is_empty() {
        println!("            known to the callers' Envoys within {}", seconds(began.elapsed()));
    }
    Ok(())
}

fn show(number: usize, page: &Page) -> Result<()> {
    ensure!(page.status == 200, "page {number} has status {}", page.status);
    let went = |way: Way| {
        let hops = page.hops.iter().filter(|hop| hop.way == way);
        let names = hops.map(|hop| match hop.callee.as_str() {
            "reviews" => format!("reviews {}", page.reviews()),
            callee => callee.to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let (detour, direct) = (went(Way::GlobalProxy), went(Way::Direct));
    let detour = if detour.is_empty() { detour } else { format!("global proxy: {detour}; ") };
    println!("   page {number:<3} 200 in {:>3.0} ms   {detour}direct: {direct}", page.elapsed);
    Ok(())
}

async fn lessons(mesh: &Mesh) -> Result<()> {
    chapter(5, "What was learned");
    say("kubectl get servicefences, and what is in their status:");
    quote(&mesh.kubectl(&["get", "servicefences", "--namespace", BOOKINFO]).await?);
    let learned = fences::learned(mesh).await?;
    for [fence, host, source, seen] in &learned {
        println!("   {fence:<12} {host:<38} {source:<10} first seen {seen}");
    }
    let pairs: BTreeSet<_> =
        learned.iter().map(|[fence, host, ..]| (fence.as_str(), host.as_str())).collect();
    let expected = BTreeSet::from([
        ("productpage", "details.bookinfo.svc.cluster.local"),
        ("productpage", "reviews.bookinfo.svc.cluster.local"),
        ("reviews", "ratings.bookinfo.svc.cluster.local"),
    ]);
    ensure!(pairs == expected, "learned was {pairs:?}");
    println!();
    good("just what Bookinfo does: details and ratings call nobody, so they know nobody");
    Ok(())
}

async fn later_calls(mesh: &Mesh) -> Result<()> {
    chapter(6, "Every later call: from sidecar to sidecar");
    let (mut versions, mut read, mut calls) = (BTreeSet::new(), 0, 0);
    while read < LATER || versions.len() < 3 {
        ensure!(
            read < PAGES,
            "after {PAGES} pages only these versions of reviews have answered: {versions:?}"
        );
        let page = pages::read(mesh).await?;
        ensure!(page.status == 200, "a page has status {}", page.status);
        if let Some(hop) = page.hops.iter().find(|hop| hop.way != Way::Direct) {
            anyhow::bail!("{} called {} over the global proxy", hop.caller, hop.callee);
        }
        ensure!(page.detours == 0, "{} connections reached the global proxy", page.detours);
        versions.insert(page.reviews().to_owned());
        read += 1;
        calls += page.hops.len();
    }
    let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
    good(&format!("{read} pages, all with status 200; reviews {versions} have answered"));
    good(&format!("{calls} of {calls} calls went straight; 0 connections reached the global proxy"));
    Ok(())
}

async fn saving(mesh: &Mesh, before: &Before) -> Result<()> {
    chapter(7, "After: each workload has what it uses");
    let after = step("reading all Envoys", async |progress| all_figures(mesh, progress).await).await?;
    let rows =
        before.rows.iter().zip(&after).map(|((name, before), (_, after))| (name.clone(), *before, *after));
    let (fenced, others): (Vec<_>, Vec<_>) = rows.partition(|(name, ..)| WORKLOADS.contains(&name.as_str()));
    tables::before_and_after(&fenced);
    let sum = |rows: &mut dyn Iterator<Item = Figures>| rows.fold(Figures::default(), Figures::plus);
    let (was, is) = (sum(&mut fenced.iter().map(|row| row.1)), sum(&mut fenced.iter().map(|row| row.2)));
    ensure!(is.memory < was.memory && is.clusters < was.clusters, "nothing was saved");
    say(&format!(
        "The six fenced sidecars together: {} of memory before, {} now ({} less); {} of configuration before, {} now \
         ({} less).",
        size(was.memory),
        size(is.memory),
        ratio(was.memory, is.memory),
        size(was.bytes),
        size(is.bytes),
        ratio(was.bytes, is.bytes)
    ));
    say(
        "Not fenced, so not smaller: the client, and the global proxy, which has the whole mesh's configuration so that nobody else must.",
    );
    tables::now(&others.into_iter().map(|(name, _, after)| (name, after)).collect::<Vec<_>>());
    let told = updates(mesh).await?;
    let ripple = step("one more service somewhere in the mesh", async |_| {
        ripple(mesh, SERVICES + 1, &[CLIENT.to_owned()]).await
    })
    .await?;
    let told = updates(mesh).await? - told;
    ensure!(told == 0, "fenced sidecars got {told} updates");
    say(&format!("istiod before: {}.", before.ripple.describe()));
    say(&format!("istiod now:    {}.", ripple.describe()));
    good("the fenced sidecars got no update at all");
    Ok(())
}

/// Updates of clusters, listeners and routes that the fenced sidecars have got so far.
async fn updates(mesh: &Mesh) -> Result<u64> {
    let mut updates = 0;
    for workload in WORKLOADS {
        let stats = mesh.stats(&pod(workload), "(cds|lds|rds.*)\\.update_success$").await?;
        ensure!(!stats.is_empty(), "the Envoy of {workload} does not count updates");
        updates += stats.values().sum::<u64>();
    }
    Ok(updates)
}

/// What istiod pushes for one new service, until all these pods have it.
async fn ripple(mesh: &Mesh, number: usize, pods: &[String]) -> Result<Pushes> {
    let before = Pushes::read(mesh).await?;
    crowd::create_one(mesh, number).await?;
    setup::until_told(mesh, pods, number..number + 1).await?;
    Ok(Pushes::read(mesh).await?.since(before))
}

/// The figures of Bookinfo's pods, the client and the global proxy.
async fn all_figures(mesh: &Mesh, progress: &Progress) -> Result<Vec<(String, Figures)>> {
    let mut pods = sidecars();
    pods.push(format!("{PALISADE}/global-proxy"));
    let mut rows = Vec::new();
    for pod in &pods {
        progress.show(rows.len(), pods.len());
        let name = pod.rsplit('/').next().unwrap_or_default().to_owned();
        rows.push((name, figures(mesh, pod).await?));
    }
    Ok(rows)
}

fn farewell() {
    chapter(8, "Your turn");
    let hints = [
        ("make bed", "the same kind of mesh, to stay; it says how to use it"),
        ("target/release/bed shell", "a shell inside it, with kubectl, istioctl and helm"),
        ("make bed-down", "stops it"),
        ("docs/install.md", "Palisade on a cluster of your own"),
    ];
    for (command, meaning) in hints {
        println!("   {command:<26}{meaning}");
    }
}
