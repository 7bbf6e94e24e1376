//! `palisade crds`: the custom resource definitions, as they are checked in and installed.

use std::io::Write;

use kube::CustomResourceExt;

use crate::api::{ServiceFence, SmartLimiter};

/// Each definition's plural, which names its file, and the definition as YAML.
///
/// # Errors
/// If they cannot be written as YAML; a test rules that out.
pub fn render() -> anyhow::Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("servicefences", serde_saphyr::to_string(&ServiceFence::crd())?),
        ("smartlimiters", serde_saphyr::to_string(&SmartLimiter::crd())?),
    ])
}

pub(super) fn execute(only: Option<&str>) -> anyhow::Result<()> {
    let chosen = render()?.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let text: Vec<_> = chosen.map(|(_, text)| text).collect();
    anyhow::ensure!(!text.is_empty(), "there is no such definition: servicefences, smartlimiters");
    Ok(std::io::stdout().write_all(text.join("---\n").as_bytes())?)
}
