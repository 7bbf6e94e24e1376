//! A sender of access logs, as the global proxy's Envoy is one.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address::Address as Kind};
use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, HttpAccessLogEntry};
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, LogEntries,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// An open stream of access logs.
#[derive(Debug)]
pub struct AccessLog(mpsc::Sender<StreamAccessLogsMessage>);

impl AccessLog {
    /// Opens a stream to an access-log server.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open(server: SocketAddr) -> Result<Self> {
        let (sender, messages) = mpsc::channel(64);
        let mut client = AccessLogServiceClient::connect(format!("http://{server}")).await?;
        tokio::spawn(async move { client.stream_access_logs(ReceiverStream::new(messages)).await });
        Ok(Self(sender))
    }

    /// Sends entries in one message.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn send(&self, entries: Vec<HttpAccessLogEntry>) -> Result<()> {
        let entries = LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: entries });
        let message = StreamAccessLogsMessage { identifier: None, log_entries: Some(entries) };
        self.0.send(message).await.context("the access-log server has closed the stream")
    }
}

/// The entry of a call by the pod at `caller` to `host`.
#[must_use]
pub fn entry(caller: IpAddr, host: &str) -> HttpAccessLogEntry {
    let address = SocketAddress { address: caller.to_string(), ..SocketAddress::default() };
    let common = AccessLogCommon {
        downstream_remote_address: Some(Address { address: Some(Kind::SocketAddress(address)) }),
        upstream_cluster: format!("outbound|8080||{host}"),
        ..AccessLogCommon::default()
    };
    HttpAccessLogEntry { common_properties: Some(common), ..HttpAccessLogEntry::default() }
}
