//! What was written to the API server, by its own counters.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Mesh;
use crate::cli::Component;
use crate::inspect;

/// Writing requests since the API server's start, by `resource` or `resource/subresource`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes(BTreeMap<String, u64>);

impl Writes {
    /// What was written between `earlier` and this reading, kinds without a write left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let before = |resource: &str| earlier.0.get(resource).copied().unwrap_or_default();
        let growth = self.0.iter().map(|(resource, count)| (resource.clone(), count - before(resource)));
        growth.filter(|(_, count)| *count > 0).collect()
    }
}

impl Mesh {
    /// Reads the API server's counters of writing requests. Leases are left out: every component renews its own
    /// all the time.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn writes(&self) -> Result<Writes> {
        let text = inspect::metrics(&self.bed, Component::Apiserver).await?;
        let mut writes = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let label = |name: &str| series.split(&format!("{name}=\"")).nth(1)?.split('"').next();
            let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
            if !matches!(verb, "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE") || resource == "leases" {
                continue;
            }
            let name = match label("subresource").unwrap_or_default() {
                "" => resource.to_owned(),
                subresource => format!("{resource}/{subresource}"),
            };
            *writes.entry(name).or_default() += value.parse().unwrap_or(0);
        }
        Ok(Writes(writes))
    }
}
