//! The bed itself: pods keep their gateway, whoever joins and leaves.
//!
//! Linux gives a bridge the lowest address of its ports unless it has its own. When a pod took that address
//! along, all others sent to nobody until they heard the new one, which took up to eight seconds: TCP tried
//! again, a question to DNS was lost.

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::world::World;

/// Lower than every other that a port can have.
const LOWEST: &str = "02:00:00:00:00:00";
const PORT: &str = "lowest0";

/// The case.
pub async fn run(_world: &World) -> Result<()> {
    let before = gateway().await?;
    ip(&["link", "add", PORT, "address", LOWEST, "type", "veth", "peer", "name", "lowest1"]).await?;
    let joined = join().await;
    ip(&["link", "delete", PORT]).await?;
    ensure!(joined? == before, "the gateway took a pod's address");
    ensure!(gateway().await? == before, "the gateway lost its address with a pod");
    Ok(())
}

async fn join() -> Result<String> {
    ip(&["link", "set", PORT, "master", "bed0", "up"]).await?;
    gateway().await
}

async fn gateway() -> Result<String> {
    let link = ip(&["-brief", "link", "show", "bed0"]).await?;
    Ok(link.split_whitespace().nth(2).unwrap_or_default().to_owned())
}

async fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {error}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}
