//! Limiters, what Envoys have of them, and what they let pass.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bed::wait::until;
use serde_json::Value;

use crate::world::{SOON, World};

/// A limiter's spec.
#[derive(Clone, Debug, Default)]
pub struct Limiter<'a> {
    /// Labels of the pods, in YAML; none: those of the Service.
    pub selector: &'a str,
    /// Whether the pods are gateways.
    pub gateway: bool,
    /// Whether requests are refused that the rate limit service has no answer for.
    pub failure_mode_deny: bool,
    /// The descriptors for all pods, in YAML.
    pub descriptors: Vec<String>,
}

impl Limiter<'_> {
    /// These descriptors, for the pods of the Service of the limiter's name.
    pub fn of(descriptors: &[String]) -> Self {
        Self { descriptors: descriptors.to_vec(), ..Self::default() }
    }
}

/// Applies a limiter.
pub async fn limiter(world: &World, namespace: &str, name: &str, of: &Limiter<'_>) -> Result<()> {
    let Limiter { selector, gateway, failure_mode_deny, descriptors } = of;
    let manifest = format!(
        "{{apiVersion: microservice.slime.io/v1alpha2, kind: SmartLimiter, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{workloadSelector: {{{selector}}}, gateway: {gateway}, failureModeDeny: {failure_mode_deny}, sets: {{_base: {{descriptor: [{}]}}}}}}}}",
        descriptors.join(", ")
    );
    world.mesh.apply(&manifest).await
}

/// How many of so many requests pass; all others must be answered with 429.
pub async fn admitted(world: &World, pod: &str, url: &str, options: &[&str], count: u64) -> Result<usize> {
    let count = count.to_string();
    let calls = world.mesh.calls(pod, &[url], &[options, &["--repeat", &count]].concat()).await?;
    let other = calls.iter().find(|call| !call.ok && call.status != Some(429));
    ensure!(other.is_none(), "a request was not limited, but failed: {other:?}");
    Ok(calls.iter().filter(|call| call.ok).count())
}

