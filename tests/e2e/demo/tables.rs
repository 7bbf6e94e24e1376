//! Figures in rows and columns.

use std::fmt::Display;

use console::style;

use crate::envoy::Figures;
use crate::screen::{ratio, size, thousands};

const HEADS: [&str; 6] = ["clusters", "endpoints", "listeners", "routes", "config", "memory"];
const NAME: usize = 16;
const COLUMN: usize = 11;

/// A row for each pod.
pub fn now(rows: &[(String, Figures)]) {
    header();
    for (name, figures) in rows {
        line(name, &cells(*figures));
    }
    println!();
}

/// Three rows for each pod: before, after, and how many times less.
pub fn before_and_after(rows: &[(String, Figures, Figures)]) {
    header();
    for (name, before, after) in rows {
        line(name, &cells(*before));
        line("  now", &cells(*after));
        let ratios = before.all().into_iter().zip(after.all()).map(|(before, after)| ratio(before, after));
        let text = right(ratios);
        println!("   {}", style(format!("{:NAME$}{text}", "  less")).green());
    }
    println!();
}

fn header() {
    let text = right(HEADS);
    println!("\n   {}", style(format!("{:NAME$}{text}", "")).dim());
}

fn line(name: &str, cells: &[String; 6]) {
    println!("   {}{}", style(format!("{name:NAME$}")).bold(), right(cells));
}

/// Cells in columns, flush right.
fn right<T: Display>(cells: impl IntoIterator<Item = T>) -> String {
    cells.into_iter().fold(String::new(), |line, cell| line + &format!("{cell:>COLUMN$}"))
}

fn cells(figures: Figures) -> [String; 6] {
    let [clusters, endpoints, listeners, routes, bytes, memory] = figures.all();
    let [clusters, endpoints, listeners, routes] = [clusters, endpoints, listeners, routes].map(thousands);
    [clusters, endpoints, listeners, routes, size(bytes), size(memory)]
}
