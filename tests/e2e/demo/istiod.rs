//! What istiod has to do, from its own metrics.

use std::time::Duration;

use anyhow::{Result, ensure};
use bed::cli::Component;
use bed::mesh::Mesh;
use bed::wait::until;

use crate::screen::{size, thousands};
use crate::setup::SOON;

/// Longer than istiod waits for more changes before it pushes (100 ms).
const QUIET: Duration = Duration::from_millis(600);

/// istiod's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pushes {
    /// Pushes of one type of configuration to one proxy (`pilot_xds_pushes`).
    sent: f64,
    /// Their bytes (`pilot_xds_config_size_bytes`).
    bytes: f64,
    /// Changes that were brought to one proxy, and the seconds from the change to its last push
    /// (`pilot_proxy_convergence_time`).
    converged: f64,
    seconds: f64,
}

impl Pushes {
    /// Reads them, once istiod has nothing more to push.
    pub async fn read(mesh: &Mesh) -> Result<Self> {
        until("istiod is at rest", SOON, async || {
            let first = Self::now(mesh).await?;
            tokio::time::sleep(QUIET).await;
            let second = Self::now(mesh).await?;
            ensure!(first == second, "it pushes");
            Ok(second)
        })
        .await
    }

    async fn now(mesh: &Mesh) -> Result<Self> {
        let metric = async |name: &str| mesh.metric(Component::Istiod, name, &[]).await;
        Ok(Self {
            sent: metric("pilot_xds_pushes").await?,
            bytes: metric("pilot_xds_config_size_bytes_sum").await?,
            converged: metric("pilot_proxy_convergence_time_count").await?,
            seconds: metric("pilot_proxy_convergence_time_sum").await?,
        })
    }

    /// What was added since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            bytes: self.bytes - earlier.bytes,
            converged: self.converged - earlier.converged,
            seconds: self.seconds - earlier.seconds,
        }
    }

    /// Bytes pushed.
    pub fn bytes(self) -> u64 {
        whole(self.bytes)
    }

    /// Pushes.
    pub fn pushes(self) -> u64 {
        whole(self.sent)
    }

    /// In words.
    pub fn describe(self) -> String {
        let mean = if self.converged > 0.0 { self.seconds / self.converged } else { 0.0 };
        let (pushes, bytes) = (thousands(self.pushes()), size(self.bytes()));
        format!("{pushes} pushes, {bytes}; {:.0} ms until a proxy had it, on average", mean * 1000.0)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Counters: whole, and never negative.
fn whole(counter: f64) -> u64 {
    counter as u64
}
