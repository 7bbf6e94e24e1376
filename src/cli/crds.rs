//! `palisade crds`: the custom resource definitions, as they are checked in and installed.

use std::io::Write;

use kube::CustomResourceExt;

use crate::api::ServiceFence;

/// The definitions as YAML.
///
/// # Errors
/// If they cannot be written as YAML; a test rules that out.
pub fn render() -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(&ServiceFence::crd())?)
}

pub(super) fn execute() -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(render()?.as_bytes())?)
}
