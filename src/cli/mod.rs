//! The command line: one file a command.

mod config;
pub mod crds;
mod open;
mod rate_limit;
mod run;

use clap::{Parser, Subcommand};

/// A management plane for Istio: learns who calls whom, and gives every workload the configuration it uses.
#[derive(Debug, Parser)]
#[command(name = "palisade", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Run(Box<run::Run>),
    /// Print the custom resource definitions.
    Crds {
        /// Only this one: servicefences or smartlimiters.
        only: Option<String>,
    },
    /// Give all fenced workloads their full configuration back, and wait until they have it.
    Open(open::Open),
    /// Run the rate limit service, which counts for all proxies together.
    RateLimit(rate_limit::RateLimit),
}

impl Cli {
    /// Does what the command line asks for.
    ///
    /// # Errors
    /// If it cannot be done; the message says why and what to do.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.execute().await,
            Command::Crds { only } => crds::execute(only.as_deref()),
            Command::Open(open) => open.execute().await,
            Command::RateLimit(service) => service.execute().await,
        }
    }
}
