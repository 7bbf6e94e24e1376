//! An API server that holds any objects, by path, and notes every request.

use std::collections::BTreeMap;
use std::pin::pin;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, pair};

use crate::api_server::{Call, respond};

/// What the server holds, and how it answers.
pub struct Objects {
    handle: Handle<Request<Body>, Response<Body>>,
    version: u64,
    pub calls: Vec<Call>,
    pub all: BTreeMap<String, Value>,
    /// Requests whose line has these words are answered with this code.
    pub refuse: Option<(&'static str, u16)>,
}

impl Objects {
    pub fn new() -> (Client, Self) {
        let (service, handle) = pair();
        let server = Self { handle, version: 1, calls: Vec::new(), all: BTreeMap::new(), refuse: None };
        (Client::new(service, "default"), server)
    }

    /// The object at the end of a path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.all.iter().find(|(key, _)| key.ends_with(path)).map(|(_, object)| object)
    }

    /// The next resource version.
    pub fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
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
        let path = call.path.split('?').next().unwrap_or_default();
        let of_status = path.strip_suffix("/status");
        let path = of_status.unwrap_or(path).to_owned();
        let mut current = self.all.get(&path).cloned();
        // Who applies a status has all of it.
        if let Some(current) = current.as_mut().filter(|_| of_status.is_some()) {
            current["status"] = Value::Null;
        }
        match (&call.method, current) {
            (&Method::PATCH, current) if call.content_type.contains("apply-patch") => {
                let known = call.body["metadata"]["uid"].as_str();
                if known.is_some() && known != current.as_ref().and_then(|it| it["metadata"]["uid"].as_str())
                {
                    return Err(409);
                }
                Ok(self.change(path, current.unwrap_or_default(), &call.body))
            }
            (&Method::PATCH, Some(current)) => {
                let version = &call.body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != current["metadata"]["resourceVersion"] {
                    return Err(409);
                }
                Ok(self.change(path, current, &call.body))
            }
            (&Method::POST, None) => {
                let name = call.body["metadata"]["name"].as_str().ok_or(422u16)?;
                Ok(self.change(format!("{path}/{name}"), Value::Null, &call.body))
            }
            (&Method::DELETE, Some(current)) => {
                let uid = &call.body["preconditions"]["uid"];
                if !uid.is_null() && *uid != current["metadata"]["uid"] {
                    return Err(409);
                }
                Ok(self.delete(&path))
            }
            (&Method::GET, Some(current)) => Ok(current),
            _ => Err(404),
        }
    }

    /// Deletes an object, which stays while it has finalizers.
    pub fn delete(&mut self, path: &str) -> Value {
        let full = self.all.keys().find(|key| key.ends_with(path)).expect("an object").clone();
        let current = self.all[&full].clone();
        self.change(full, current, &json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }))
    }

    fn change(&mut self, path: String, mut object: Value, changes: &Value) -> Value {
        merge(&mut object, changes);
        object["metadata"]["resourceVersion"] = json!(self.next_version());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
        object["metadata"]["namespace"] = json!(namespace);
        let going = !object["metadata"]["deletionTimestamp"].is_null();
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if going && !held {
            self.all.remove(&path);
        } else {
            self.all.insert(path, object.clone());
        }
        object
    }
}

/// A JSON merge patch.
fn merge(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}
