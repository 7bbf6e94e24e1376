//! The stand-in application against itself, on loopback: every protocol, every path, and the rules for kept
//! connections.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they share")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bed::app::client::{Caller, Options};
use bed::app::{Answer, Outcome, Retried, Target, load, serve};
use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The arguments of `bed app serve`.
#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    options: serve::Options,
}

/// The arguments of `bed app load`.
#[derive(Parser)]
struct Load {
    #[command(flatten)]
    options: load::Options,
}

struct Running {
    ports: Vec<u16>,
    stop: CancellationToken,
    task: AbortOnDropHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let fixed = ["serve", "--name", name, "--address", "127.0.0.1", "--namespace", "shop"];
        let pod = format!("--pod={name}-1");
        let arguments = fixed.iter().copied().chain([pod.as_str()]).chain(arguments.iter().copied());
        let options = Serve::try_parse_from(arguments).unwrap().options;
        let server = serve::Server::bind(options).unwrap();
        let ports = server.ports().unwrap();
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(server.run(stop.clone())));
        Self { ports, stop, task }
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://127.0.0.1:{}{path}", self.ports[0])
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn call(url: &str) -> Outcome {
    call_with(url, Options::default()).await
}

async fn call_with(url: &str, options: Options) -> Outcome {
    Caller::new(options).call(&url.parse().unwrap(), &mut None).await
}

async fn answer(url: &str) -> Answer {
    let outcome = call(url).await;
    assert!(outcome.ok, "{outcome:?}");
    *outcome.answer.unwrap()
}

#[tokio::test]
async fn every_protocol_is_detected_and_answered_by_name() {
    let server = Running::start("a", &["--port", "0"]);
    let protocols = [
        ("http", "HTTP/1.1", Some(200)),
        ("h2c", "HTTP/2", Some(200)),
        ("https", "HTTP/2", Some(200)),
        ("grpc", "grpc", Some(0)),
        ("grpc-stream", "grpc", Some(0)),
        ("ws", "websocket", Some(101)),
        ("tcp", "tcp", None),
        ("tls", "tls", None),
    ];
    for (scheme, protocol, status) in protocols {
        let outcome = call_with(&server.url(scheme, ""), Options { messages: 3, ..Options::default() }).await;
        assert!(outcome.ok, "{outcome:?}");
        assert_eq!((outcome.protocol.as_str(), outcome.status), (protocol, status), "{scheme}");
        assert_eq!((outcome.name.as_deref(), outcome.pod.as_deref()), (Some("a"), Some("a-1")), "{scheme}");
    }
}

#[tokio::test]
async fn the_server_speaks_first_where_asked_to() {
    let server = Running::start("db", &["--port", "0/server-first-mysql"]);
    let outcome = call(&server.url("tcp-server-first", "")).await;
    assert!(outcome.ok, "{outcome:?}");
    assert_eq!(outcome.name.as_deref(), Some("db"));
}

#[tokio::test]
async fn a_port_for_tls_takes_nothing_else() {
    let server = Running::start("a", &["--port", "0/tls"]);
    assert!(call(&server.url("https", "/")).await.ok);
    assert!(!call(&server.url("http", "/")).await.ok);
}

#[tokio::test]
async fn the_answer_tells_how_the_request_was_seen() {
    let server = Running::start("a", &["--port", "0"]);
    let certificate = "By=spiffe://x/ns/shop/sa/a;Hash=0;URI=spiffe://x/ns/web/sa/client";
    let headers = vec![
        ("x-forwarded-client-cert".parse().unwrap(), certificate.parse().unwrap()),
        ("end-user".parse().unwrap(), "jason".parse().unwrap()),
    ];
    for (scheme, path) in [("http", "/a?b=c"), ("h2c", "/a?b=c"), ("https", "/a?b=c"), ("grpc", "/")] {
        let host = Some("reviews.shop:9080".to_owned());
        let options = Options { host, headers: headers.clone(), ..Options::default() };
        let outcome = call_with(&server.url(scheme, path), options).await;
        assert_eq!(outcome.host.as_deref(), Some("reviews.shop:9080"), "{outcome:?}");
        assert_eq!(outcome.identity.as_deref(), Some("spiffe://x/ns/web/sa/client"), "{scheme}");
        let answer = outcome.answer.unwrap();
        assert_eq!(answer.headers["end-user"], "jason", "{scheme}");
        assert_eq!((answer.namespace.as_str(), answer.port), ("shop", server.ports[0]), "{scheme}");
        if scheme != "grpc" {
            assert_eq!((answer.method.as_str(), answer.path.as_str()), ("GET", "/a?b=c"), "{scheme}");
        }
        assert_eq!(answer.sni.as_deref(), (scheme == "https").then_some("reviews.shop"), "{scheme}");
    }
}

