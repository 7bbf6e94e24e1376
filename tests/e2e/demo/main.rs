//! A demonstration on a real mesh: `bed run --drain 5s -- demo`, or `make demo`.
//!
//! Bookinfo and 1,000 more services; fences on; first calls, which teach; later calls, which go straight; and
//! what every Envoy holds before and after. All figures are read from the Envoys and istiod. When something
//! does not come out as it should, the demo says so and fails.

mod crowd;
mod envoy;
mod fences;
mod istiod;
mod pages;
mod screen;
mod setup;
mod story;
mod tables;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use bed::mesh::Mesh;
use bed::tools::Tools;

fn main() -> ExitCode {
    let began = Instant::now();
    match run() {
        Ok(()) => {
            println!(
                "\n   All of it took {}. Everything is taken down now.\n",
                screen::seconds(began.elapsed())
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen::failed(&error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let tools = Tools::ensure()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mesh = Mesh::connect().await?;
        let told = story::tell(&mesh, tools.istio_source()).await;
        if told.is_err() {
            screen::quote(&setup::unready(&mesh).await.unwrap_or_default());
        }
        told
    })
}
