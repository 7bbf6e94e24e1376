//! The `palisade` command.

use clap::Parser;
use palisade::cli::Cli;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Cli::parse().execute().await
}
