//! What Slime's users do, by the manifests that they have: revisions, hosts that the spec states, further names,
//! ports that come later, a reset, a Service of two callers, and a pod of two Services.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use jiff::Timestamp;
use serde_json::json;

use crate::fixtures::{aliases, client, server, versions};
use crate::world::{SOON, World};

const NS: &str = "slime";
const OTHER: &str = "slime-other";
const CALLER: &str = "slime/client";
const PORT: (&str, u16) = ("http", 8080);
/// As in Slime's tutorial: what is called `<name>.slime-other…` also has a name of its own.
const ALIASES: [&str; 2] = [
    "fence.domainAliases[0].pattern=^(?P<service>[^.]+)[.]slime-other[.]svc[.]cluster[.]local$",
    "fence.domainAliases[0].templates={$service.mailsaas}",
];

/// The case. The operator is as before when it ends.
pub async fn run(world: &World) -> Result<()> {
    let done = visits(world).await;
    world.install().await?;
    done
}

async fn visits(world: &World) -> Result<()> {
    set_up(world).await?;
    revisions(world).await.context("revisions")?;
    stated(world).await.context("hosts that the spec states")?;
    further_names(world).await.context("further names")?;
    a_later_port(world).await.context("a port that comes later")?;
    a_reset(world).await.context("a reset")?;
    put_right(world).await.context("a Sidecar that somebody edits, and deletes")?;
    two_callers(world).await.context("two callers that share a Service")?;
    two_services(world).await.context("a pod of two Services")
}

async fn set_up(world: &World) -> Result<()> {
    for namespace in [NS, OTHER] {
        world.mesh.namespace(namespace, true).await?;
    }
    let servers = ["details", "reviews"].map(|name| server(NS, name, &[PORT]));
    let others = [server(OTHER, "mail", &[PORT]), aliases(OTHER, "mail", 3, PORT)];
    let manifests: Vec<_> = servers.into_iter().chain(others).chain([client(NS, "client")]).collect();
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OTHER).await
}

/// With `strictRev`, only what has the revision's label is looked after, and the Sidecar has it too; without, what has
/// none as well. The installation that it leaves is for all that comes.
async fn revisions(world: &World) -> Result<()> {
    world.install_with(&["istio.revisions={default}", "istio.strictRevision=true"]).await?;
    world.apply_fence(NS, "client", FENCE).await?;
    first_and_second_visits(world, false).await.context("strict, without the label")?;
    let line = ["label", "servicefence", "client", "--namespace", NS, "istio.io/rev=default"];
    world.mesh.kubectl(&line).await?;
    world.until_trimmed(NS, "client").await?;
    first_and_second_visits(world, true).await.context("strict, with the label")?;
    let sidecar = world.sidecar(NS, "client").await?;
    ensure!(sidecar["metadata"]["labels"]["istio.io/rev"] == "default", "{:#}", sidecar["metadata"]);
    world.delete_fence(NS, "client").await?;

    world.install_with(&[&["istio.revisions={default}"], &ALIASES[..]].concat()).await?;
    world.fence(NS, "client", FENCE).await?;
    first_and_second_visits(world, true).await.context("not strict, without the label")?;
    world.delete_fence(NS, "client").await
}

const FENCE: &str = "{enable: true, workloadSelector: {labels: {app: client}}}";

/// Calls both servers thirty times: every call succeeds; a fence makes the first ones detours, and learns both hosts.
async fn first_and_second_visits(world: &World, fenced: bool) -> Result<()> {
    for name in ["details", "reviews"] {
        let (_, detour) = world.watched_call(CALLER, &format!("http://{name}:8080/")).await?;
        ensure!(detour == fenced, "the first call of {name} went over the global proxy: {detour}");
        world.until_direct(CALLER, &format!("http://{name}:8080/")).await?;
    }
    let before = world.detours().await?;
    for _ in 0..30 {
        for call in world.mesh.calls(CALLER, &["http://details:8080/", "http://reviews:8080/"], &[]).await? {
            ensure!(call.ok, "{call:?}");
        }
    }
    ensure!(world.detours().await? == before, "a later call took the detour");
    if !fenced {
        return world.until_gone(NS, "client").await;
    }
    world.until_routed(NS, "client", &[&*host(NS, "details"), &host(NS, "reviews")]).await
}

