//! Bad input is refused with a word that helps, or ignored; it never stops the operator and never gets into a fence.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use bed::cli::Component;
use bed::wait::until;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::fixtures::{client, server};
use crate::hostile_logs::{
    NOISY_ENTRIES, Row, Sender, harmless_rows, left_streams, silent_connections, spoiled_messages, valid,
};
use crate::world::{SOON, World};

const NS: &str = "bad-input";
const OUTSIDE: &str = "bad-input-outside";
const OPERATOR: &str = "palisade-system/palisade";
const STREAMS: usize = 1000;

/// The case.
pub async fn run(world: &World) -> Result<()> {
    for (namespace, injected) in [(NS, true), (OUTSIDE, false)] {
        world.mesh.namespace(namespace, injected).await?;
    }
    bad_fences_are_refused(world).await?;
    good_fences_are_taken(world).await?;
    let names = ["web", "unused", "control"].map(|name| server(NS, name, &[("http", 8080)]));
    let manifests: Vec<_> =
        names.into_iter().chain([client(NS, "client"), client(OUTSIDE, "outsider")]).collect();
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OUTSIDE).await?;
    world.fence(NS, "client", "{enable: true, workloadSelector: {labels: {app: client}}}").await?;
    hostile_logs_do_no_harm(world).await
}

/// What the host rule says.
const HOST: &str = "must be a full host name in lower case";
/// What the label rule says.
const LABEL: &str = "must be a label value";

async fn bad_fences_are_refused(world: &World) -> Result<()> {
    let hosts = [
        "reviews",
        "reviews.shop.svc.cluster.local:9080",
        "Reviews.shop.svc.cluster.local",
        "*",
        "*.*",
        "*/*",
        "a.*.example.com",
        "shop/reviews.shop.svc.cluster.local",
        "",
        "-a.example.com",
        "a..com",
        "www.example.com.",
        "foo_bar.example.com",
        "a b.com",
        "[fd00::1]",
    ];
    for host in hosts {
        refused(world, &format!("{{enable: true, host: {{{host:?}: {{}}}}}}"), HOST).await?;
    }
    let crowd: Vec<_> = (0..513).map(|number| format!("h{number}.example.com: {{}}")).collect();
    let others = [
        (format!("{{enable: true, host: {{{}}}}}", crowd.join(", ")), "must have at most 512 items"),
        (labels("{app: a b}"), LABEL),
        (labels("{app: -a}"), LABEL),
        (labels("{app: 'a*'}"), LABEL),
        (labels("{app: 1}"), "must be of type string"),
        (labels(&format!("{{app: {}}}", "a".repeat(64))), "may not be more than 63"),
        (labels("{'': a}"), "key of workloadSelector.labels"),
        (labels("{'a*': a}"), "key of workloadSelector.labels"),
        ("{enable: 'yes'}".to_owned(), "must be of type boolean"),
        ("{enable: true, host: [www.example.com]}".to_owned(), "must be of type object"),
        ("{enable: true, host: {www.example.com: stable}}".to_owned(), "must be of type object"),
        ("{enable: true, workloadSelector: client}".to_owned(), "must be of type object"),
        ("{enable: true, hosts: {www.example.com: {}}}".to_owned(), "unknown field \"spec.hosts\""),
    ];
    for (spec, message) in others {
        refused(world, &spec, message).await?;
    }
    Ok(())
}

fn labels(labels: &str) -> String {
    format!("{{enable: true, workloadSelector: {{labels: {labels}}}}}")
}

async fn refused(world: &World, spec: &str, message: &str) -> Result<()> {
    let shown: String = spec.chars().take(200).collect();
    let error =
        world.apply_fence(NS, "bad", spec).await.err().with_context(|| format!("{shown} was taken"))?;
    let text = format!("{error:#}");
    ensure!(text.contains(message), "{shown} was refused with {text:?}, not with {message:?}");
    Ok(())
}

/// As Slime's users write them; disabled, for they are not about anybody here.
async fn good_fences_are_taken(world: &World) -> Result<()> {
    let specs = [
        "{}",
        "{enable: false}",
        "{host: {www.example.com: {stable: {}}, reviews.shop.svc.cluster.local: {}, 'shop/*': {}, '*.example.com': {}}}",
        "{workloadSelector: {fromService: true}}",
        "{workloadSelector: {labels: {app: client, version: v1.0_a, empty: ''}}}",
        "{workloadSelector: {labels: {app.kubernetes.io/name: client}}}",
    ];
    for (number, spec) in specs.iter().enumerate() {
        world.apply_fence(NS, &format!("good-{number}"), spec).await.with_context(|| (*spec).to_owned())?;
    }
    Ok(())
}

async fn hostile_logs_do_no_harm(world: &World) -> Result<()> {
    let server: SocketAddr = format!("{}:18090", world.mesh.address(OPERATOR).await?).parse()?;
    let caller: IpAddr = world.mesh.address(&format!("{NS}/client")).await?.parse()?;
    let (before, life, learned) = (versions(world).await?, life(world).await?, entries(world, "new").await?);
    each_kind_is_told_apart(world, server, harmless_rows(caller, NS)).await?;
    noise_is_counted(world, server).await?;
    ensure!(entries(world, "new").await? == learned, "something was learned from hostile entries");
    let after = versions(world).await?;
    ensure!(after == before, "fences or Sidecars changed: {before:?} became {after:?}");
    good_calls_are_learned_meanwhile(world, server).await?;
    control(world, server, caller).await?;
    let still = self::life(world).await?;
    ensure!(still == life, "the operator (process, restarts, ready) was {life:?} and is {still:?}");
    Ok(())
}

