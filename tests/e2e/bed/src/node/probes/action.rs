//! One probe of one container.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{net::TcpStream, time::timeout};

use super::{grpc, http};
use crate::node::{image::Program, launch::Entry};

/// What is probed.
pub(in crate::node) struct Target<'a> {
    pub(in crate::node) ip: Ipv4Addr,
    pub(in crate::node) container: &'a Container,
    pub(in crate::node) program: Program,
    pub(in crate::node) entry: &'a Entry,
    /// Pod and container, for log lines.
    pub(in crate::node) label: &'a str,
}

impl Target<'_> {
    /// Makes one probe.
    ///
    /// # Errors
    /// Says why it failed.
    pub(super) async fn probe(&self, probe: &Probe, limit: Duration) -> Result<(), String> {
        let outcome = timeout(limit, self.act(probe)).await;
        outcome.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }

    async fn act(&self, probe: &Probe) -> Result<(), String> {
        if let Some(action) = &probe.http_get {
            return http_get(self.ip, self.container, action).await;
        }
        if let Some(action) = &probe.tcp_socket {
            let port = port(self.container, &action.port)?;
            let host = action.host.clone().unwrap_or_else(|| self.ip.to_string());
            let connected = TcpStream::connect((host.as_str(), port)).await;
            return connected.map(drop).map_err(|error| error.to_string());
        }
        if let Some(action) = &probe.grpc {
            let port = u16::try_from(action.port).map_err(|error| error.to_string())?;
            return grpc::check(self.ip, port, action.service.as_deref().unwrap_or_default()).await;
        }
        match probe.exec.as_ref().and_then(|action| action.command.as_deref()) {
            // The image's own programs are not there to be asked.
            Some(command) if self.program.is_real() => exec(self.entry, command).await,
            _ => Ok(()),
        }
    }
}

/// Runs a command in a container.
///
/// # Errors
/// When it cannot be started or fails; with the beginning of what it wrote to standard error.
pub(in crate::node) async fn exec(entry: &Entry, command: &[String]) -> Result<(), String> {
    let output = entry.command(command).output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
    Err(format!("{command:?}: {}: {said}", output.status))
}

/// Makes the request of an `httpGet`, which succeeds with a status from 200 to 399.
///
/// # Errors
/// Says why it failed.
pub(in crate::node) async fn http_get(
    ip: Ipv4Addr,
    container: &Container,
    action: &HTTPGetAction,
) -> Result<(), String> {
    let host = action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_string());
    let port = port(container, &action.port)?;
    let status = http::get(&host, port, action).await.map_err(|error| format!("{error:#}"))?;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP status {status}")) }
}

/// A port by number, or by the name that the container declares.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("no port {port:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn ports_have_names() {
        let container: Container =
            from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap();
        for (wanted, expected) in
            [(json!("web"), Some(8080)), (json!(9), Some(9)), (json!("9"), Some(9)), (json!("x"), None)]
        {
            assert_eq!(port(&container, &from_value(wanted).unwrap()).ok(), expected);
        }
    }
}