#[tokio::test]
async fn paths_do_what_they_say() {
    let server = Running::start("a", &["--port", "0"]);
    let denied = call(&server.url("http", "/status/403")).await;
    assert_eq!((denied.ok, denied.status), (false, Some(403)));
    assert_eq!(denied.name.as_deref(), Some("a"));
    assert_eq!(call(&server.url("http", "/status/nonsense")).await.status, Some(400));
    assert!(call(&server.url("http", "/delay/50")).await.elapsed_ms >= 50.0);
    assert_eq!(call(&server.url("http", "/redirect?to=http://b/")).await.status, Some(302));
    assert!(call(&server.url("http", "/bytes/3000000")).await.ok);
    assert!(call(&server.url("h2c", "/stream?n=3&interval_ms=1")).await.ok);
    let options = Options { timeout: Duration::from_millis(50), ..Options::default() };
    let late = call_with(&server.url("http", "/delay/5000"), options).await;
    assert_eq!(late.error.as_deref(), Some("timed out after 50ms waiting for the answer"));
}

#[tokio::test]
async fn a_server_calls_others_and_fails_with_them() {
    let ratings = Running::start("ratings", &["--port", "0"]);
    let target = ratings.url("http", "/ratings/0");
    let reviews = Running::start("r", &["--port", "0", "--forward", &format!("/reviews={target}")]);
    let seen = answer(&reviews.url("http", "/reviews/0")).await;
    assert_eq!((seen.calls.len(), seen.calls[0].name.as_deref()), (1, Some("ratings")));

    let asked = [ratings.url("tcp", ""), ratings.url("grpc", ""), ratings.url("http", "/status/503")];
    let query: Vec<_> = asked.iter().map(|url| format!("url={url}")).collect();
    let outcome = call(&reviews.url("http", &format!("/call?{}", query.join("&")))).await;
    assert_eq!((outcome.ok, outcome.status), (false, Some(502)));
    let good: Vec<_> = outcome.calls.iter().map(|call| call.ok).collect();
    assert_eq!(good, [true, true, false]);
    assert!(outcome.error.unwrap().contains("status 503"));

    ratings.end().await;
    let outcome = call(&reviews.url("http", "/reviews/0")).await;
    assert_eq!(outcome.status, Some(502));
    assert!(outcome.calls[0].error.as_ref().unwrap().starts_with("not connected"), "{outcome:?}");
}

#[tokio::test]
async fn failures_to_connect_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = call(&format!("http://{free}/")).await;
    assert_eq!(refused.error.as_deref(), Some("not connected: Connection refused (os error 111)"));
    let server = Running::start("db", &["--port", "0/server-first"]);
    let mistaken = call(&server.url("http", "/")).await;
    assert!(!mistaken.ok);
}

#[tokio::test]
async fn connections_are_kept() {
    let server = Running::start("a", &["--port", "0"]);
    let caller = Caller::new(Options::default());
    for scheme in ["http", "h2c", "https", "grpc", "grpc-stream", "ws", "tcp", "tls"] {
        let target: Target = server.url(scheme, "").parse().unwrap();
        let mut slot = None;
        let first = caller.call(&target, &mut slot).await;
        assert!(first.ok && slot.is_some(), "{first:?}");
        let second = caller.call(&target, &mut slot).await;
        assert!(second.ok && second.retried.is_none(), "{second:?}");
    }
}