/// Has a limiter reject with a status and a body of its own, waits until a request with `header` gets them, and takes them back.
/// Requests with it must have used up their limit.
pub async fn rejects_in_its_own_words(
    world: &World,
    (namespace, name): (&str, &str),
    (pod, url, header): (&str, &str, &str),
) -> Result<()> {
    let patch = async |spec: &str| {
        let patch = format!(r#"{{"spec": {spec}}}"#);
        let change = ["patch", "smartlimiter", name, "-n", namespace, "--type=merge", "--patch", &patch];
        world.mesh.kubectl(&change).await
    };
    let refused = patch(r#"{"rejectionStatus": 418}"#).await.err().context("Envoy knows no such status")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("rejectionStatus") && refused.contains("supported values"), "{refused}");
    let body = r#"{"text": "{\"used\": \"100%\"}", "contentType": "application/json"}"#;
    let own = format!(r#"{{"rejectionStatus": 503, "rejectionBody": {body}}}"#);
    let none = r#"{"rejectionStatus": null, "rejectionBody": null}"#;
    let expected = ["503", "content-type: application/json", r#"{"used": "100%"}"#];
    for (spec, status, own) in [(&*own, "503", true), (none, "429", false)] {
        patch(spec).await?;
        until(&format!("rejected requests get {status}"), SOON, async || {
            let get = ["curl", "--silent", "--include", "--header", header, url];
            let answer = world.mesh.exec(pod, &get).await?;
            ensure!(answer.lines().next().is_some_and(|line| line.contains(status)), "{answer}");
            ensure!(expected.iter().all(|line| answer.contains(line) == own), "{answer}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until nothing is about to be said of the proxies of a namespace's limiters.
pub async fn until_programmed(world: &World, namespace: &str) -> Result<()> {
    until(&format!("the proxies of limiters in {namespace} have answered"), SOON, async || {
        let get = ["get", "smartlimiters", "--namespace", namespace, "--output=json"];
        let all: Value = serde_json::from_str(&world.mesh.kubectl(&get).await?)?;
        let all = all["items"].as_array().cloned().unwrap_or_default();
        let conditions = all.iter().filter_map(|it| it["status"]["conditions"].as_array()).flatten();
        let mut pending = conditions.filter(|it| it["type"] == "Programmed" && it["reason"] == "Pending");
        ensure!(pending.next().is_none(), "of some it is not known");
        Ok(())
    })
    .await
}

/// Waits until each HTTP filter chain of a pod's listener has just one filter of each of so many limiters, and these have so
/// many limits; connections that were open before filters came or went keep their chain until it is drained.
pub async fn until_limits(world: &World, pod: &str, listener: &str, expected: &[usize]) -> Result<()> {
    until(&format!("{pod} has {expected:?} limits at {listener}"), SOON, async || {
        let (chains, configs) = (chains(world, pod, listener).await?, configs(world, pod).await?);
        ensure!(!chains.is_empty(), "it has no HTTP filter chain");
        for filters in chains {
            let mut limits: Vec<_> = filters.iter().map(|name| limits(&configs, name)).collect();
            limits.sort_unstable();
            ensure!(limits == expected, "{filters:?} have {limits:?}");
        }
        let draining = world.mesh.stats(pod, "draining$").await?;
        ensure!(draining.values().all(|count| *count == 0), "{draining:?}");
        Ok(())
    })
    .await
}

/// What the buckets of a pod's limits hold, by the listener's first chain.
pub async fn tokens(world: &World, pod: &str, listener: &str) -> Result<Vec<u64>> {
    let (chains, configs) = (chains(world, pod, listener).await?, configs(world, pod).await?);
    let filters = chains.first().context("it has no HTTP filter chain")?;
    Ok(filters.iter().flat_map(|name| buckets(&configs, name)).collect())
}

/// How many limits a filter has.
fn limits(configs: &BTreeMap<String, Value>, filter: &str) -> usize {
    configs.get(filter).and_then(|config| config["rate_limits"].as_array()).map_or(0, Vec::len)
}

/// What the buckets of a filter hold.
fn buckets(configs: &BTreeMap<String, Value>, filter: &str) -> Vec<u64> {
    let descriptors = configs.get(filter).and_then(|config| config["descriptors"].as_array());
    let buckets = descriptors.into_iter().flatten().map(|one| &one["token_bucket"]);
    buckets.filter_map(|bucket| bucket["max_tokens"].as_u64()).collect()
}

/// The names of our filters in each HTTP filter chain for a port of the application.
async fn chains(world: &World, pod: &str, listener: &str) -> Result<Vec<Vec<String>>> {
    let all = dump(world, pod, "dynamic_listeners").await?;
    let found = all.into_iter().map(|config| config["active_state"]["listener"].clone());
    let found = found.into_iter().find(|it| it["name"] == listener);
    let chains = found.with_context(|| format!("{pod} has no listener {listener}"))?;
    let chains = chains["filter_chains"].as_array().cloned().unwrap_or_default();
    // Those of the catch-all are for ports that no Service has.
    let named =
        chains.iter().filter(|chain| !chain["name"].as_str().unwrap_or_default().contains("catchall"));
    let filters = named.filter_map(|chain| {
        chain["filters"]
            .as_array()?
            .iter()
            .find_map(|filter| filter["typed_config"]["http_filters"].as_array())
    });
    Ok(filters.map(|filters| ours(filters)).collect())
}

fn ours(filters: &[Value]) -> Vec<String> {
    let names = filters.iter().filter_map(|filter| filter["name"].as_str());
    names.filter(|name| name.starts_with("palisade/")).map(str::to_owned).collect()
}

/// The configurations of filters that came by ECDS.
async fn configs(world: &World, pod: &str) -> Result<BTreeMap<String, Value>> {
    // Envoy knows no such resource while it has none.
    let all = dump(world, pod, "ecds_filters").await.unwrap_or_default();
    let named = all.into_iter().filter_map(|config| {
        let filter = &config["ecds_filter"];
        Some((filter["name"].as_str()?.to_owned(), filter["typed_config"].clone()))
    });
    Ok(named.collect())
}

async fn dump(world: &World, pod: &str, resource: &str) -> Result<Vec<Value>> {
    let text = world.mesh.envoy(pod, &format!("/config_dump?resource={resource}")).await?;
    let dump: Value = serde_json::from_str(&text)?;
    Ok(dump["configs"].as_array().cloned().unwrap_or_default())
}
