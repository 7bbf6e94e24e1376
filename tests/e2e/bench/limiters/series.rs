//! A real Prometheus, and what it has of the pods.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::mesh::{Mesh, PROMETHEUS};
use bed::sandbox::ROOT_ADDRESS;
use bed::wait::until;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::{Samples, samples};
use crate::objects::{PODS_PER_SERVICE, Size, namespace_of, pod_name};

/// Where the bench program serves what the pods count.
const PORT: u16 = 19100;
const MANIFEST: &str = include_str!("prometheus.yaml");
/// What a counter grows by in a second, about.
const RATE: f64 = 100.0;
/// How long Prometheus may take to have it all.
const LIMIT: Duration = Duration::from_mins(3);

/// The rate of all requests of a limiter's pods, from counters as applications have them.
pub(super) const QUERY: &str = r#"sum(rate(bench_0_total{namespace="$namespace", pod=~"$pod_name"}[1m]))"#;

/// A Prometheus that has scraped so many series, or a few more.
pub(super) struct Prometheus {
    address: String,
    serving: JoinHandle<()>,
}

impl Prometheus {
    /// Starts it, and waits until it knows the rate of each pod's requests.
    pub(super) async fn start(mesh: &Mesh, size: Size, series: usize) -> Result<Self> {
        let listener = TcpListener::bind((ROOT_ADDRESS, PORT)).await?;
        let pods = size.services * PODS_PER_SERVICE;
        let serving = tokio::spawn(serve(listener, Counters::new(size, series.div_ceil(pods))));
        mesh.apply(&MANIFEST.replace("TARGET", &format!("{ROOT_ADDRESS}:{PORT}"))).await?;
        mesh.rollout("monitoring").await?;
        let started = Instant::now();
        until("Prometheus has the series", LIMIT, async || {
            let of =
                async |query| Ok::<_, anyhow::Error>(mesh.query(query).await?.first().map_or(0.0, |it| it.1));
            let all = of(r#"count({__name__=~"bench_.+"})"#).await?;
            let rates = of("count(rate(bench_0_total[1m]))").await?;
            ensure!(all >= exact(series) && rates >= exact(pods), "it has {all} series and {rates} rates");
            println!("  Prometheus has {all} series after {:.0} s", started.elapsed().as_secs_f64());
            Ok(())
        })
        .await?;
        let address = format!("{}:9090", mesh.address(PROMETHEUS.0).await?);
        Ok(Self { address, serving })
    }

    /// Where its HTTP API is.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that it has answered, by the labels of its own counter.
    pub(super) async fn queries(&self) -> Result<Samples> {
        let mut samples = samples(&self.address, "prometheus_http_requests_total").await?;
        samples.retain(|labels, _| labels.contains("\"/api/v1/query\""));
        Ok(samples)
    }

    /// The processor time that it has used, in seconds.
    pub(super) async fn cpu(&self) -> Result<f64> {
        Ok(samples(&self.address, "process_cpu_seconds_total").await?.values().sum())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the pods count: each of the metrics, pod by pod. None grows as evenly as another.
struct Counters {
    size: Size,
    counts: Vec<f64>,
    since: Instant,
}

impl Counters {
    fn new(size: Size, metrics: usize) -> Self {
        let counts = vec![0.0; metrics * size.services * PODS_PER_SERVICE];
        Self { size, counts, since: Instant::now() }
    }

    /// All of them now, in Prometheus's text format.
    fn text(&mut self) -> Result<String> {
        let (now, mut text) = (Instant::now(), String::new());
        let grown = (now - self.since).as_secs_f64() * RATE;
        self.since = now;
        let pods = self.size.services * PODS_PER_SERVICE;
        for (number, count) in self.counts.iter_mut().enumerate() {
            *count += grown * (0.8 + 0.4 * fastrand::f64());
            let (metric, pod) = (number / pods, number % pods);
            if pod == 0 {
                writeln!(text, "# TYPE bench_{metric}_total counter")?;
            }
            let service = pod % self.size.services;
            let (namespace, name) = (namespace_of(service), pod_name(pod, service));
            writeln!(
                text,
                r#"bench_{metric}_total{{namespace="{namespace}",pod="{name}",container="app"}} {count}"#
            )?;
        }
        Ok(text)
    }
}

async fn serve(listener: TcpListener, mut counters: Counters) {
    loop {
        let answered = async {
            let (mut stream, _) = listener.accept().await?;
            answer(&mut stream, &counters.text()?).await
        };
        if let Err(error) = answered.await {
            println!("  Prometheus was not told: {error:#}");
        }
    }
}

async fn answer(stream: &mut TcpStream, body: &str) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    while !lines.next_line().await?.context("half a request")?.is_empty() {}
    writer.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n").await?;
    writer.write_all(body.as_bytes()).await?;
    Ok(writer.shutdown().await?)
}

fn exact(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
