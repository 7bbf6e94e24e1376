//! Under mesh-wide STRICT mTLS, nobody without a workload certificate gets anywhere by way of the global proxy,
//! and nobody teaches another's fence.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::app::tls;
use bed::cli::Component;
use bed::mesh::Call;
use futures::future::try_join_all;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::fixtures::{client, server};
use crate::world::{PALISADE, World};

const NS: &str = "strict";
const OUTSIDE: &str = "strict-outside";
const OUTSIDER: &str = "strict-outside/outsider";
const WEB: u16 = 8080;
const DATABASE: u16 = 3306;
/// The global proxy lets go of a peer that does not speak TLS after 10 s.
const LET_GO: Duration = Duration::from_secs(15);

/// The case.
pub async fn run(world: &World) -> Result<()> {
    set_up(world).await?;
    let plain = world.mesh.call(OUTSIDER, &format!("http://web.{NS}:{WEB}/")).await;
    ensure!(plain.is_err(), "a callee answered a call in plain text: {plain:?}");
    forged_connections_lead_nowhere(world).await.context("forged connections")?;
    the_callee_sees_who_calls(world).await.context("identities")?;
    a_forged_header_teaches_nobody(world).await.context("a forged X-Forwarded-For")?;
    a_call_of_the_global_proxy_itself_ends(world).await.context("a call of the global proxy")
}

/// It is a host like any other to the global proxy, which would hand such a call to itself without end.
async fn a_call_of_the_global_proxy_itself_ends(world: &World) -> Result<()> {
    let before = world.detours().await?;
    let call =
        world.mesh.call(&format!("{NS}/client"), &format!("tcp://global-proxy.{PALISADE}:15001")).await;
    ensure!(call.is_err(), "it was answered: {call:?}");
    let taken = world.detours().await? - before;
    ensure!((1..=2).contains(&taken), "it came by {taken} times");
    Ok(())
}

async fn set_up(world: &World) -> Result<()> {
    world.mesh.namespace(NS, true).await?;
    world.mesh.namespace(OUTSIDE, false).await?;
    let manifests = [
        server(NS, "web", &[("http", WEB)]),
        server(NS, "shop", &[("http", WEB)]),
        server(NS, "desk", &[("http", WEB)]),
        server(NS, "database", &[("server-first", DATABASE)]),
        client(NS, "client"),
        client(NS, "victim"),
        client(OUTSIDE, "outsider"),
    ];
    world.mesh.apply(&manifests.join("\n---\n")).await?;
    world.mesh.rollout(NS).await?;
    world.mesh.rollout(OUTSIDE).await?;
    for name in ["client", "victim"] {
        let spec = format!("{{enable: true, workloadSelector: {{labels: {{app: {name}}}}}}}");
        world.apply_fence(NS, name, &spec).await?;
    }
    world.until_trimmed(NS, "client").await?;
    world.until_trimmed(NS, "victim").await
}

/// What somebody without a certificate tries.
#[derive(Clone, Debug)]
struct Attempt {
    port: u16,
    header: Header,
    tls: bool,
    /// A service that waits for a request, or one that speaks first.
    target: Target,
}

#[derive(Clone, Copy, Debug)]
enum Header {
    None,
    V1,
    V2,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Web,
    Database,
}

const ATTEMPTS: [Attempt; 9] = [
    Attempt { port: 15443, header: Header::None, tls: false, target: Target::Web },
    Attempt { port: 15443, header: Header::V1, tls: false, target: Target::Web },
    Attempt { port: 15443, header: Header::V2, tls: false, target: Target::Web },
    Attempt { port: 15443, header: Header::V2, tls: true, target: Target::Web },
    // A header and nothing more: a proxy that connected on its word alone would let the callee speak.
    Attempt { port: 15443, header: Header::V2, tls: false, target: Target::Database },
    Attempt { port: 15001, header: Header::None, tls: false, target: Target::Web },
    Attempt { port: 15001, header: Header::V2, tls: false, target: Target::Web },
    Attempt { port: 15006, header: Header::None, tls: false, target: Target::Web },
    Attempt { port: 15006, header: Header::V2, tls: false, target: Target::Web },
];

