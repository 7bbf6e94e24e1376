//! Istio, installed with Helm from its module's own charts.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{state::BedDir, tools::Tools};

const NAMESPACE: &str = "istio-system";

/// What may differ from Istio's defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long Envoy drains old listeners, as Istio writes durations; Istio's default is "45s".
    pub drain: String,
    /// A YAML file that is merged into the mesh configuration.
    pub mesh_config: Option<PathBuf>,
}

/// Installs the charts `base` and `istiod`; does not wait for istiod.
pub(super) async fn install(client: &Client, tools: &Tools, bed: &BedDir, options: &Options) -> Result<()> {
    namespace(client).await?;
    let charts = tools.istio_source().join("manifests/charts");
    let (chart, values) = (bed.istiod_chart(), bed.istiod_values());
    symlink(charts.join("istio-control/istio-discovery"), &chart)?;
    fs::write(&values, values_of(options)?.to_string())?;
    let base = helm(tools, bed, "istio-base", &charts.join("base"));
    let mut istiod = helm(tools, bed, "istiod", &chart);
    istiod.arg("--values").arg(&values);
    // They do not need one another to be installed, only to work.
    tokio::try_join!(super::run(base, bed), super::run(istiod, bed)).context("cannot install Istio")?;
    Ok(())
}

async fn namespace(client: &Client) -> Result<()> {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).context("a malformed Namespace")?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(())
}

fn helm(tools: &Tools, bed: &BedDir, release: &str, chart: &Path) -> Command {
    let home = bed.path().join("helm");
    let mut helm = Command::new(tools.helm());
    helm.args(["install", release, "--namespace", NAMESPACE]).arg(chart);
    // The user's own repositories and plugins are not the bed's business.
    helm.env("HELM_CACHE_HOME", &home).env("HELM_CONFIG_HOME", &home).env("HELM_DATA_HOME", &home);
    helm
}

fn values_of(options: &Options) -> Result<Value> {
    Ok(json!({
        "autoscaleEnabled": false,
        "env": {
            // Upstream Envoy lacks the filters that these would configure.
            "PILOT_ENABLE_ALPN_FILTER": "false",
            "PILOT_ENABLE_METADATA_EXCHANGE": "false",
            // As docs/install.md asks for.
            "DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES": "palisade-system",
        },
        "telemetry": {"enabled": false},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "meshConfig": mesh_config(options)?,
        "global": {
            "hub": "istio",
            "tag": "bed",
            "defaultPodDisruptionBudget": {"enabled": false},
            "proxy": {"resources": {
                "requests": {"cpu": "1m", "memory": "16Mi"},
                "limits": {"cpu": "2000m", "memory": "1024Mi"},
            }},
        },
    }))
}

fn mesh_config(options: &Options) -> Result<Value> {
    let mut config = json!({
        "accessLogFile": "",
        "enablePrometheusMerge": true,
        "defaultProviders": {"metrics": [], "tracing": [], "accessLogging": []},
        "defaultConfig": {"drainDuration": options.drain},
    });
    if let Some(file) = &options.mesh_config {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let theirs = serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is no YAML mapping", file.display()))?;
        merge(&mut config, theirs);
    }
    Ok(config)
}

/// Lays `over` over `base`: mappings key by key, everything else as a whole.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Whether istiod's webhook answers through its Service: asks for a Pod that is not kept.
pub(super) async fn injects(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "bed-injection", "labels": {"sidecar.istio.io/inject": "true"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }))?;
    let pod = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await?;
    let spec = pod.spec.unwrap_or_default();
    let sidecar =
        spec.init_containers.iter().flatten().chain(&spec.containers).any(|c| c.name == "istio-proxy");
    ensure!(sidecar, "a Pod that asks for a sidecar gets none");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_config_is_laid_over_the_beds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "defaultConfig: {concurrency: 1}\naccessLogFile: /dev/stdout\n").unwrap();
        let options = Options { drain: "5s".into(), mesh_config: Some(file.path().to_path_buf()) };
        let config = mesh_config(&options).unwrap();
        assert_eq!(config["defaultConfig"], json!({"drainDuration": "5s", "concurrency": 1}));
        assert_eq!(config["accessLogFile"], "/dev/stdout");
    }
}
