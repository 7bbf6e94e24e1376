//! The documents list what there is.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The first group of each match.
fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_reason_of_a_condition_is_documented() {
    let types = read("src/api/mod.rs");
    let (_, reasons) = types.split_once("pub mod reasons").unwrap();
    let (reasons, _) = reasons.split_once("\n}").unwrap();
    let stated = found(r#"pub const [A-Z_]+: &str =\s*"(\w+)""#, reasons);
    assert!(stated.len() > 30, "reasons have moved: {stated:?}");
    let documents = ["docs/servicefence.md", "docs/limiter.md"].map(read).join("\n");
    // A row has the reason, or a few, and the status in its first two cells.
    let rows = documents.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| {
        let (status, rest) = row.split_once(" | ")?;
        Some(format!("{status} {}", rest.split_once(" | ")?.0))
    });
    let documented = found(r"`(\w+)`", &rows.collect::<Vec<_>>().join("\n"));
    let missing: Vec<_> = stated.difference(&documented).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
