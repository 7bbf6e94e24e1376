//! An API server that holds one fence and one Sidecar, and notes every request.

use std::pin::pin;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use palisade::api::ServiceFence;
use palisade::istio::Sidecar;
use serde_json::{Value, json};
use tower_test::mock::{Handle, pair};

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub content_type: String,
    pub body: Value,
}

impl Call {
    /// Reads a request.
    pub async fn of(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a body");
        let content_type = parts.headers.get("content-type").map(|value| value.to_str().expect("text"));
        Self {
            method: parts.method,
            path: parts.uri.to_string(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    /// `PATCH servicefences/client/status?force=true&fieldManager=palisade`
    pub fn line(&self) -> String {
        let path = self.path.split_once("/namespaces/shop/").map_or(&*self.path, |(_, path)| path);
        format!("{} {}", self.method, path.replace("?&", "?").trim_end_matches('?'))
    }
}

/// An object, or the code of a refusal.
pub fn respond(answer: Result<Value, u16>) -> Response<Body> {
    let (code, answer) = match answer {
        Ok(answer) => (200, answer),
        Err(code) => (
            code,
            json!({ "kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no" }),
        ),
    };
    let body = Body::from(serde_json::to_vec(&answer).expect("JSON"));
    Response::builder().status(code).body(body).expect("a response")
}

/// What the server holds, and how it answers.
pub struct ApiServer {
    handle: Handle<Request<Body>, Response<Body>>,
    version: u64,
    pub calls: Vec<Call>,
    pub fence: ServiceFence,
    pub sidecar: Option<Sidecar>,
    /// Requests whose line has these words are answered with this code.
    pub refuse: Option<(&'static str, u16)>,
}

impl ApiServer {
    pub fn new(fence: ServiceFence) -> (Client, Self) {
        let (service, handle) = pair();
        let server = Self { handle, version: 1, calls: Vec::new(), fence, sidecar: None, refuse: None };
        (Client::new(service, "default"), server)
    }

    /// Answers requests while `work` goes on.
    pub async fn serve<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                request = self.handle.next_request() => {
                    let (request, answer) = request.expect("the client is there");
                    answer.send_response(self.answer(request).await);
                }
                result = &mut work => return result,
            }
        }
    }

    /// The next resource version.
    pub fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    async fn answer(&mut self, request: Request<Body>) -> Response<Body> {
        let call = Call::of(request).await;
        self.calls.push(call.clone());
        let answer = match self.refuse {
            Some((words, code)) if call.line().contains(words) => Err(code),
            _ => self.carry_out(&call),
        };
        respond(answer)
    }

    fn carry_out(&mut self, call: &Call) -> Result<Value, u16> {
        let line = call.line();
        match line.split('?').next().unwrap_or_default() {
            "PATCH servicefences/client" => self.apply_finalizers(call),
            "PATCH servicefences/client/status" => self.apply_status(call),
            "PATCH sidecars/client" => self.patch_sidecar(call),
            "DELETE sidecars/client" => self.delete_sidecar(call),
            "POST events" => Ok(call.body.clone()),
            _ => Err(404),
        }
    }

    fn identified(&self, call: &Call) -> Result<(), u16> {
        let same = call.body["metadata"]["uid"].as_str() == self.fence.metadata.uid.as_deref();
        if same { Ok(()) } else { Err(409) }
    }

    fn apply_finalizers(&mut self, call: &Call) -> Result<Value, u16> {
        self.identified(call)?;
        let ours: Vec<String> =
            serde_json::from_value(call.body["metadata"]["finalizers"].clone()).map_err(|_| 422u16)?;
        let finalizers = self.fence.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|finalizer| !finalizer.starts_with("palisade.io/"));
        finalizers.extend(ours);
        self.fence.metadata.resource_version = Some(self.next_version());
        Ok(json!(self.fence))
    }

    fn apply_status(&mut self, call: &Call) -> Result<Value, u16> {
        self.identified(call)?;
        self.fence.status = serde_json::from_value(call.body["status"].clone()).map_err(|_| 422u16)?;
        self.fence.metadata.resource_version = Some(self.next_version());
        Ok(json!(self.fence))
    }

    fn patch_sidecar(&mut self, call: &Call) -> Result<Value, u16> {
        if call.content_type.contains("merge-patch") {
            return self.merge_sidecar(call);
        }
        let mut sidecar: Sidecar = serde_json::from_value(call.body.clone()).map_err(|_| 422u16)?;
        if let Some(old) = &self.sidecar {
            // The labels of a selector are a map of which each entry has its own owner.
            let labels = old.spec.workload_selector.iter().flat_map(|selector| selector.labels.clone());
            let merged = sidecar.spec.workload_selector.get_or_insert_default();
            for (key, value) in labels {
                merged.labels.entry(key).or_insert(value);
            }
        }
        let old = self.sidecar.as_ref().and_then(|old| old.metadata.uid.clone());
        sidecar.metadata.uid = old.or_else(|| Some("uid-of-sidecar".to_owned()));
        Ok(self.store(sidecar))
    }

    fn merge_sidecar(&mut self, call: &Call) -> Result<Value, u16> {
        let mut sidecar = self.sidecar.clone().ok_or(404u16)?;
        let labels = call.body["spec"]["workloadSelector"]["labels"].as_object().ok_or(422u16)?;
        let selector = sidecar.spec.workload_selector.get_or_insert_default();
        labels
            .iter()
            .filter(|(_, value)| value.is_null())
            .for_each(|(key, _)| drop(selector.labels.remove(key)));
        Ok(self.store(sidecar))
    }

    fn store(&mut self, mut sidecar: Sidecar) -> Value {
        sidecar.metadata.resource_version = Some(self.next_version());
        self.sidecar = Some(sidecar.clone());
        json!(sidecar)
    }

    fn delete_sidecar(&mut self, call: &Call) -> Result<Value, u16> {
        let sidecar = self.sidecar.as_ref().ok_or(404u16)?;
        let wanted = &call.body["preconditions"];
        let same = wanted["uid"].as_str() == sidecar.metadata.uid.as_deref()
            && wanted["resourceVersion"].as_str() == sidecar.metadata.resource_version.as_deref();
        if !same {
            return Err(409);
        }
        self.sidecar = None;
        Ok(json!({ "kind": "Status", "status": "Success" }))
    }
}