/// By name, by namespace, by labels: of one selector all, of several any; and live.
async fn stated(world: &World) -> Result<()> {
    let label = async |service: &str, labels: &[&str]| {
        let line = ["label", "--overwrite", "service", service, "--namespace", OTHER];
        world.mesh.kubectl(&[&line[..], labels].concat()).await
    };
    label("alias-0", &["team=a", "tier=web"]).await?;
    label("alias-1", &["team=a"]).await?;
    label("alias-2", &["team=b"]).await?;
    let spec =
        |more: &str| format!("{{enable: true, workloadSelector: {{labels: {{app: client}}}}, {more}}}");
    let routed = async |more: &str, expected: &[&str]| {
        world.apply_fence(NS, "client", &spec(more)).await?;
        world.until_routed(NS, "client", expected).await.with_context(|| more.to_owned())
    };
    let (mail, details, reviews) = (host(OTHER, "mail"), host(NS, "details"), host(NS, "reviews"));
    let [zero, one, two] = [0, 1, 2].map(|number| host(OTHER, &format!("alias-{number}")));
    routed("host: {mail.slime-other.svc.cluster.local: {stable: {}}}", &[&*mail]).await?;
    routed("host: {slime-other/*: {}}", &[&*zero, &one, &two, &mail]).await?;
    routed("namespaceSelector: [slime]", &[&*details, &reviews]).await?;
    routed("labelSelector: [{selector: {team: a, tier: web}}]", &[&*zero]).await?;
    routed("labelSelector: [{selector: {team: a, tier: web}}, {selector: {team: b}}]", &[&*zero, &two])
        .await?;
    label("alias-1", &["team=b"]).await?;
    world.until_routed(NS, "client", &[&*zero, &one, &two]).await?;
    let end = Timestamp::now().as_second() + 10;
    let deadline = format!("{{deadline: {{expire: {{seconds: {end}}}}}}}");
    routed(&format!("host: {{mail.{OTHER}.svc.cluster.local: {deadline}}}"), &[&*mail]).await?;
    world.until_routed(NS, "client", &[]).await.context("after the deadline")?;
    ensure!(Timestamp::now().as_second() >= end, "it left before its deadline");
    world.delete_fence(NS, "client").await
}

/// The rule gives a host that was learned a further name, for as long as something defines that name.
async fn further_names(world: &World) -> Result<()> {
    world.mesh.apply(MAILSAAS).await?;
    world.fence(NS, "client", FENCE).await?;
    world.until_direct(CALLER, &format!("http://mail.{OTHER}:8080/")).await?;
    world.until_routed(NS, "client", &["slime-other/mail.mailsaas", &*host(OTHER, "mail")]).await?;
    world.delete_fence(NS, "client").await
}

const MAILSAAS: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mailsaas, namespace: slime-other}
spec:
  hosts: [mail.mailsaas]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.245.9.9}]
";

/// A Service on a port that no Service had is reached over the detour at once; nothing has to be opened for it.
async fn a_later_port(world: &World) -> Result<()> {
    world.fence(NS, "client", FENCE).await?;
    world.mesh.apply(&server(NS, "late", &[("http", 9797)])).await?;
    world.mesh.rollout(NS).await?;
    world.until_pushed("palisade-system/global-proxy", &["late.slime.svc.cluster.local"]).await?;
    let (_, detour) = world.watched_call(CALLER, "http://late:9797/").await?;
    ensure!(detour, "the first call did not go over the global proxy");
    world.until_direct(CALLER, "http://late:9797/").await
}

/// `svfReset`: what was learned is forgotten, and learned again by the next call.
async fn a_reset(world: &World) -> Result<()> {
    world.until_direct(CALLER, "http://details:8080/").await?;
    let forget = format!("palisade.io/forget-before={}", Timestamp::now());
    let line = ["annotate", "servicefence", "client", "--namespace", NS, "--overwrite", &forget];
    world.mesh.kubectl(&line).await?;
    world.until_routed(NS, "client", &[]).await?;
    world.until_trimmed(NS, "client").await?;
    world.until_direct(CALLER, "http://details:8080/").await?;
    world.until_routed(NS, "client", &[&*host(NS, "details")]).await
}

