//! What somebody says of itself over HTTP.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A metric's samples by their labels, as they are written.
pub(crate) type Samples = BTreeMap<String, f64>;

/// The whole answer: status line, headers and body.
pub(crate) async fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The samples of a metric, of which there must be some.
pub(crate) async fn samples(address: &str, metric: &str) -> Result<Samples> {
    let answer = get(address, "/metrics").await?;
    let samples = answer.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(metric)?.rsplit_once(' ')?;
        let is_whole = labels.is_empty() || labels.starts_with('{');
        Some((labels.to_owned(), value.parse().ok()?)).filter(|_| is_whole)
    });
    let samples: Samples = samples.collect();
    ensure!(!samples.is_empty(), "{address} has no metric {metric}");
    Ok(samples)
}

/// What counters have grown by, those that have not left out.
pub(crate) fn growth(before: &Samples, after: &Samples) -> Samples {
    let grown =
        after.iter().map(|(labels, value)| (labels.clone(), value - before.get(labels).unwrap_or(&0.0)));
    grown.filter(|(_, growth)| *growth > 0.0).collect()
}