#[tokio::test]
async fn open_requests_end_at_the_stop() {
    let server = Running::start("a", &["--port", "0"]);
    // The first piece is the sign that the request has come; the others come after the stop.
    let mut stream = TcpStream::connect(("127.0.0.1", server.ports[0])).await.unwrap();
    stream.write_all(b"GET /stream?n=3&interval_ms=100 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut all = vec![0; 4096];
    let first = stream.read(&mut all).await.unwrap();
    all.truncate(first);
    server.end().await;
    stream.read_to_end(&mut all).await.unwrap();
    assert!(String::from_utf8(all).unwrap().ends_with("\r\n0\r\n\r\n"));
}

/// What a server of one connection's life does after its first answer.
#[derive(Clone, Copy)]
enum Ending {
    /// Has said `connection: close`, and closes.
    Announced,
    /// Closes without a word.
    Silent,
    /// Closes when the second request has come.
    Swallowing,
    /// Closes in the middle of the second answer.
    Halfway,
}

/// An HTTP/1.1 server each of whose connections carries one request; counts connections.
async fn closing(ending: Ending) -> (Target, Arc<AtomicUsize>, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(one_connection(stream, ending));
        }
    });
    (target, count, AbortOnDropHandle::new(task))
}

async fn one_connection(mut stream: TcpStream, ending: Ending) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    let close = if matches!(ending, Ending::Announced) { "connection: close\r\n" } else { "" };
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{close}\r\n").as_bytes()).await?;
    if matches!(ending, Ending::Announced | Ending::Silent) {
        return Ok(());
    }
    let _ = stream.read(&mut request).await?;
    if matches!(ending, Ending::Halfway) {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
    }
    Ok(())
}

async fn second_call(ending: Ending, method: &str) -> (Outcome, usize) {
    let (target, count, _server) = closing(ending).await;
    let caller = Caller::new(Options { method: method.parse().unwrap(), ..Options::default() });
    let mut slot = None;
    let first = caller.call(&target, &mut slot).await;
    assert!(first.ok, "{first:?}");
    // The peer's close must have come, as it has on a connection that idled.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = caller.call(&target, &mut slot).await;
    (second, count.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_connection_closed_between_requests_is_replaced() {
    for ending in [Ending::Announced, Ending::Silent] {
        for method in ["GET", "POST"] {
            let (second, connections) = second_call(ending, method).await;
            assert!(second.ok, "{second:?}");
            assert_eq!((second.retried, connections), (None, 2));
        }
    }
}

#[tokio::test]
async fn only_an_idempotent_request_is_sent_again_when_it_was_swallowed() {
    let (get, connections) = second_call(Ending::Swallowing, "GET").await;
    assert!(get.ok, "{get:?}");
    assert_eq!((get.retried, connections), (Some(Retried::Unanswered), 2));
    let (post, connections) = second_call(Ending::Swallowing, "POST").await;
    assert_eq!((post.ok, post.retried, connections), (false, None, 1), "{post:?}");
}

#[tokio::test]
async fn a_broken_answer_is_never_asked_for_again() {
    let (second, connections) = second_call(Ending::Halfway, "GET").await;
    assert_eq!((second.ok, second.retried, connections), (false, None, 1), "{second:?}");
}

#[tokio::test]
async fn a_new_connection_that_closes_without_an_answer_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    });
    let outcome = call(&url).await;
    server.await.unwrap();
    assert_eq!((outcome.ok, outcome.retried), (false, None), "{outcome:?}");
}

async fn load(arguments: &[String], stop: CancellationToken) -> load::Summary {
    let arguments = ["load".to_owned()].into_iter().chain(arguments.iter().cloned());
    let options = Load::try_parse_from(arguments).unwrap().options;
    load::drive(options, stop).await.unwrap()
}

