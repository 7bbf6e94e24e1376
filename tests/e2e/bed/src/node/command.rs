//! Short-lived programs that the node runs for itself.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// Network set-up commands end in milliseconds; one that takes this long never will.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Runs a program to its end, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started, takes too long, or fails; with what it wrote to standard error.
pub(super) async fn run(program: &str, args: &[&str], input: &str) -> Result<()> {
    let what = || format!("{program} {}", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading all of it says why on standard error.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output =
        timeout(TIME_LIMIT, child.wait_with_output()).await.with_context(what)?.with_context(what)?;
    if !output.status.success() {
        bail!("{}: {}: {}", what(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
