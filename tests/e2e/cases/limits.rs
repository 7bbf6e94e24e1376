//! Limits that real Envoys keep: by what requests have, where they go, and in which numbers; and what of it goes wrong.

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;

use crate::fixtures::{client, server};
use crate::limited::{Limiter, admitted, limiter, rejects_in_its_own_words, until_limits, until_programmed};
use crate::world::{PALISADE, SOON, World};

const NS: &str = "limits";
const CALLER: &str = "limits/client";
const WEB: &str = "http://web:8080/";
const OTHER: &str = "http://other:8080/";
/// Has Envoy count what it limits: Istio leaves that out.
const COUNTED: &str = "annotations: {sidecar.istio.io/statsInclusionRegexps: '.*http_local_rate_limit.*'}";
/// What comes late must come within this time to be seen.
const WATCHED: std::time::Duration = std::time::Duration::from_secs(5);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    let manifests = [
        server(NS, "web", &[("http", 8080)]).replace("annotations: {}", COUNTED),
        server(NS, "other", &[("http", 8080)]),
        client(NS, "client"),
        client(NS, "neighbour"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    by_what_requests_have(world).await.context("by what requests have")?;
    several_limiters(world).await.context("several limiters for one pod")?;
    requests_that_are_sent(world).await.context("requests that are sent")?;
    bad_input(world).await.context("bad input")?;
    nothing_is_written(world).await.context("nothing changes")?;
    drift(world).await.context("drift")?;
    gone(world).await.context("a limiter goes")?;
    switched_off(world).await.context("limits are switched off")?;
    nothing_was_rejected(world, &[&format!("{NS}/web"), CALLER, &format!("{PALISADE}/global-proxy")]).await
}

/// A descriptor of so many requests in ten minutes, so that no bucket is filled again while the case looks.
fn quota(number: u32, more: &str) -> String {
    format!(
        "{{condition: 'true', action: {{quota: '{number}', fill_interval: {{seconds: 600}}, strategy: single}}, {more}}}"
    )
}

/// Limits by everything that requests may be matched by; one of them from `address`.
fn by_all_kinds_of_match(address: &str) -> Vec<String> {
    let inbound = "target: {direction: inbound, port: 8080}";
    let of =
        |number, matches: &str, more: &str| quota(number, &format!("match: [{matches}], {inbound}, {more}"));
    vec![
        of(3, "{name: x-exact, exact_match: 'a'}", "rateLimitHeaders: true"),
        of(2, "{name: user, prefixMatch: v, matchSource: QueryMatch}", ""),
        of(4, "{name: ':method', exact_match: POST}", ""),
        of(2, &format!("{{exact_match: '192.0.2.1,{address}', matchSource: SourceIpMatch}}"), ""),
        of(1, "{name: x-shadow, present_match: true}", "shadow: true"),
        of(
            3,
            "{name: x-regex, regex_match: 'a+b'}, {name: x-regex, exact_match: aab, invert_match: true}",
            "",
        ),
        of(2, "{name: x-each, present_match_separate: true}", ""),
        of(
            3,
            "{matchSource: SourceIpMatch, present_match_separate: true}, {name: x-address, present_match: true}",
            "",
        ),
        of(1, "{name: x-suffix, suffix_match: end}", "")
            .replace("strategy", "headers_to_add: [{key: x-why, value: '100% used'}], strategy"),
        of(2, "{name: x-empty, is_exact_match_empty: true}", ""),
    ]
}

async fn by_what_requests_have(world: &World) -> Result<()> {
    let neighbour = "{.items[0].status.podIP}";
    let pods =
        ["get", "pods", "-n", NS, "--selector=app=neighbour", &format!("--output=jsonpath={neighbour}")];
    let address = world.mesh.kubectl(&pods).await?;
    limiter(world, NS, "web", &Limiter::of(&by_all_kinds_of_match(address.trim()))).await?;
    // The one by address is two: one for each of them.
    until_limits(world, &format!("{NS}/web"), "virtualInbound", &[11]).await?;
    world.until_limiter_said(NS, "web", "Ready", ("True", "Limiting")).await?;
    for (what, options, url, expected) in [
        ("a header", &["--header", "x-exact:a"][..], WEB, 3),
        ("another value of it", &["--header", "x-exact:b"], WEB, 8),
        ("a query parameter", &[], "http://web:8080/?user=v2", 2),
        ("another value of it", &[], "http://web:8080/?user=w", 8),
        ("a method", &["--method", "POST"], WEB, 4),
        ("two operators", &["--header", "x-regex:aaab"], WEB, 3),
        ("what the second excludes", &["--header", "x-regex:aab"], WEB, 8),
        ("each value", &["--header", "x-each:a"], WEB, 2),
        ("each other value", &["--header", "x-each:b"], WEB, 2),
        ("each address", &["--header", "x-address:1"], WEB, 3),
        ("an end", &["--header", "x-suffix:the-end"], WEB, 1),
        ("another end", &["--header", "x-suffix:end-of"], WEB, 8),
        ("no value", &["--header", "x-empty:"], WEB, 2),
        ("some value", &["--header", "x-empty:1"], WEB, 8),
        ("nothing that is limited", &[], WEB, 8),
    ] {
        let passed = admitted(world, CALLER, url, options, 8).await.context(what)?;
        ensure!(passed == expected, "{what}: {passed} of 8 passed, and {expected} should have");
    }
    in_the_shadow(world).await.context("a shadow")?;
    let passed = admitted(world, &format!("{NS}/neighbour"), WEB, &[], 8).await?;
    ensure!(passed == 2, "from an address: {passed} of 8 passed");
    let answer =
        world.mesh.exec(CALLER, &["curl", "--silent", "--include", "--header", "x-exact: a", WEB]).await?;
    ensure!(answer.contains("429") && answer.contains("x-ratelimit-limit: 3"), "{answer}");
    ensure!(answer.contains("x-why: 100% used"), "{answer}");
    rejects_in_its_own_words(world, (NS, "web"), (CALLER, WEB, "x-exact: a")).await
}

/// A shadow counts, and rejects nothing.
async fn in_the_shadow(world: &World) -> Result<()> {
    let before = counted(world).await?;
    let passed = admitted(world, CALLER, WEB, &["--header", "x-shadow:1"], 8).await?;
    ensure!(passed == 8, "{passed} of 8 passed");
    let after = counted(world).await?;
    ensure!(
        after.0 >= before.0 + 7 && after.1 == before.1,
        "limited and rejected: {before:?} before, {after:?} after 8 requests with a quota of one"
    );
    Ok(())
}

/// How many requests were above a limit of the server's, and how many of them were rejected.
async fn counted(world: &World) -> Result<(u64, u64)> {
    let stats = world.mesh.stats(&format!("{NS}/web"), "http_local_rate_limit").await?;
    let sum = |end: &str| stats.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum();
    ensure!(!stats.is_empty(), "nothing is counted");
    Ok((sum(".rate_limited"), sum(".enforced")))
}

async fn several_limiters(world: &World) -> Result<()> {
    let second = [quota(5, "match: [{name: x-second, exact_match: 'a'}], target: {port: 0}")];
    limiter(world, NS, "second", &Limiter { selector: "app: web", ..Limiter::of(&second) }).await?;
    until_limits(world, &format!("{NS}/web"), "virtualInbound", &[1, 11]).await?;
    let passed = admitted(world, CALLER, WEB, &["--header", "x-second:a"], 8).await?;
    ensure!(passed == 5, "by the second: {passed} of 8 passed");
    let passed = admitted(world, CALLER, WEB, &["--header", "x-exact:a"], 8).await?;
    // It may have been filled anew: its chain is another one.
    ensure!(passed == 0 || passed == 3, "by the first: {passed} of 8 passed");
    Ok(())
}

async fn requests_that_are_sent(world: &World) -> Result<()> {
    let host = format!("other.{NS}.svc.cluster.local");
    let target = |more: &str| format!("target: {{direction: outbound, port: 8080, {more}}}");
    let descriptors = [
        quota(3, &target(&format!("host: ['{host}']"))),
        quota(
            1,
            &format!(
                "match: [{{name: x-route, present_match: true}}], {}",
                target(&format!("route: ['{host}:8080/default']"))
            ),
        ),
    ];
    limiter(world, NS, "client", &Limiter { selector: "app: client", ..Limiter::of(&descriptors) }).await?;
    limiter(
        world,
        NS,
        "nobody",
        &Limiter { selector: "app: nobody", ..Limiter::of(&[quota(1, &target(""))]) },
    )
    .await?;
    until_limits(world, CALLER, "0.0.0.0_8080", &[2]).await?;
    let passed = admitted(world, CALLER, OTHER, &["--header", "x-route:1"], 4).await?;
    ensure!(passed == 1, "by a route: {passed} of 4 passed");
    let passed = admitted(world, CALLER, OTHER, &[], 8).await?;
    // A request that the route's bucket refuses may have taken a token of the host's.
    ensure!((1..=2).contains(&passed), "to a host: {passed} of 8 passed after one");
    let passed = admitted(world, CALLER, WEB, &[], 8).await?;
    ensure!(passed == 8, "to another host: {passed} of 8 passed");
    let passed = admitted(world, &format!("{NS}/neighbour"), OTHER, &[], 8).await?;
    ensure!(passed == 8, "from another workload: {passed} of 8 passed");
    Ok(())
}

async fn bad_input(world: &World) -> Result<()> {
    let (restarts, _) = world.mesh.restarts(OPERATOR).await?;
    let target = "target: {port: 8080}";
    let named = quota(1, &format!("custom_key: a, custom_value: b, {target}"));
    for (name, descriptors, reason) in [
        (
            "no-interval",
            vec![format!("{{condition: 'true', action: {{quota: '1'}}, {target}}}")],
            "InvalidDescriptor",
        ),
        ("no-action", vec![format!("{{condition: 'true', {target}}}")], "InvalidDescriptor"),
        ("no-expression", vec![quota(1, target).replace("'1'", "'1 +'")], "InvalidDescriptor"),
        (
            "no-regex",
            vec![quota(1, &format!("match: [{{name: a, regex_match: '('}}], {target}"))],
            "InvalidDescriptor",
        ),
        ("twice", vec![named.clone(), named], "DuplicateName"),
        ("global", vec![quota(1, target).replace("single", "global")], "NoRateLimitService"),
        ("metrics", vec![quota(1, target).replace("'true'", "'{{.v1.cpu.sum}}>10'")], "MetricsMissing"),
    ] {
        limiter(world, NS, name, &Limiter { selector: "app: other", ..Limiter::of(&descriptors) }).await?;
        let message = world.until_limiter_said(NS, name, "Ready", ("False", reason)).await?;
        ensure!(message.contains("sets._base.descriptor["), "{name}: {message}");
    }
    let twice = quota(1, target).replace("strategy", "fillInterval: {seconds: 1}, strategy");
    let refusal = limiter(world, NS, "spelled-twice", &Limiter::of(&[twice])).await;
    let refusal = format!("{:#}", refusal.err().context("two spellings of one field were taken")?);
    ensure!(refusal.contains("two spellings"), "{refusal}");
    until_limits(world, &format!("{NS}/other"), "virtualInbound", &[1])
        .await
        .context("the first of two of one name")?;
    let passed = admitted(world, CALLER, WEB, &["--header", "x-second:a"], 8).await?;
    ensure!(passed == 0, "the others' limits: {passed} of 8 passed");
    ensure!(world.mesh.restarts(OPERATOR).await?.0 == restarts, "the operator crashed");
    Ok(())
}

const OPERATOR: &str = "palisade-system/palisade";

async fn nothing_is_written(world: &World) -> Result<()> {
    until_programmed(world, NS).await?;
    let before = world.mesh.writes().await?;
    tokio::time::sleep(WATCHED).await;
    world.scale_operator(0).await?;
    world.scale_operator(1).await?;
    // That it limits again shows that it had the time to write.
    let late = [quota(1, "target: {port: 8080}")];
    limiter(world, NS, "late", &Limiter { selector: "app: other", ..Limiter::of(&late) }).await?;
    until_limits(world, &format!("{NS}/other"), "virtualInbound", &[1, 1]).await?;
    world.until_limiter_said(NS, "late", "Programmed", ("True", "Programmed")).await?;
    let mut written = world.mesh.writes().await?.since(&before);
    written.retain(|kind, _| kind.starts_with("envoyfilters") || kind.starts_with("smartlimiters"));
    // The status says that it limits, and then that the proxies have it.
    let expected = [("envoyfilters", 1), ("smartlimiters", 1), ("smartlimiters/status", 2)];
    let expected = expected.map(|(kind, count)| (kind.to_owned(), count)).into();
    ensure!(written == expected, "written: {written:?}, expected: {expected:?}");
    Ok(())
}

async fn drift(world: &World) -> Result<()> {
    let filter = format!("web.{NS}.ratelimit");
    let patch = r#"{"spec": {"configPatches": []}}"#;
    let line =
        ["patch", "envoyfilters.networking.istio.io", &filter, "-n", NS, "--type=merge", "--patch", patch];
    world.mesh.kubectl(&line).await?;
    until("what somebody changed is repaired", SOON, async || {
        let spec = &world.envoy_filter(NS, &filter).await?["spec"];
        ensure!(spec["configPatches"].as_array().is_some_and(|patches| patches.len() == 3), "{spec}");
        Ok(())
    })
    .await
}

async fn gone(world: &World) -> Result<()> {
    world.mesh.kubectl(&["delete", "smartlimiter", "second", "web", "-n", NS, "--timeout=30s"]).await?;
    until_limits(world, &format!("{NS}/web"), "virtualInbound", &[]).await?;
    let passed = admitted(world, CALLER, WEB, &["--header", "x-exact:a"], 8).await?;
    ensure!(passed == 8, "{passed} of 8 passed");
    Ok(())
}

/// What is in force stays, what comes is left alone, and the operator may not even write it; until it is switched on again.
async fn switched_off(world: &World) -> Result<()> {
    let account = format!("--as=system:serviceaccount:{PALISADE}:palisade");
    let may = ["auth", "can-i", "create", "envoyfilters.networking.istio.io", "-n", NS, &account];
    world.mesh.kubectl(&may).await.context("it may not write EnvoyFilters before")?;
    world.install_with(&["limiter.enabled=false"]).await?;
    world.mesh.rollout(PALISADE).await?;
    ensure!(world.mesh.kubectl(&may).await.is_err(), "it may write EnvoyFilters");
    limiter(
        world,
        NS,
        "later",
        &Limiter { selector: "app: web", ..Limiter::of(&[quota(1, "target: {port: 8080}")]) },
    )
    .await?;
    // That it fences shows that it had the time to limit.
    world.fence(NS, "neighbour", "{enable: true, workloadSelector: {labels: {app: neighbour}}}").await?;
    let passed = admitted(world, CALLER, WEB, &[], 8).await?;
    ensure!(passed == 8, "switched off: {passed} of 8 passed");
    until_limits(world, &format!("{NS}/other"), "virtualInbound", &[1, 1]).await?;
    world.install().await?;
    world.until_limiter_said(NS, "later", "Ready", ("True", "Limiting")).await?;
    until_limits(world, &format!("{NS}/web"), "virtualInbound", &[1]).await
}

/// None of these proxies has rejected anything, nor has any other told istiod of it.
pub async fn nothing_was_rejected(world: &World, proxies: &[&str]) -> Result<()> {
    for proxy in proxies {
        let rejected = world.mesh.stats(proxy, "update_rejected$").await?;
        ensure!(rejected.contains_key("listener_manager.lds.update_rejected"), "{proxy} has no such counter");
        ensure!(rejected.values().all(|count| *count == 0), "{proxy} rejected something: {rejected:?}");
    }
    let rejects = world.rejections().await?;
    ensure!(rejects == 0.0, "istiod was told of {rejects} rejections");
    Ok(())
}
