//! Programs that not every bed needs, installed while the bed runs.
//!
//! Nothing can be fetched inside the bed, whose network is its own. So whoever needs a program there leaves an order
//! in the bed's directory; the bed's owner, outside, installs what is ordered, or leaves word why it could not.

use std::{convert::Infallible, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::packages;
use crate::state::BedDir;

/// How often orders are looked for.
const LOOK: Duration = Duration::from_millis(200);
/// How long an installation may take, package lists included.
const LIMIT: Duration = Duration::from_mins(5);

/// Orders a program if this machine lacks it, and waits until it is there. Called inside the bed.
///
/// # Errors
/// When it cannot be installed; with what to type.
pub(super) async fn order(bed: &BedDir, program: &'static str) -> Result<PathBuf> {
    if let Some(path) = packages::find(program) {
        return Ok(path);
    }
    let (order, word) = (bed.order(program), bed.word(program));
    if !order.exists() {
        // What became of an earlier order.
        let _ = fs::remove_file(&word);
        order.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&order, "")?;
    }
    let came = tokio::time::timeout(LIMIT, async {
        while !word.exists() {
            tokio::time::sleep(LOOK).await;
        }
    });
    came.await.with_context(|| format!("{program} was not installed within {} s", LIMIT.as_secs()))?;
    let failed = fs::read_to_string(word)?;
    packages::find(program).with_context(|| failed)
}

/// Installs what is ordered. Runs outside the bed, as long as it.
pub(crate) async fn deliver(bed: BedDir) -> Infallible {
    loop {
        for program in packages::on_demand().filter(|program| bed.order(program).exists()) {
            let installed = tokio::task::spawn_blocking(|| packages::ensure_program(program)).await;
            let failed = match installed {
                Ok(Ok(_)) => String::new(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(error) => error.to_string(),
            };
            if let Err(error) = leave_word(&bed, program, &failed) {
                tracing::warn!(%error, program, "nobody can be told that it is installed");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Readers must never see half of it, nor a new order of theirs without it.
fn leave_word(bed: &BedDir, program: &str, failed: &str) -> std::io::Result<()> {
    let partial = bed.word(program).with_extension("partial");
    fs::write(&partial, failed)?;
    fs::rename(partial, bed.word(program))?;
    fs::remove_file(bed.order(program))
}
