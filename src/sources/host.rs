//! Which host a proxy means, by the names that it uses: what comes from outside is a host only if it can stand in a
//! `Sidecar` as it is.

use std::str;

use crate::graph::is_host_name;

/// The clusters that istiod makes for services: `outbound|<port>|<subset>|<host>`. All else that a proxy may
/// name (`inbound|…`, `PassthroughCluster`, `BlackHoleCluster`, nothing) is no service that was called.
///
/// In access logs over gRPC Envoy gives the cluster's own name, not the `alt_stat_name` that mesh operators can
/// choose (`outboundClusterStatName`) and that `%UPSTREAM_CLUSTER%` prints; in its metrics it gives the latter.
const OUTBOUND: &[u8] = b"outbound|";

/// Why a name is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHost {
    /// It is that of a cluster for something else.
    NotOutbound,
    /// It begins as that of a service's cluster, but is none.
    InvalidCluster,
    /// It, or the host in it, is not the name of a host in lower case.
    InvalidName,
}

/// The host of an outbound cluster.
pub(super) fn outbound_host(cluster: &[u8]) -> Result<&str, NoHost> {
    let rest = cluster.strip_prefix(OUTBOUND).ok_or(NoHost::NotOutbound)?;
    let mut parts = rest.split(|byte| *byte == b'|');
    let (Some(port), Some(_subset), Some(host), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NoHost::InvalidCluster);
    };
    if !is_port(port) {
        return Err(NoHost::InvalidCluster);
    }
    // The cluster of a ServiceEntry's wildcard has the wildcard's name.
    str::from_utf8(host).ok().filter(|host| is_host_name(host)).ok_or(NoHost::InvalidName)
}

/// The host that a label names: by its name, or by that of a cluster for it.
pub(super) fn host_or_cluster(value: &str) -> Result<&str, NoHost> {
    if value.contains('|') {
        return outbound_host(value.as_bytes());
    }
    Some(value).filter(|value| is_host_name(value)).ok_or(NoHost::InvalidName)
}

fn is_port(text: &[u8]) -> bool {
    !text.is_empty() && text.len() <= 5 && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_a_host_or_a_cluster_for_one() {
        let cases = [
            ("reviews.shop.svc.cluster.local", Ok("reviews.shop.svc.cluster.local")),
            ("outbound|9080||reviews.shop.svc.cluster.local", Ok("reviews.shop.svc.cluster.local")),
            ("outbound|9080|v1|www.example.com", Ok("www.example.com")),
            ("inbound|9080||", Err(NoHost::NotOutbound)),
            ("outbound|http||reviews", Err(NoHost::InvalidCluster)),
            ("outbound|80||*.example.com", Ok("*.example.com")),
            ("outbound|80||a.*.example.com", Err(NoHost::InvalidName)),
            ("PassthroughCluster", Err(NoHost::InvalidName)),
            ("10.96.0.1", Err(NoHost::InvalidName)),
            ("a.b:80", Err(NoHost::InvalidName)),
            ("", Err(NoHost::InvalidName)),
        ];
        for (value, expected) in cases {
            assert_eq!(host_or_cluster(value), expected, "{value}");
        }
    }
}
