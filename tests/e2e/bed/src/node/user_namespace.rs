//! User namespaces, for the sake of one number.
//!
//! The kernel counts inotify instances by user, 128 for each by default, and a sidecar takes five: all sidecars
//! have the user 1337, so the 26th would not start. The count of a user namespace falls on the user who made it.
//! So every pod gets one, made by a user of its own, in which all users are who they are outside. Only processes
//! that are not root run in it: root would have no power over the pod's network there.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    fs,
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::timeout,
};

use super::command;

const FOLDER: &str = "/run/bed-users";
/// Far above any user of the machine or of a container.
const FIRST_MAKER: u32 = 1_000_000;
/// Every user and group stands for itself.
const IDENTITY: &str = "0 0 4294967295";
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A pod's user namespace, kept by a mount until it is deleted.
#[derive(Clone, Debug)]
pub(super) struct UserNamespace {
    path: PathBuf,
    maker: u32,
}

impl UserNamespace {
    /// The user namespace of the pod with this address.
    pub(super) fn of(address: Ipv4Addr) -> Self {
        let [.., third, fourth] = address.octets();
        let maker = FIRST_MAKER + u32::from(third) * 256 + u32::from(fourth);
        Self { path: Path::new(FOLDER).join(address.to_string()), maker }
    }

    /// The file that `nsenter --user` takes.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn create(&self) -> Result<()> {
        fs::create_dir_all(FOLDER).await?;
        fs::write(&self.path, "").await?;
        let mut holder = self.hold()?;
        let kept = timeout(TIME_LIMIT, self.keep(&mut holder)).await.context("no user namespace in time")?;
        // At the end of its input the holder ends.
        drop(holder.stdin.take());
        let _ = holder.wait().await;
        kept.context("make a user namespace")
    }

    /// Starts a process in a new namespace that says so, and then waits for the end of its input.
    fn hold(&self) -> Result<Child> {
        let (user, group) = (format!("--reuid={}", self.maker), format!("--regid={}", self.maker));
        Command::new("setpriv")
            .args([&user, &group, "--clear-groups", "--inh-caps=+sys_admin", "--ambient-caps=+sys_admin"])
            .args(["unshare", "--user", "--", "/bin/sh", "-c", "echo; read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start setpriv")
    }

    async fn keep(&self, holder: &mut Child) -> Result<()> {
        let mut stdout = holder.stdout.take().context("setpriv has no output")?;
        ensure!(stdout.read(&mut [0]).await? == 1, "unshare failed");
        let process = PathBuf::from("/proc").join(holder.id().context("unshare ended")?.to_string());
        for map in ["uid_map", "gid_map"] {
            fs::write(process.join(map), IDENTITY).await.context(map)?;
        }
        let (from, to) = (process.join("ns/user"), &self.path);
        command::run("mount", &["--bind", &from.to_string_lossy(), &to.to_string_lossy()], "").await
    }

    /// Lets go of the namespace; does not mind when it is missing.
    pub(super) async fn delete(&self) {
        let _ = command::run("umount", &["--lazy", &self.path.to_string_lossy()], "").await;
        let _ = fs::remove_file(&self.path).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_has_a_maker_of_its_own() {
        let namespace = UserNamespace::of(Ipv4Addr::new(10, 244, 1, 2));
        assert_eq!(namespace.maker, 1_000_258);
        assert_eq!(namespace.path(), Path::new("/run/bed-users/10.244.1.2"));
    }
}
