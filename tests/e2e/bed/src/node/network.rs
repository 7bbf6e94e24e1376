//! Pod addresses and network namespaces.
//!
//! Every pod has a namespace with one end of a veth pair; the other end is a port of the bridge `bed0`.
//! A pod's address is a /32 and the bridge's address its only neighbour: pods reach each other through the
//! root namespace's routing, where kube-proxy's rules see both directions of a connection to a cluster IP.
//! Were pods neighbours on the bridge, answers would bypass the rule that translates them back.

use std::{
    collections::HashSet,
    fmt::Write as _,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use super::{command, user_namespace::UserNamespace};

/// The bridge's own address: pods' gateway, and the Node's address.
pub(super) const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const BRIDGE: &str = "bed0";
const FIRST: u32 = u32::from_be_bytes([10, 244, 0, 2]);
const LAST: u32 = u32::from_be_bytes([10, 244, 255, 254]);

/// Gives out pod addresses, each again only after all others.
#[derive(Debug)]
pub(super) struct Addresses {
    state: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    next: u32,
    taken: HashSet<u32>,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(Pool { next: FIRST, taken: HashSet::new() }) }
    }

    /// A free address, held until the lease is dropped.
    ///
    /// # Errors
    /// When every address is taken.
    pub(super) fn lease(self: &Arc<Self>) -> Result<Lease> {
        let mut pool = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in FIRST..=LAST {
            let candidate = pool.next;
            pool.next = if candidate == LAST { FIRST } else { candidate + 1 };
            if pool.taken.insert(candidate) {
                return Ok(Lease { addresses: Arc::clone(self), address: candidate });
            }
        }
        anyhow::bail!("all pod addresses are taken")
    }
}

/// A pod's hold on its address.
#[derive(Debug)]
pub(super) struct Lease {
    addresses: Arc<Addresses>,
    address: u32,
}

impl Lease {
    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut pool = self.addresses.state.lock().unwrap_or_else(PoisonError::into_inner);
        pool.taken.remove(&self.address);
    }
}

/// One pod's network namespace, named `pod-<uid>`.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    name: String,
    link: String,
    users: UserNamespace,
}

impl Namespace {
    pub(super) fn of(uid: &str, address: Ipv4Addr) -> Self {
        let id: String = uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        Self { name: format!("pod-{uid}"), link: format!("v{id}"), users: UserNamespace::of(address) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file that `nsenter --net` takes.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The namespace for the pod's processes that are not root, if the kernel allows one.
    pub(super) fn users(&self) -> Option<&UserNamespace> {
        Some(&self.users).filter(|users| users.path().exists())
    }

    /// Makes the namespace with its address, default route and the Pod's own `sysctls` (`net.*` only).
    ///
    /// # Errors
    /// When a step fails; what was made by then is removed.
    pub(super) async fn create(&self, address: Ipv4Addr, sysctls: &[(String, String)]) -> Result<()> {
        let made = self.try_create(address, sysctls).await;
        if made.is_err() {
            self.delete().await;
        }
        made.with_context(|| format!("network namespace {}", self.name))
    }

    async fn try_create(&self, address: Ipv4Addr, sysctls: &[(String, String)]) -> Result<()> {
        let Self { name, link, .. } = self;
        if let Err(error) = self.users.create().await {
            tracing::warn!(error = format!("{error:#}"), "sidecars share one limit of inotify instances");
            self.users.delete().await;
        }
        command::run("ip", &["netns", "add", name], "").await?;
        // Where bridges pass their packets through kube-proxy's rules, a pod that calls its own Service gets
        // its packets back by the port that they came from.
        let outside = format!(
            "link add {link} type veth peer name eth0 netns {name}\nlink set {link} master {BRIDGE} up\n\
             link set {link} type bridge_slave hairpin on\n"
        );
        command::run("ip", &["-batch", "-"], &outside).await?;
        let inside = format!(
            "link set lo up\nlink set eth0 up\naddr add {address}/32 dev eth0\n\
             route add {HOST_ADDRESS} dev eth0 scope link src {address}\nroute add default via {HOST_ADDRESS}\n"
        );
        command::run("ip", &["-n", name, "-batch", "-"], &inside).await?;
        // Container runtimes let any user bind low ports.
        let mut script = String::from("echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start\n");
        for (key, value) in
            sysctls.iter().filter(|(key, value)| is_network_sysctl(key) && !value.contains('\''))
        {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "echo '{value}' >/proc/sys/{}", key.replace('.', "/"));
        }
        let net = format!("--net={}", self.path().display());
        command::run("nsenter", &[&net, "/bin/sh", "-eu"], &script).await
    }

    /// Removes the namespace and its link; does not mind what is missing.
    pub(super) async fn delete(&self) {
        self.users.delete().await;
        // The link's end in the namespace would live as long as the last process there.
        let _ = command::run("ip", &["link", "delete", &self.link], "").await;
        if let Err(error) = command::run("ip", &["netns", "delete", &self.name], "").await {
            tracing::debug!(namespace = self.name, %error, "could not remove the network namespace");
        }
    }
}

fn is_network_sysctl(key: &str) -> bool {
    key.starts_with("net.") && key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_late() {
        let addresses = Arc::new(Addresses::new());
        let first = addresses.lease().unwrap();
        assert_eq!(first.address(), Ipv4Addr::new(10, 244, 0, 2));
        drop(first);
        assert_eq!(addresses.lease().unwrap().address(), Ipv4Addr::new(10, 244, 0, 3));
    }

    #[test]
    fn names_fit_the_kernel() {
        let namespace = Namespace::of("6f1cbf0c-58b0-4ad6-9e4b-0e0f8f0a4c1e", HOST_ADDRESS);
        assert_eq!(namespace.name(), "pod-6f1cbf0c-58b0-4ad6-9e4b-0e0f8f0a4c1e");
        assert_eq!(namespace.link, "v6f1cbf0c58b0");
        assert!(namespace.link.len() < 16);
    }
}