/// Addresses that an attempt is made with.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    proxy: Ipv4Addr,
    victim: Ipv4Addr,
    web: Ipv4Addr,
    database: Ipv4Addr,
}

async fn forged_connections_lead_nowhere(world: &World) -> Result<()> {
    let addresses = Addresses {
        proxy: world.mesh.address(&proxy()).await?.parse()?,
        victim: world.mesh.address(&format!("{NS}/victim")).await?.parse()?,
        web: cluster_ip(world, "web").await?,
        database: cluster_ip(world, "database").await?,
    };
    let (connections, learned) = (connections(world).await?, learned(world).await?);
    let attempts = ATTEMPTS.map(|attempt| async move {
        let what = format!("{attempt:?}");
        let made = world.mesh.inside(OUTSIDER, move || attempt.make(addresses)).await;
        let answer = made.with_context(|| what.clone())?;
        ensure!(!answer.starts_with("HTTP/"), "{what} was answered: {answer}");
        ensure!(!answer.contains("database"), "{what} reached the callee: {answer}");
        Ok(())
    });
    try_join_all(attempts).await?;
    let now = self::connections(world).await?;
    ensure!(now == connections, "the global proxy connected to a callee: {connections} before, {now} now");
    // The same way with a certificate works, is counted, and teaches: what was counted above means something.
    let (call, detour) = world.watched_call(&format!("{NS}/client"), &format!("http://web:{WEB}/")).await?;
    ensure!(detour && is_proxy(&call), "a real first call: detour {detour}, identity {:?}", call.identity);
    world.until_routed(NS, "client", &[&format!("{NS}/web.{NS}.svc.cluster.local")]).await?;
    let now = self::connections(world).await?;
    ensure!(now == connections + 1, "a real call is not counted: {connections} before, {now} now");
    let now = self::learned(world).await?;
    ensure!(now == learned + 1, "the forged calls were learned: {learned} before, {now} after one real call");
    nothing_learned_for_the_victim(world).await
}

impl Attempt {
    /// Gives all that the other side sends until it closes the connection, or the error that it closes with.
    async fn make(self, addresses: Addresses) -> Result<String> {
        let Ok(mut tcp) = TcpStream::connect((addresses.proxy, self.port)).await else {
            return Ok("refused".to_owned());
        };
        let callee = match self.target {
            Target::Web => (addresses.web, WEB),
            Target::Database => (addresses.database, DATABASE),
        };
        tcp.write_all(&self.header.bytes(addresses.victim, callee)).await?;
        if !self.tls {
            return self.request(tcp).await;
        }
        let connector = TlsConnector::from(tls::client(&[])?);
        match connector.connect(ServerName::try_from(format!("web.{NS}.svc"))?, tcp).await {
            Ok(stream) => self.request(stream).await,
            Err(error) => Ok(error.to_string()),
        }
    }