const OUTSIDER: &str = "bad-input-outside/outsider";

/// Each entry counts as what it is, so that who looks at the metric sees what is being tried. At least as many: the global
/// proxy's own entries count meanwhile.
async fn each_kind_is_told_apart(world: &World, server: SocketAddr, rows: Vec<Row>) -> Result<()> {
    let mut sent = BTreeMap::<&str, u64>::new();
    for outcome in rows.iter().flat_map(|row| &row.outcomes) {
        *sent.entry(*outcome).or_default() += 1;
    }
    let mut expected = Vec::new();
    for (outcome, sent) in sent {
        expected.push((outcome, entries(world, outcome).await? + sent));
    }
    let attack = move || async move {
        let sender = Sender::connect(server).await?;
        for row in rows {
            sender.send(row.messages).await.with_context(|| row.what)?;
        }
        Ok(())
    };
    world.mesh.inside(OUTSIDER, attack).await?;
    for (outcome, expected) in expected {
        let counted = entries(world, outcome).await?;
        ensure!(counted >= expected, "{outcome}: {counted} entries are counted, not {expected}");
    }
    Ok(())
}

/// What stands where an entry should be counts as one, also if it is none.
async fn noise_is_counted(world: &World, server: SocketAddr) -> Result<()> {
    let before = (entries(world, "malformed").await?, entries(world, "no_properties").await?);
    let attack = move || async move {
        let sender = Sender::connect(server).await?;
        for message in spoiled_messages() {
            // The stream may end with an error, and often does.
            let _ = sender.send(vec![message]).await;
        }
        Ok(())
    };
    world.mesh.inside(OUTSIDER, attack).await?;
    let malformed = entries(world, "malformed").await? - before.0;
    // Noise may happen to be a message of which every field is unknown.
    let empty = entries(world, "no_properties").await? - before.1;
    let all = malformed > empty && malformed + empty >= NOISY_ENTRIES;
    ensure!(all, "of {NOISY_ENTRIES} entries of noise {malformed} count as malformed, {empty} as empty");
    Ok(())
}

/// While streams and connections are open and left, a real call is learned.
async fn good_calls_are_learned_meanwhile(world: &World, server: SocketAddr) -> Result<()> {
    let (release, released) = oneshot::channel::<()>();
    let attack = world.mesh.inside(OUTSIDER, move || async move {
        let _streams = left_streams(server, STREAMS).await?;
        let _silent = silent_connections(server).await?;
        let _ = released.await;
        Ok(())
    });
    let meanwhile = async {
        until("the streams are open", SOON, async || {
            let open = world.mesh.metric(Component::Palisade, "palisade_access_log_streams", &[]).await?;
            ensure!(open >= f64::from(u32::try_from(STREAMS)?), "{open} are");
            Ok(())
        })
        .await?;
        world.until_direct(&format!("{NS}/client"), "http://web:8080/").await?;
        world.until_routed(NS, "client", &[&format!("{NS}/web.{NS}.svc.cluster.local")]).await?;
        let _ = release.send(());
        Ok(())
    };
    tokio::try_join!(attack, meanwhile).map(drop)
}

/// A good entry of the same sender is learned, so the others were understood. (Who may connect is for the network
/// to say: the chart's `NetworkPolicy`.)
async fn control(world: &World, server: SocketAddr, caller: IpAddr) -> Result<()> {
    let message = valid(caller, &format!("control.{NS}.svc.cluster.local"));
    let send = move || async move { Sender::connect(server).await?.send(vec![message]).await };
    world.mesh.inside(OUTSIDER, send).await?;
    let learned = ["control", "web"].map(|name| format!("{NS}/{name}.{NS}.svc.cluster.local"));
    world.until_routed(NS, "client", &learned.each_ref().map(String::as_str)).await
}

/// The operator's process, how often it was started again, and whether it is ready.
async fn life(world: &World) -> Result<(i32, i32, bool)> {
    let (restarts, ready) = world.mesh.restarts(OPERATOR).await?;
    Ok((world.mesh.process(OPERATOR, "palisade").await?, restarts, ready))
}

/// The version of every fence and every Sidecar.
async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let kinds = "servicefences.microservice.slime.io,sidecars.networking.istio.io";
    let list: Value =
        serde_json::from_str(&world.mesh.kubectl(&["get", kinds, "-A", "--output=json"]).await?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().into_iter().flatten();
    let versions = items.map(|item| {
        let meta = &item["metadata"];
        let name = format!("{} {}/{}", text(&item["kind"]), text(&meta["namespace"]), text(&meta["name"]));
        (name, text(&meta["resourceVersion"]))
    });
    Ok(versions.collect())
}

/// How many entries the operator has read that had this outcome.
async fn entries(world: &World, outcome: &str) -> Result<u64> {
    let label = format!("outcome=\"{outcome}\"");
    let count =
        world.mesh.metric(Component::Palisade, "palisade_access_log_entries_total", &[&label]).await?;
    // A counter of few events.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(count as u64)
}
