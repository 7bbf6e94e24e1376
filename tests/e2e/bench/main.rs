//! Figures that need a real API server or a real mesh: `bed run -- bench [learning] [direct] [scale]`, or `make bench`.
//!
//! Nothing is asserted about time: machines are noisy. Every figure is printed with what it was measured on.

mod direct;
mod learning;
mod node;
mod operator;
mod scale;

use anyhow::Result;
use bed::mesh::Mesh;

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let mesh = Mesh::connect().await?;
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("learning") {
        learning::run(&mesh).await?;
    }
    if is_wanted("direct") {
        direct::run(&mesh).await?;
    }
    if is_wanted("scale") {
        scale::run(&mesh).await?;
    }
    Ok(())
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
