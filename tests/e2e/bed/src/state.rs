//! The state directory of one bed: where everything is, and whether the bed runs.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use fs2::FileExt as _;

/// How names of temporary beds begin.
const TEMPORARY: &str = "palisade-bed-";

/// The state directory of one bed. Commands find it by the environment variable `BED_DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BedDir(PathBuf);

impl BedDir {
    /// The state directory at `path`, which need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory that `bed up` uses when none is named: `palisade-bed` among the temporary files.
    #[must_use]
    pub fn standard() -> Self {
        Self(env::temp_dir().join("palisade-bed"))
    }

    /// A new directory among the temporary files, for a bed that nobody else looks for.
    ///
    /// Deletes those of beds that were killed before they could do so themselves.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn temporary() -> Result<Self> {
        for entry in fs::read_dir(env::temp_dir())?.flatten() {
            let left = Self::new(entry.path());
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) && left.is_abandoned() {
                // Another bed may be deleting it right now.
                let _ = fs::remove_dir_all(left.path());
            }
        }
        Ok(Self::new(tempfile::Builder::new().prefix(TEMPORARY).tempdir()?.keep()))
    }

    fn is_abandoned(&self) -> bool {
        self.owner_file().exists() && self.owner().is_none() && !self.kept_file().exists()
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// The administrator's kubeconfig. Its server answers inside the bed only.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The log of one of the bed's own processes.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.0.join("logs").join(format!("{process}.log"))
    }

    /// One directory a pod: volumes, and logs of containers.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.0.join("pods")
    }

    /// Links to the programs that are useful inside the bed; first in PATH there.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// Addresses and names, in the format of `hosts(5)`, that the bed's name server knows besides the cluster's.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// istiod's chart, for whoever installs another one.
    #[must_use]
    pub fn istiod_chart(&self) -> PathBuf {
        self.0.join("istiod-chart")
    }

    /// The values with which istiod was installed.
    #[must_use]
    pub fn istiod_values(&self) -> PathBuf {
        self.0.join("istiod-values.json")
    }

    /// While this exists, the bed keeps the API server killed.
    #[must_use]
    pub fn api_server_down(&self) -> PathBuf {
        self.0.join("api-server-down")
    }

    /// While this exists, the bed's owner is asked to install a program.
    pub(crate) fn order(&self, program: &str) -> PathBuf {
        self.0.join("orders").join(program)
    }

    /// What became of that: empty, or why it is not there.
    pub(crate) fn word(&self, program: &str) -> PathBuf {
        self.0.join("orders").join(format!("{program}.word"))
    }

    /// The store's data, in memory.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.0.join("etcd")
    }

    /// Made when the mesh is up.
    #[must_use]
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Says that whoever ran the bed wants to look at what it left.
    fn kept_file(&self) -> PathBuf {
        self.0.join("kept")
    }

    fn owner_file(&self) -> PathBuf {
        self.0.join("owner.pid")
    }

    fn sandbox_file(&self) -> PathBuf {
        self.0.join("bed.pid")
    }

    /// Makes the directory ready for a new bed, and claims it while the result lives.
    ///
    /// # Errors
    /// When a bed runs there, or when the directory has files but is no bed's.
    pub fn claim(&self, logs: Logs) -> Result<Claim> {
        let used = fs::read_dir(&self.0).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(
            !used || self.lock_file().exists(),
            "{} has files that are no bed's: name an empty directory",
            self.0.display()
        );
        fs::create_dir_all(&self.0).with_context(|| format!("cannot create {}", self.0.display()))?;
        // Processes of other users find their volumes below it.
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755))?;
        let lock = fs::File::create(self.lock_file())?;
        if !locked_soon(&lock) {
            bail!("a bed is running in {}: `bed status` shows it, `bed down` stops it", self.0.display());
        }
        self.clear(logs)?;
        fs::write(self.owner_file(), std::process::id().to_string())?;
        Ok(Claim { dir: self.clone(), _lock: lock })
    }

    /// What an earlier bed left, were it ever killed before it could clean up.
    fn clear(&self, logs: Logs) -> Result<()> {
        for entry in fs::read_dir(&self.0)?.flatten() {
            let path = entry.path();
            if path == self.lock_file() || (logs == Logs::Keep && path == self.0.join("logs")) {
                continue;
            }
            if entry.file_type()?.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
        Ok(())
    }

    /// The process that owns the running bed, if one runs: end it, and the bed is gone.
    #[must_use]
    pub fn owner(&self) -> Option<i32> {
        let lock = fs::File::open(self.lock_file()).ok()?;
        // The kernel drops the lock with its owner, so a recorded process id is never a stranger's.
        if lock.try_lock_shared().is_ok() {
            return None;
        }
        read_number(&self.owner_file())
    }

    /// The first process of the running bed, as seen from outside, if a bed runs.
    #[must_use]
    pub fn sandbox(&self) -> Option<i32> {
        self.owner().and_then(|_| read_number(&self.sandbox_file()))
    }

    /// Whether a bed runs and its mesh is up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.owner().is_some() && self.ready().exists()
    }
}

/// What happens to the logs that are in a directory when it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// They are an earlier bed's: delete them.
    Delete,
    /// Whoever started this bed has opened its log already.
    Keep,
}

/// Whoever only looks whether a bed runs holds the lock for a moment: that is no reason to give up.
fn locked_soon(lock: &fs::File) -> bool {
    (0..20).any(|_| {
        let locked = lock.try_lock_exclusive().is_ok();
        if !locked {
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        locked
    })
}

/// A directory that is one bed's while this lives.
#[derive(Debug)]
pub struct Claim {
    dir: BedDir,
    _lock: fs::File,
}

impl Claim {
    /// Records the bed's first process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record_sandbox(&self, pid: i32) -> Result<()> {
        // Readers must never see half a number.
        let partial = self.dir.0.join("bed.pid.partial");
        fs::write(&partial, pid.to_string())?;
        Ok(fs::rename(partial, self.dir.sandbox_file())?)
    }

    /// Gives the directory up; deletes it unless it is to be kept.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn release(self, keep: bool) -> Result<()> {
        if keep {
            let _ = fs::remove_file(self.dir.ready());
            return Ok(fs::write(self.dir.kept_file(), "")?);
        }
        fs::remove_dir_all(&self.dir.0).with_context(|| format!("cannot delete {}", self.dir.0.display()))
    }
}

fn read_number(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_directory_cannot_be_claimed_again_until_released() {
        let folder = tempfile::tempdir().unwrap();
        let dir = BedDir::new(folder.path().join("bed"));
        let claim = dir.claim(Logs::Delete).unwrap();
        assert!(dir.claim(Logs::Delete).unwrap_err().to_string().contains("running"));
        assert_eq!(dir.owner(), i32::try_from(std::process::id()).ok());
        claim.release(false).unwrap();
        assert!(!dir.path().exists());
        assert_eq!(dir.owner(), None);
    }

    #[test]
    fn what_a_killed_bed_left_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let dir = BedDir::new(folder.path().to_path_buf());
        drop(dir.claim(Logs::Delete).unwrap());
        fs::write(dir.ready(), "").unwrap();
        assert!(!dir.is_ready());
        let _claim = dir.claim(Logs::Delete).unwrap();
        assert!(!dir.ready().exists());
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
        assert!(BedDir::new(folder.path().to_path_buf()).claim(Logs::Delete).is_err());
        assert!(folder.path().join("thesis.tex").exists());
    }
}
