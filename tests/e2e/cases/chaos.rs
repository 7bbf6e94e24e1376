//! Three hundred fences learn by random calls while the operator, istiod and the API server are killed in turn: no
//! call fails, and every fence ends with just what was called. Long, so `make soak` runs it.
//!
//! Forty callers are real, with a sidecar each. The others are pods that nobody runs, whose calls stand in an access
//! log: three hundred sidecars are more than the machine has memory for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::inspect::PodHandle;
use bed::mesh::Load;
use bed::wait::until;
use fastrand::Rng;
use futures::future::try_join_all;

use crate::fixtures::{client, server};
use crate::mute::Mute;
use crate::world::{PALISADE, SOON, World};

const NS: &str = "chaos";
const OPERATOR: &str = "palisade-system/palisade";
const ISTIOD: &str = "istio-system/istiod";
const SERVERS: usize = 20;
const CALLERS: usize = 40;
const MUTE: usize = 260;
/// How many of the servers each caller calls; the next one is begun with in each round.
const CALLED: usize = 5;
/// Requests a second of one caller to one server.
const RATE: &str = "--rate=1";
/// How long a round is at least, with one fault of each kind; there are as many rounds as servers that are called.
const ROUND: Duration = Duration::from_mins(1);
/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(5);

/// With so much to push, and istiod killed in between, a push of everything takes longer than in the other cases.
const VALUES: [&str; 2] = ["fence.openSettle=3s", "istio.reconnect=30s"];

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    world.install_with(&VALUES).await?;
    let done = killed_in_turn(world).await;
    world.install().await?;
    done
}

async fn killed_in_turn(world: &World) -> Result<()> {
    // With this seed, what is called is the same in each run; when, is up to the machine.
    let mut random = Rng::with_seed(300);
    let callers: Vec<_> = (0..CALLERS).map(|number| Caller::new(number, &mut random)).collect();
    set_up(world, &callers).await?;
    let mute = Mute::start(world, NS, MUTE, &servers(), CALLED, &mut random).await?;
    let pods = try_join_all(callers.iter().map(|caller| world.mesh.caller(&caller.pod))).await?;

    let mut loads = Vec::new();
    for round in 0..CALLED {
        let (began, delays) = (Instant::now(), callers.iter().map(|_| random.f32()).collect::<Vec<_>>());
        let calls = callers.iter().zip(&pods).zip(delays);
        let calls =
            calls.map(|((caller, pod), delay)| caller.call(world, pod, round, ROUND.mul_f32(delay * 0.8)));
        let (new, ()) = tokio::try_join!(try_join_all(calls), faults(world))?;
        loads.extend(new);
        tokio::time::sleep(ROUND.saturating_sub(began.elapsed())).await;
    }

    let mut sent = 0;
    for (who, load) in loads {
        let summary = load.end().await?;
        ensure!(summary.failed + summary.retried_unanswered == 0, "{who}: {:#?}", summary.errors);
        sent += summary.sent;
    }
    eprintln!("chaos: {sent} requests of {CALLERS} callers, none failed");
    for caller in &callers {
        let hosts = caller.hosts();
        world.until_routed(NS, &caller.name, &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    mute.end(world).await
}

async fn set_up(world: &World, callers: &[Caller]) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let servers = servers().into_iter().map(|name| server(NS, &name, &[("http", 8080)]));
    let manifests: Vec<_> = servers.chain(callers.iter().map(|caller| client(NS, &caller.name))).collect();
    // In parts, so that the sidecars do not all start at once.
    for part in manifests.chunks(10) {
        world.mesh.apply(&part.join("\n---\n")).await?;
        world.mesh.rollout(NS).await?;
    }
    for caller in callers {
        let fence = format!("{{enable: true, workloadSelector: {{labels: {{app: {}}}}}}}", caller.name);
        world.apply_fence(NS, &caller.name, &fence).await?;
    }
    for caller in callers {
        world.until_trimmed(NS, &caller.name).await?;
    }
    Ok(())
}

/// One fault of each kind; what was killed is back before the next one.
async fn faults(world: &World) -> Result<()> {
    for (pod, container) in [(OPERATOR, "palisade"), (ISTIOD, "discovery")] {
        let (restarts, _) = world.mesh.restarts(pod).await?;
        world.mesh.kill(pod, container).await?;
        world.mesh.until_restarted(pod, restarts + 1).await.with_context(|| format!("{pod} was killed"))?;
    }
    world.mesh.stop_api_server().await?;
    tokio::time::sleep(OUTAGE).await;
    world.mesh.start_api_server().await?;
    until("the operator is ready", SOON, async || {
        let (_, ready) = world.mesh.restarts(OPERATOR).await?;
        ensure!(ready, "it is not");
        Ok(())
    })
    .await?;
    world.mesh.rollout(PALISADE).await
}

fn servers() -> Vec<String> {
    (0..SERVERS).map(|number| format!("s{number:02}")).collect()
}

/// A fenced client, and the servers that it calls, in that order.
struct Caller {
    name: String,
    pod: String,
    called: Vec<String>,
}

impl Caller {
    fn new(number: usize, random: &mut Rng) -> Self {
        let name = format!("client-{number}");
        Self { pod: format!("{NS}/{name}"), name, called: random.choose_multiple(servers(), CALLED) }
    }

    /// Begins to call the server of this round after a while, and goes on.
    async fn call(
        &self,
        world: &World,
        pod: &PodHandle,
        round: usize,
        after: Duration,
    ) -> Result<(String, Load)> {
        tokio::time::sleep(after).await;
        let url = format!("http://{}:8080/", self.called[round]);
        let load = world.mesh.load_from(pod, &[&url], &[RATE, "--connections=1", "--timeout=10s"])?;
        Ok((format!("{} calls {url}", self.name), load))
    }

    /// What its Sidecar ends with.
    fn hosts(&self) -> Vec<String> {
        let host = |server: &String| format!("{NS}/{server}.{NS}.svc.cluster.local");
        self.called.iter().map(host).collect::<BTreeSet<_>>().into_iter().collect()
    }
}
