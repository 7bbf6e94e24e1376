//! A cache of built tools in which an entry is either whole or absent.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use fs2::FileExt as _;
use sha2::{Digest as _, Sha256};

use crate::progress::Step;

/// Names of unfinished entries begin so; whoever holds the lock may delete them.
const PARTIAL: &str = ".partial-";

/// The cache's folder.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `$PALISADE_CACHE`, else `palisade` in the user's cache folder.
    pub(super) fn open() -> Result<Self> {
        let root = folder()?.join("tools");
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot create the tool cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder of the entry `name` made from `inputs`, which `make` fills if there is none yet.
    ///
    /// `make` gets an empty folder that becomes the entry only when it succeeds.
    pub(super) fn entry(
        &self,
        name: &str,
        inputs: &[&[u8]],
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.root.join(format!("{name}-{}", key(inputs)));
        if entry.is_dir() {
            return Ok(entry);
        }
        let _lock = self.lock()?;
        if !entry.is_dir() {
            self.sweep()?;
            let partial = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.root)?;
            make(partial.path())?;
            // Renaming a folder that TempDir still owned would let a crash in between delete it.
            let path = partial.keep();
            fs::rename(&path, &entry).with_context(|| format!("cannot keep {}", entry.display()))?;
        }
        Ok(entry)
    }

    /// Two runs at once would build everything twice, so the second one waits.
    fn lock(&self) -> Result<fs::File> {
        let file = fs::File::create(self.root.join("lock"))?;
        if file.try_lock_exclusive().is_err() {
            let step = Step::start("another run is building tools; waiting for it");
            file.lock_exclusive()?;
            step.done();
        }
        Ok(file)
    }

    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn folder() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PALISADE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("palisade")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/palisade")))
        .ok_or_else(|| anyhow!("no folder for the tool cache: set PALISADE_CACHE"))
}

/// The first 64 bits of the inputs' hash: enough to tell versions apart, short enough to read.
fn key(inputs: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    hash.finalize().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_leaves_no_entry() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache { root: root.path().to_path_buf() };
        let failed = cache.entry("tool", &[b"v1"], |folder| {
            fs::write(folder.join("tool"), "half")?;
            Err(anyhow!("the build broke"))
        });
        assert!(failed.is_err());
        let made =
            cache.entry("tool", &[b"v1"], |folder| Ok(fs::write(folder.join("tool"), "whole")?)).unwrap();
        assert_eq!(fs::read_to_string(made.join("tool")).unwrap(), "whole");
    }

    #[test]
    fn an_entry_is_made_once_for_the_same_inputs() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache { root: root.path().to_path_buf() };
        let first = cache.entry("tool", &[b"v1"], |_| Ok(())).unwrap();
        let second = cache.entry("tool", &[b"v1"], |_| Err(anyhow!("built twice"))).unwrap();
        let other = cache.entry("tool", &[b"v2"], |_| Ok(())).unwrap();
        assert_eq!(first, second);
        assert_ne!(first, other);
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache { root: root.path().to_path_buf() };
        let left = root.path().join(format!("{PARTIAL}abc"));
        fs::create_dir(&left).unwrap();
        cache.entry("tool", &[b"v1"], |_| Ok(())).unwrap();
        assert!(!left.exists());
    }
}
