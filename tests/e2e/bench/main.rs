//! Figures that need a real API server or a real mesh: `bed run -- bench learning direct`, or `make bench`. `scale` and
//! `limiters` want a mesh each that nothing else was measured in.
//!
//! Nothing is asserted about time: machines are noisy. Every figure is printed with what it was measured on.

mod api_server;
mod direct;
mod http;
mod learning;
mod limiters;
mod node;
mod objects;
mod operator;
mod scale;
mod watch;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bed::mesh::Mesh;

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let mesh = Mesh::connect().await?;
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    ensure!(!wanted.is_empty(), "what is to be measured? learning, direct, scale, limiters");
    for name in wanted {
        match &*name {
            "learning" => learning::run(&mesh).await?,
            "direct" => direct::run(&mesh).await?,
            "scale" => scale::run(&mesh).await?,
            "limiters" => limiters::run(&mesh).await?,
            other => bail!("nothing is called {other}"),
        }
    }
    Ok(())
}

fn variable(name: &str, default: usize) -> Result<usize> {
    std::env::var(name).map_or(Ok(default), |value| Ok(value.parse()?))
}

fn figure(what: &str, took: Duration) {
    println!("{what:<58} {:.2} s", took.as_secs_f64());
}

/// One line of figures: the least, the middle, the 99th of a hundred, the most.
fn summarize(what: &str, unit: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let at = |share: usize| figures.get((figures.len() * share / 100).min(figures.len().saturating_sub(1)));
    let text = |figure: Option<&f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"));
    println!(
        "{what:<58} n={:<5} min {:>7}  p50 {:>7}  p99 {:>7}  max {:>7} {unit}",
        figures.len(),
        text(figures.first()),
        text(at(50)),
        text(at(99)),
        text(figures.last())
    );
}
