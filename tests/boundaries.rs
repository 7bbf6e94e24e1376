//! Deciding is pure: the modules that decide know no I/O, no clock and no environment.

#![allow(clippy::unwrap_used, reason = "Clippy's own exception misses what test functions call")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PURE: [&str; 3] = ["src/graph", "src/fence", "src/limiter"];
const IMPURE: [&str; 15] = [
    "tokio",
    "tonic",
    "axum",
    "futures",
    "async ",
    ".await",
    "kube::Client",
    "kube::Api",
    "kube::runtime",
    "std::fs",
    "std::net::Tcp",
    "std::env",
    "::now(",
    "Instant",
    "crate::controllers",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The rooms of the crate, each with those whose words it knows. Data flows one way, and so do names.
const ROOMS: [(&str, &[&str]); 9] = [
    ("api", &[]),
    ("istio", &[]),
    ("graph", &["api", "istio"]),
    ("fence", &["api", "istio", "graph"]),
    ("limiter", &["api", "istio", "graph", "fence"]),
    ("server", &[]),
    ("rate_limit", &["limiter", "server"]),
    ("sources", &["api", "graph", "limiter", "server"]),
    ("controllers", &["api", "istio", "graph", "fence", "limiter", "server", "sources"]),
];

#[test]
fn no_module_knows_those_that_come_after_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = fs::read_dir(root.join("src")).unwrap().map(|entry| entry.unwrap().path());
    let rooms: BTreeSet<_> = folders.filter(|path| path.is_dir()).collect();
    let listed: BTreeSet<_> =
        ROOMS.iter().map(|(room, _)| *room).chain(["cli"]).map(|room| root.join("src").join(room)).collect();
    assert_eq!(rooms, listed);
    for (room, known) in ROOMS {
        let files = sources(&root.join("src").join(room));
        assert!(!files.is_empty(), "{room} has moved");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let others = ROOMS.iter().map(|(other, _)| *other).chain(["cli"]);
            assert!(!text.contains("crate::{"), "{}: one import for each room", file.display());
            let unknown = others.filter(|other| *other != room && !known.contains(other));
            let found: Vec<_> = unknown.filter(|other| text.contains(&format!("crate::{other}"))).collect();
            assert!(found.is_empty(), "{} knows of {found:?}", file.display());
        }
    }
}

#[test]
fn modules_that_decide_are_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = PURE.iter().flat_map(|folder| sources(&root.join(folder))).collect();
    assert!(files.len() > 8, "the pure modules have moved: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            let found = IMPURE.iter().find(|word| line.contains(*word));
            assert!(found.is_none(), "{}: {found:?} in line {number}: {line}", file.display());
        }
    }
}
