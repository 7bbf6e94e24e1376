//! A stand-in for Prometheus's HTTP API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How the query begins that asks since when Prometheus looks.
pub const HEARTBEAT: &str = "min(timestamp(up ";

/// How a query is answered.
#[derive(Clone)]
pub enum Answer {
    Json(Value),
    Text(String),
    Status(u16),
    Redirect,
    /// The beginning of an answer, and nothing more.
    Stall,
    /// The beginning of an answer, and then the connection ends.
    BreakOff,
}

#[derive(Clone, Default)]
struct Said {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    credentials: Arc<Mutex<Vec<(String, String)>>>,
}

pub struct Server {
    address: std::net::SocketAddr,
    said: Said,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, said) = (listener.local_addr().unwrap(), Said::default());
        let router = Router::new().route("/prefix/api/v1/query", post(answer)).with_state(said.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, said, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}/prefix", self.address)
    }

    /// From now on, queries that begin with `query` are answered so.
    pub fn answer(&self, query: &str, answer: Answer) {
        self.said.answers.lock().unwrap().insert(query.to_owned(), answer);
    }

    pub fn asked(&self) -> Vec<String> {
        let all = self.said.asked.lock().unwrap().clone();
        all.into_iter().filter(|query| !query.starts_with(HEARTBEAT)).collect()
    }

    /// The `Authorization` and the tenant of each query.
    pub fn credentials(&self) -> Vec<(String, String)> {
        self.said.credentials.lock().unwrap().clone()
    }

    pub fn stop(&self) {
        self.serving.abort();
    }
}

async fn answer(State(said): State<Said>, headers: HeaderMap, form: Bytes) -> Response {
    let form: HashMap<String, String> =
        reqwest::Url::parse(&format!("http://x/?{}", str::from_utf8(&form).unwrap()))
            .unwrap()
            .query_pairs()
            .into_owned()
            .collect();
    let query = form["query"].clone();
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    said.credentials.lock().unwrap().push((header("authorization"), header("x-scope-orgid")));
    said.asked.lock().unwrap().push(query.clone());
    let answers = said.answers.lock().unwrap().clone();
    let answer =
        answers.iter().find(|(start, _)| query.starts_with(*start)).map(|(_, answer)| answer.clone());
    let part = Ok(Bytes::from_static(b"{\"status\": "));
    match answer {
        Some(Answer::Json(value)) => value.to_string().into_response(),
        Some(Answer::Text(text)) => text.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Redirect) => {
            (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.1:1/")]).into_response()
        }
        Some(Answer::Stall) => {
            let rest = stream::pending::<Result<Bytes, std::io::Error>>();
            Body::from_stream(stream::iter([part]).chain(rest)).into_response()
        }
        Some(Answer::BreakOff) => {
            Body::from_stream(stream::iter([part, Err(std::io::Error::other("gone"))])).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