/// What is in force is what the fence says, whatever happens to its Sidecar.
async fn put_right(world: &World) -> Result<()> {
    let details = host(NS, "details");
    let sidecar = ["sidecars.networking.istio.io", "client", "--namespace", NS];
    let egress = json!({ "spec": { "egress": [{ "hosts": ["slime-other/*"] }] } }).to_string();
    let edit = [&["patch"], &sidecar[..], &["--type=merge", "--patch", &egress]].concat();
    world.mesh.kubectl(&edit).await?;
    world.until_routed(NS, "client", &[&*details]).await.context("edited")?;
    world.until_trimmed(NS, "client").await?;
    world.until_direct(CALLER, "http://details:8080/").await?;
    world.mesh.kubectl(&[&["delete"], &sidecar[..]].concat()).await?;
    world.until_routed(NS, "client", &[&*details]).await.context("deleted")?;
    world.until_trimmed(NS, "client").await?;
    world.until_direct(CALLER, "http://details:8080/").await?;
    world.delete_fence(NS, "client").await
}

/// A fence that says nothing of pods is for those of the Service of its name; what one of them calls, all may.
async fn two_callers(world: &World) -> Result<()> {
    let callers = ["front-a", "front-b"];
    world.mesh.apply(&versions(NS, "front", &callers)).await?;
    world.mesh.rollout(NS).await?;
    world.fence(NS, "front", "{enable: true}").await?;
    for (caller, name) in callers.into_iter().zip(["details", "reviews"]) {
        let (call, detour) =
            world.watched_call(&format!("{NS}/{caller}"), &format!("http://{name}:8080/")).await?;
        ensure!(detour, "{caller}'s first call of {name} did not go over the global proxy");
        ensure!(call.name.as_deref() == Some(name), "{:?} answered", call.name);
    }
    world.until_routed(NS, "front", &[&*host(NS, "details"), &host(NS, "reviews")]).await?;
    for caller in callers {
        let pod = &format!("{NS}/{caller}");
        for name in ["details", "reviews"] {
            let url = &format!("http://{name}:8080/");
            world.until_direct(pod, url).await?;
            let identity = world.mesh.call(pod, url).await?.identity;
            let own = identity.as_ref().is_some_and(|identity| identity.ends_with(&format!("/sa/{caller}")));
            ensure!(own, "{name} sees {caller} as {identity:?}");
        }
    }
    Ok(())
}

/// Both Services' fences learn what the pod calls; the older one carries, also what only the other's spec lists.
async fn two_services(world: &World) -> Result<()> {
    world.mesh.apply(&aliases(NS, "client", 2, PORT)).await?;
    // Nobody has called it, so only the spec can tell of it.
    let listed = format!("alias-2.{OTHER}.svc.cluster.local");
    for (name, hosts) in [("alias-0", String::new()), ("alias-1", format!("{listed}: {{}}"))] {
        let spec = format!("{{enable: true, workloadSelector: {{fromService: true}}, host: {{{hosts}}}}}");
        world.apply_fence(NS, name, &spec).await?;
    }
    world.until_trimmed(NS, "alias-0").await?;
    let message = world.until_said(NS, "alias-1", "Ready", ("True", "CarriedBy")).await?;
    ensure!(message.contains("slime/alias-0"), "{message}");
    world.until_direct(CALLER, "http://reviews:8080/").await?;
    for name in ["alias-0", "alias-1"] {
        until(&format!("{name} knows reviews"), SOON, async || {
            let fence = world.fence_of(NS, name).await?;
            let known = &fence["status"]["domains"]["reviews.slime.svc.cluster.local"]["sources"];
            ensure!(known.as_array().is_some_and(|sources| sources.contains(&"AccessLog".into())), "{known}");
            Ok(())
        })
        .await?;
    }
    world.until_routed(NS, "alias-0", &[&*host(OTHER, "alias-2"), &host(NS, "reviews")]).await?;
    let domains = &world.fence_of(NS, "alias-0").await?["status"]["domains"];
    ensure!(domains[&listed]["sources"] == json!(["Fence"]), "{domains}");
    let (_, detour) = world.watched_call(CALLER, &format!("http://alias-2.{OTHER}:8080/")).await?;
    ensure!(!detour, "the first call of what the other fence lists went over the global proxy");
    world.until_gone(NS, "alias-1").await
}

fn host(namespace: &str, service: &str) -> String {
    format!("{namespace}/{service}.{namespace}.svc.cluster.local")
}
