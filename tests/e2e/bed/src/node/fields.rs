//! The downward API: what a Pod may learn of itself, as values and as files.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{network::HOST_ADDRESS, quantity};

/// The value of a `fieldRef` path.
///
/// # Errors
/// When the path is none that Kubernetes allows.
pub(super) fn field(pod: &Pod, ip: Ipv4Addr, path: &str) -> Result<String> {
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => bail!("unsupported fieldPath {path}"),
        };
        return Ok(values.as_ref().and_then(|values| values.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let value = match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "metadata.labels" => Some(quoted_lines(pod.metadata.labels.as_ref())),
        "metadata.annotations" => Some(quoted_lines(pod.metadata.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" | "status.hostIPs" => Some(HOST_ADDRESS.to_string()),
        "status.podIP" | "status.podIPs" => Some(ip.to_string()),
        _ => bail!("unsupported fieldPath {path}"),
    };
    Ok(value.unwrap_or_default())
}

/// Splits `metadata.labels['app']` into its map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, sorted, with the value quoted as Go's `strconv.Quote` does: the format of
/// downward API files, which pilot-agent parses.
fn quoted_lines(values: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        values.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value))).collect();
    lines.join("\n")
}

fn go_quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef` for `container`. A limit that is not set is what the machine has.
///
/// # Errors
/// When the resource is unknown or its quantity cannot be read.
pub(super) fn resource(container: &Container, selector: &ResourceFieldSelector) -> Result<String> {
    let (kind, name) = selector.resource.split_once('.').context("a resource is limits.x or requests.x")?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let find = |map: Option<&BTreeMap<String, Quantity>>| map.and_then(|m| m.get(name)).map(|q| q.0.clone());
    let declared = match kind {
        "limits" => find(limits).or_else(|| machine(name)),
        "requests" => find(requests).or_else(|| find(limits)).or_else(|| Some("0".to_owned())),
        _ => bail!("unknown resource {}", selector.resource),
    };
    let declared = declared.with_context(|| format!("unknown resource {}", selector.resource))?;
    let divisor = selector.divisor.as_ref().map(|divisor| divisor.0.as_str());
    Ok(quantity::divided(&declared, divisor)?.to_string())
}

/// What this machine has: programs size their thread pools and heaps by it, so the Node's generous
/// capacity would be the wrong answer.
fn machine(resource: &str) -> Option<String> {
    match resource {
        "cpu" => Some(std::thread::available_parallelism().map_or(1, usize::from).to_string()),
        "memory" => Some(total_memory().unwrap_or_else(|| "4Gi".to_owned())),
        "ephemeral-storage" => Some("10Gi".to_owned()),
        _ => None,
    }
}

fn total_memory() -> Option<String> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(format!("{}Ki", line.trim().strip_suffix(" kB")?))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod() -> Pod {
        from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "x\"y\n"}},
            "spec": {"containers": [], "nodeName": "bed", "serviceAccountName": "sa"},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_read() {
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "n"),
            ("metadata.uid", "u"),
            ("metadata.labels", "a=\"x\\\"y\\n\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("metadata.annotations", ""),
            ("spec.nodeName", "bed"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "10.244.0.9"),
            ("status.hostIP", "10.244.0.1"),
        ] {
            assert_eq!(field(&pod(), Ipv4Addr::new(10, 244, 0, 9), path).unwrap(), expected, "{path}");
        }
        assert!(field(&pod(), Ipv4Addr::LOCALHOST, "spec.volumes").is_err());
    }

    #[test]
    fn resources_fall_back() {
        let container: Container = from_value(json!({
            "name": "c",
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
        }))
        .unwrap();
        for (resource_name, divisor, expected) in [
            ("limits.cpu", "0", "2"),
            ("limits.memory", "1Mi", "1024"),
            ("requests.cpu", "1m", "100"),
            ("requests.memory", "0", "1073741824"),
        ] {
            let selector: ResourceFieldSelector =
                from_value(json!({"resource": resource_name, "divisor": divisor})).unwrap();
            assert_eq!(resource(&container, &selector).unwrap(), expected, "{resource_name}");
        }
    }
}
