//! `/etc/resolv.conf` and `/etc/hosts` of a Pod.

use std::{fmt::Write as _, net::Ipv4Addr};

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

const CLUSTER_DNS: &str = "10.96.0.10";
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The Pod's resolver configuration by its `dnsPolicy` and `dnsConfig`. A Pod with the policy `Default` asks
/// the cluster's DNS too, without its search list: the bed has no other.
pub(super) fn resolv_conf(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut servers, mut searches, mut options) = match spec.and_then(|spec| spec.dns_policy.as_deref()) {
        Some("None") => (Vec::new(), Vec::new(), Vec::new()),
        Some("Default") => (vec![CLUSTER_DNS.to_owned()], Vec::new(), Vec::new()),
        _ => (
            vec![CLUSTER_DNS.to_owned()],
            vec![
                format!("{namespace}.svc.{CLUSTER_DOMAIN}"),
                format!("svc.{CLUSTER_DOMAIN}"),
                CLUSTER_DOMAIN.to_owned(),
            ],
            vec!["ndots:5".to_owned()],
        ),
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        servers.extend(own.nameservers.iter().flatten().cloned());
        searches.extend(own.searches.iter().flatten().cloned());
        options.extend(own_options(own));
    }
    let mut text = String::new();
    for (word, values) in [("search", &searches), ("options", &options)] {
        if !values.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{word} {}", values.join(" "));
        }
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

fn own_options(own: &PodDNSConfig) -> impl Iterator<Item = String> {
    own.options.iter().flatten().filter_map(|option| {
        let name = option.name.as_ref()?;
        Some(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")))
    })
}

/// The Pod's host names, with its `hostAliases`.
pub(super) fn hosts(pod: &Pod, ip: Ipv4Addr) -> String {
    let spec = pod.spec.as_ref();
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let name = hostname(pod);
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let _ = match subdomain {
        Some(sub) => writeln!(text, "{ip}\t{name}.{sub}.{namespace}.svc.{CLUSTER_DOMAIN}\t{name}"),
        None => writeln!(text, "{ip}\t{name}"),
    };
    for alias in spec.into_iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}\t{}", alias.ip, names.join("\t"));
    }
    text
}

/// The Pod's host name: its own choice or its name.
pub(super) fn hostname(pod: &Pod) -> &str {
    let own = pod.spec.as_ref().and_then(|spec| spec.hostname.as_deref());
    own.or(pod.metadata.name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod(spec: &serde_json::Value) -> Pod {
        let mut spec = spec.clone();
        spec["containers"] = json!([]);
        from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).unwrap()
    }

    #[test]
    fn resolvers() {
        let own = json!({"nameservers": ["1.2.3.4"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]});
        for (spec, expected) in [
            (
                json!({"dnsPolicy": "ClusterFirst"}),
                "search n.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\nnameserver 10.96.0.10\n",
            ),
            (json!({"dnsPolicy": "Default"}), "nameserver 10.96.0.10\n"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": own}),
                "search x\noptions ndots:2\nnameserver 1.2.3.4\n",
            ),
        ] {
            assert_eq!(resolv_conf(&pod(&spec)), expected);
        }
    }

    #[test]
    fn host_names() {
        let spec = json!({"hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "9.9.9.9", "hostnames": ["a", "b"]}]});
        let text = hosts(&pod(&spec), Ipv4Addr::new(10, 244, 0, 7));
        assert!(text.contains("10.244.0.7\th.s.n.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("9.9.9.9\ta\tb\n"), "{text}");
    }
}
