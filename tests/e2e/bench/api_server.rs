//! What the API server counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bed::cli::Component;
use bed::mesh::{Mesh, Writes};

/// No write for so long means that there is nothing left to do: longer than a drain.
const QUIET: Duration = Duration::from_secs(5);
/// How long the writes may take to end.
const LIMIT: Duration = Duration::from_mins(4);

/// A histogram: the sum, in seconds, and the count.
pub(crate) async fn histogram(mesh: &Mesh, name: &str, labels: &[&str]) -> Result<(f64, f64)> {
    let of = async |suffix| mesh.metric(Component::Apiserver, &format!("{name}_{suffix}"), labels).await;
    Ok((of("sum").await?, of("count").await?))
}

/// Waits until hardly anything is written of the kinds that count.
pub(crate) async fn until_quiet(mesh: &Mesh, counts: impl Fn(&str) -> bool) -> Result<()> {
    let started = Instant::now();
    loop {
        let before = mesh.writes().await?;
        tokio::time::sleep(QUIET).await;
        let written = mesh.writes().await?.since(&before);
        if !written.iter().any(|(kind, count)| counts(kind) && *count > 20) {
            return Ok(());
        }
        ensure!(started.elapsed() < LIMIT, "there is no end of writes: {written:?}");
    }
}

/// What was written since, of the kinds that count.
pub(crate) async fn written(
    mesh: &Mesh,
    before: &Writes,
    counts: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, u64>> {
    let mut written = mesh.writes().await?.since(before);
    written.retain(|kind, _| counts(kind));
    Ok(written)
}