    async fn request(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<String> {
        if matches!(self.target, Target::Web) {
            let request = format!("GET / HTTP/1.1\r\nHost: web.{NS}.svc.cluster.local:{WEB}\r\n\r\n");
            // The other side may have closed already.
            let _ = stream.write_all(request.as_bytes()).await;
        }
        let mut answer = Vec::new();
        let end = timeout(LET_GO, stream.read_to_end(&mut answer)).await.context("it is not let go")?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        Ok(end.err().map_or(text.clone(), |error| format!("{text} ({error})")))
    }
}

impl Header {
    /// The PROXY protocol's header of a connection from `source` to `target`.
    fn bytes(self, source: Ipv4Addr, target: (Ipv4Addr, u16)) -> Vec<u8> {
        const SOURCE_PORT: u16 = 40_000;
        match self {
            Self::None => Vec::new(),
            Self::V1 => {
                format!("PROXY TCP4 {source} {} {SOURCE_PORT} {}\r\n", target.0, target.1).into_bytes()
            }
            Self::V2 => [
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
                &source.octets(),
                &target.0.octets(),
                &SOURCE_PORT.to_be_bytes(),
                &target.1.to_be_bytes(),
            ]
            .concat(),
        }
    }
}

async fn the_callee_sees_who_calls(world: &World) -> Result<()> {
    let (caller, url) = (&format!("{NS}/victim"), &format!("http://web:{WEB}/"));
    let (call, detour) = world.watched_call(caller, url).await?;
    ensure!(detour && is_proxy(&call), "a first call: detour {detour}, identity {:?}", call.identity);
    world.until_direct(caller, url).await?;
    let call = world.mesh.call(caller, url).await?;
    let own = format!("spiffe://cluster.local/ns/{NS}/sa/victim");
    ensure!(call.identity.as_deref() == Some(&own), "a later call has the identity {:?}", call.identity);
    Ok(())
}

async fn a_forged_header_teaches_nobody(world: &World) -> Result<()> {
    let victim = world.mesh.address(&format!("{NS}/victim")).await?;
    let before = world.routed(NS, "victim").await?;
    let forged = forwarded(world, "shop", Some(&victim)).await?;
    ensure!(forged.as_deref() == Some(&*victim), "the callee saw X-Forwarded-For: {forged:?}, not {victim}");
    let plain = forwarded(world, "desk", None).await?;
    ensure!(plain.is_none(), "the detour adds X-Forwarded-For: {plain:?}");
    let own = ["desk", "shop", "web"].map(|name| format!("{NS}/{name}.{NS}.svc.cluster.local"));
    world.until_routed(NS, "client", &own.each_ref().map(String::as_str)).await?;
    let after = world.routed(NS, "victim").await?;
    ensure!(after == before, "the victim's fence went from {before:?} to {after:?}");
    Ok(())
}

/// The `X-Forwarded-For` that a service sees on the client's first call to it, when the client sends this one.
async fn forwarded(world: &World, service: &str, value: Option<&str>) -> Result<Option<String>> {
    let (url, detours) = (format!("http://{service}:{WEB}/"), world.detours().await?);
    let header = format!("X-Forwarded-For: {}", value.unwrap_or_default());
    let mut options = vec!["--answer"];
    options.extend(value.iter().flat_map(|_| ["--header", &header]));
    let call = world.mesh.calls(&format!("{NS}/client"), &[&url], &options).await?.swap_remove(0);
    ensure!(world.detours().await? > detours, "it was no first call");
    let answer = call.answer.with_context(|| format!("{url}: {:?}", call.error))?;
    Ok(answer.headers.get("x-forwarded-for").cloned())
}

async fn nothing_learned_for_the_victim(world: &World) -> Result<()> {
    let routed = world.routed(NS, "victim").await?;
    let status = &world.fence_of(NS, "victim").await?["status"];
    ensure!(routed.is_empty() && status["hosts"] == 0, "the victim's fence learned: {routed:?}, {status}");
    Ok(())
}

fn is_proxy(call: &Call) -> bool {
    call.identity.as_deref() == Some(&format!("spiffe://cluster.local/ns/{PALISADE}/sa/global-proxy"))
}

fn proxy() -> String {
    format!("{PALISADE}/global-proxy")
}

/// How many connections the global proxy has made to the callees of this case.
async fn connections(world: &World) -> Result<u64> {
    let text = world.mesh.envoy(&proxy(), "/clusters").await?;
    let of_case = text.lines().filter(|line| line.contains(&format!(".{NS}.svc.cluster.local::")));
    let counts = of_case.filter_map(|line| line.split_once("::cx_total::")?.1.parse::<u64>().ok());
    Ok(counts.sum())
}

/// How many calls the operator has learned something from.
async fn learned(world: &World) -> Result<u64> {
    let entries =
        world.mesh.metric(Component::Palisade, "palisade_access_log_entries_total", &["outcome=\"new\""]);
    // A counter of few events.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(entries.await? as u64)
}

async fn cluster_ip(world: &World, service: &str) -> Result<Ipv4Addr> {
    let text =
        world.mesh.kubectl(&["get", "service", service, "-n", NS, "-o=jsonpath={.spec.clusterIP}"]).await?;
    Ok(text.parse()?)
}