#[tokio::test]
async fn load_is_steady_and_told_by_address() {
    let server = Running::start("a", &["--port", "0"]);
    let schemes = ["http", "h2c", "grpc", "grpc-stream", "tcp", "ws"];
    let mut arguments: Vec<_> = schemes.iter().map(|scheme| server.url(scheme, "")).collect();
    arguments.extend(["--rate=300", "--for=1s", "--new-connection-share=0.2"].map(str::to_owned));
    let summary = load(&arguments, CancellationToken::new()).await;
    assert_eq!((summary.failed, summary.errors.len()), (0, 0), "{summary:?}");
    // A machine that is short of CPU may end it later, but never sends fewer than were due.
    assert!(summary.sent >= 300, "{summary:?}");
    assert_eq!(summary.sent, summary.ok);
    assert!(summary.fresh + 6 >= summary.sent / 5 && summary.fresh <= summary.sent / 5, "{summary:?}");
    assert_eq!(summary.urls.len(), schemes.len());
    for (url, part) in &summary.urls {
        assert!(part.sent >= 48, "{url}: {part:?}");
        assert_eq!(part.answered.get("a/a-1"), Some(&part.sent), "{url}");
    }
}

#[tokio::test]
async fn load_measures_the_time_of_answers() {
    let server = Running::start("a", &["--port", "0"]);
    let (slow, slower) = (server.url("http", "/delay/60"), server.url("http", "/delay/200"));
    let arguments = [slow.clone(), slower.clone(), "--rate=50".to_owned(), "--for=1s".to_owned()];
    let summary = load(&arguments, CancellationToken::new()).await;
    let (one, other) = (summary.urls[&slow].latency_ms, summary.urls[&slower].latency_ms);
    assert!(one.p50 >= 60.0 && one.p50 < 5000.0, "{summary:?}");
    assert!(other.p50 >= 200.0 && other.p50 < 5000.0, "{summary:?}");
    assert!(one.p50 <= one.p99 && one.p99 <= one.max, "{summary:?}");
    assert!(summary.latency_ms.max >= other.p50 && summary.latency_ms.p50 >= 60.0, "{summary:?}");
}

#[tokio::test]
async fn load_tells_every_failure_with_its_time() {
    let server = Running::start("a", &["--port", "0"]);
    let folder = tempfile::tempdir().unwrap();
    let (failures, end) = (folder.path().join("failures"), folder.path().join("end"));
    let arguments = [
        server.url("http", "/status/503"),
        server.url("http", "/"),
        "--rate=100".to_owned(),
        format!("--failures={}", failures.display()),
        format!("--until-file={}", end.display()),
    ];
    let ending = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        tokio::fs::write(&end, "").await.unwrap();
    };
    let (summary, ()) = tokio::join!(load(&arguments, CancellationToken::new()), ending);
    let [group] = summary.errors.as_slice() else { panic!("{summary:?}") };
    assert_eq!((group.count, group.error.as_str()), (summary.failed, "status 503, by a"));
    assert!(summary.failed >= 10 && summary.ok >= 10 && group.first < group.last, "{summary:?}");
    let lines = std::fs::read_to_string(&failures).unwrap();
    assert_eq!(u64::try_from(lines.lines().count()).unwrap(), summary.failed);
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(line["status"], 503);
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn load_goes_on_after_a_restart_of_the_server_and_tells_the_gap() {
    let server = Running::start("a", &["--port", "0"]);
    let port = server.ports[0].to_string();
    let mut arguments: Vec<_> =
        ["http", "h2c", "grpc"].iter().map(|scheme| server.url(scheme, "/")).collect();
    arguments.extend(["--rate=300", "--connections=12"].map(str::to_owned));
    let stop = CancellationToken::new();
    let restart = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let stopped = jiff::Timestamp::now();
        server.end().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let again = Running::start("a", &["--port", &port]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.cancel();
        (again, stopped)
    };
    let (summary, (_again, stopped)) = tokio::join!(load(&arguments, stop.clone()), restart);
    assert!(summary.failed > 0 && summary.ok > 0, "{summary:?}");
    let refused = summary.errors.iter().any(|group| group.error.starts_with("not connected"));
    assert!(refused, "{summary:?}");
    let told: u64 = summary.errors.iter().map(|group| group.count).sum();
    assert_eq!(told, summary.failed, "{summary:?}");
    // Kept connections are ended in order, so nothing fails before the server is gone; times are told in
    // milliseconds.
    let earliest = stopped - Duration::from_millis(1);
    assert!(summary.errors.iter().all(|group| group.first >= earliest), "{summary:?}");
}
