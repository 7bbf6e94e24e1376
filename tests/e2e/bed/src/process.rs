//! Processes that the bed starts: each has a log and is stopped with whoever holds it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// How much of a log an error shows.
const TAIL_LINES: usize = 15;

/// A running process with a log file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    ///
    /// It gets a process group of its own, so that Ctrl-C on the terminal reaches only the bed, which then
    /// stops its processes in order.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_path_buf(), child })
    }

    /// The file with the process's outputs.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it was started as.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, until the process has been waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks the process to end, and kills it after `grace`.
    ///
    /// # Errors
    /// When the operating system refuses to signal or to wait.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if let Some(id) = self.id() {
            let id = Pid::from_raw(i32::try_from(id)?);
            kill(id, Signal::SIGTERM).with_context(|| format!("cannot stop {}", self.name))?;
        }
        if let Ok(status) = tokio::time::timeout(grace, self.child.wait()).await {
            return Ok(status?);
        }
        self.child.kill().await?;
        Ok(self.child.wait().await?)
    }

    /// Kills the process, which gets no chance to put anything in order.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// Waits for an end that nobody wanted, and tells it with the end of the log.
    pub async fn failure(&mut self) -> Error {
        let end = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow!("{} ended ({end}); {}", self.name, tail(&self.log))
    }
}

/// The last lines of a log file, with its path, for an error message.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    format!("the end of {}:\n{}", log.display(), last_lines(&text, TAIL_LINES))
}

/// The last `count` lines of a text.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn an_unwanted_end_is_told_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/p.log");
        let mut process = Process::start("p", shell("echo before; echo why >&2; exit 3"), &log).unwrap();
        let error = process.failure().await.to_string();
        assert!(error.contains("exit status: 3") && error.contains("before\nwhy"), "{error}");
    }

    #[tokio::test]
    async fn one_that_ignores_the_request_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("p.log");
        let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let mut process = Process::start("p", shell(script), &log).unwrap();
        crate::wait::until("ready", Duration::from_secs(10), async || {
            fs::read_to_string(&log)?.contains("ready").then_some(()).context("not yet")
        })
        .await
        .unwrap();
        let status = process.stop(Duration::from_millis(100)).await.unwrap();
        assert!(!status.success());
    }

    #[test]
    fn last_lines_of_short_texts() {
        assert_eq!(last_lines("", 3), "");
        assert_eq!(last_lines("a\nb", 3), "a\nb");
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
    }
}
