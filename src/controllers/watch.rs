use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::cache::{Cache, trim};
use super::listed::Listed;
use super::mesh::{Mesh, Message};
use crate::graph::{Change, Graph, ObjectKey};
use crate::istio::Installation;

/// What a kind of object means for the graph.
pub(super) struct Kind<K> {
    pub(super) changed: fn(&K) -> Change,
    pub(super) gone: fn(ObjectKey) -> Change,
    pub(super) known: fn(&Graph) -> Vec<ObjectKey>,
}

/// How many objects are listed at a time. All kinds are listed at once when the operator starts, and what a page takes while it
/// is read is several times its own size, and the peak of the operator's memory: so it is small.
const PAGE: u32 = 100;

/// How objects come to the graph.
pub(super) struct Watch {
    /// The API server.
    pub(super) client: Client,
    /// Whom to tell.
    pub(super) mesh: Mesh,
    /// Hears once for each kind that has been listed.
    pub(super) listed: mpsc::Sender<()>,
}

impl Watch {
    /// The events of a kind in all namespaces, with back-off and jitter after errors.
    pub(super) fn events<K>(&self) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.selected_events("")
    }

    /// The same of objects with these labels.
    pub(super) fn selected_events<K>(&self, labels: &str) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let mesh = self.mesh.clone();
        results(&self.client, paged().labels(labels)).filter_map(move |event| heard(event, mesh.clone()))
    }

    /// The same for a kind of which there are many objects that are not written back: the first of them may be a little
    /// behind. Where the API server can, it lists them as a stream from its cache, in half the time of pages.
    pub(super) fn streamed_events<K>(&self) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let mesh = self.mesh.clone();
        let streamed = results(&self.client, Config::default().streaming_lists());
        let streamed = streamed.take_while(|event| std::future::ready(!is_no_stream(event)));
        let events = streamed.chain(results(&self.client, paged()));
        events.filter_map(move |event| heard(event, mesh.clone()))
    }

    /// The same for custom resources, which an older definition may let in with a shape that we cannot read: such an
    /// object is left alone, and does not stop the others.
    pub(super) fn guarded_events<K>(&self) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.events::<DeserializeGuard<K>>().filter_map(|event| std::future::ready(readable(event)))
    }

    /// The same for a kind that a cluster need not serve: where it does not, there are no objects of it. It is looked again
    /// and again, so one that is served later is noticed then.
    pub(super) fn optional_events<K>(&self) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let (events, mesh) = (results::<DeserializeGuard<K>>(&self.client, paged()), self.mesh.clone());
        events.filter_map(move |event| {
            let mesh = mesh.clone();
            async move {
                match event {
                    Err(error) if is_not_served(&error) => Some(Event::InitDone),
                    event => heard(event, mesh).await.and_then(readable),
                }
            }
        })
    }

    /// Tells the graph's owner what a watch says; after a fresh listing also what is gone since the last one. `listed`
    /// hears of the first one only.
    pub(super) fn follow<K: Resource<DynamicType = ()> + Send + 'static>(
        &self,
        events: impl Stream<Item = Event<K>> + Send + 'static,
        kind: Kind<K>,
    ) -> BoxFuture<'static, ()> {
        follow(events, self.mesh.clone(), kind, self.listed.clone()).boxed()
    }
}

fn paged() -> Config {
    Config::default().page_size(PAGE)
}

fn results<K>(
    client: &Client,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(Api::<K>::all(client.clone()), config).default_backoff().map_ok(|mut event| {
        if let Event::Apply(object) | Event::InitApply(object) = &mut event {
            trim(object);
        }
        event
    })
}

/// What a watch says. Where it cannot hear the API server, istiod may not hear it either.
async fn heard<K: Resource<DynamicType = ()>>(
    event: watcher::Result<Event<K>>,
    mesh: Mesh,
) -> Option<Event<K>> {
    let error = match event {
        Ok(event) => return Some(event),
        Err(error) => error,
    };
    warn!(kind = %K::kind(&()), %error, "watch failed; it starts again");
    if is_of_the_connection(&error) {
        mesh.tell(Message::Change(Change::Disturbed(Timestamp::now()))).await;
    }
    None
}

/// Whether it is not the API server itself that refuses: what that refuses to us, it may refuse for ever.
fn is_of_the_connection(error: &watcher::Error) -> bool {
    use kube::Error::{HyperError, ReadEvents, Service};
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let (InitialListFailed(cause) | WatchStartFailed(cause) | WatchFailed(cause)) = error else {
        return false;
    };
    matches!(cause, HyperError(_) | ReadEvents(_) | Service(_))
}

/// Whether the API server does not list as a stream: it says that the request is invalid, which it is without the feature
/// gate `WatchList` (Kubernetes 1.27 to 1.31, and 1.33, unless it is set).
fn is_no_stream<K: Resource<DynamicType = ()>>(event: &watcher::Result<Event<K>>) -> bool {
    let Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) = event else { return false };
    let refused = status.code == 422;
    if refused {
        info!(kind = %K::kind(&()), "the API server does not list as a stream; it is asked for pages");
    }
    refused
}

fn is_not_served(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

fn readable<K>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    Some(match event {
        Event::Apply(object) => Event::Apply(read(object, false)?),
        Event::InitApply(object) => Event::InitApply(read(object, false)?),
        Event::Delete(object) => Event::Delete(read(object, true)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Of an object that is gone, or going, its metadata is enough: it must not stay in mind, or be held by our finalizer, for a
/// spec that cannot be read.
fn read<K>(guard: DeserializeGuard<K>, gone: bool) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let metadata = guard.0.as_ref().is_err().then(|| guard.meta().clone());
    let result = guard.0.inspect_err(|error| {
        let name = metadata.as_ref().and_then(|metadata| metadata.name.as_deref());
        warn!(kind = %K::kind(&()), name, %error, "an object cannot be read");
    });
    result.ok().or_else(|| {
        let metadata = metadata.filter(|metadata| gone || metadata.deletion_timestamp.is_some())?;
        serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).ok()
    })
}

/// Leaves out what is of a revision that is not ours: others look after it.
pub(super) fn covered<K: ResourceExt + Send>(
    events: impl Stream<Item = Event<K>> + Send,
    istio: Installation,
) -> impl Stream<Item = Event<K>> + Send {
    only(events, move |object: &K| istio.covers(object.labels()))
}

/// Leaves out all but those that are `wanted`, as if they did not exist.
pub(super) fn only<K: Send>(
    events: impl Stream<Item = Event<K>> + Send,
    wanted: impl Fn(&K) -> bool + Send,
) -> impl Stream<Item = Event<K>> + Send {
    events.filter_map(move |event| {
        let event = match event {
            Event::Apply(object) if !wanted(&object) => Some(Event::Delete(object)),
            Event::InitApply(object) if !wanted(&object) => None,
            event => Some(event),
        };
        std::future::ready(event)
    })
}

/// Keeps a watch's objects in its cache before anybody hears of them.
pub(super) fn reflected<K, C>(
    events: impl Stream<Item = Event<K>> + Send,
    mut writer: Writer<K>,
    caches: Arc<C>,
    cache: fn(&C) -> &Cache<K>,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    events.inspect(move |event| {
        writer.apply_watcher_event(event);
        cache(&caches).show(event);
    })
}

async fn follow<K: Resource<DynamicType = ()>>(
    events: impl Stream<Item = Event<K>> + Send,
    mesh: Mesh,
    kind: Kind<K>,
    listed: mpsc::Sender<()>,
) {
    let mut events = std::pin::pin!(events);
    let (mut present, mut listed) = (HashSet::new(), Listed::new(listed));
    while let Some(event) = events.next().await {
        match event {
            Event::Init => present.clear(),
            Event::Apply(object) => mesh.tell(Message::Change((kind.changed)(&object))).await,
            Event::InitApply(object) => {
                present.insert(ObjectKey::of(&object));
                mesh.tell(Message::Change((kind.changed)(&object))).await;
            }
            Event::Delete(object) => mesh.tell(Message::Change((kind.gone)(ObjectKey::of(&object)))).await,
            Event::InitDone => {
                mesh.settled().await;
                for missing in (kind.known)(&mesh.graph()).into_iter().filter(|key| !present.contains(key)) {
                    mesh.tell(Message::Change((kind.gone)(missing))).await;
                }
                mesh.settled().await;
                present = HashSet::new();
                listed.say();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use serde_json::Value;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::ServiceFence;
    use crate::controllers::pods::Pod;

    const PODS: Kind<Pod> = Kind {
        changed: |pod| Change::PodGone(ObjectKey::of(pod)),
        gone: Change::PodGone,
        known: |_| Vec::new(),
    };

    type Asked = http::Request<kube::client::Body>;
    type Answer = http::Response<kube::client::Body>;

    /// An API server that says what `answer` does, and when, to what is asked for.
    fn client(answer: impl Fn(&str) -> Option<(u16, Value)> + Send + 'static) -> Client {
        let (service, mut asked) = tower_test::mock::pair::<Asked, Answer>();
        tokio::spawn(async move {
            while let Some((request, respond)) = asked.next_request().await {
                let Some((code, body)) = answer(request.uri().query().unwrap_or_default()) else { continue };
                let body = kube::client::Body::from(body.to_string().into_bytes());
                respond.send_response(http::Response::builder().status(code).body(body).unwrap());
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn where_the_api_server_does_not_list_as_a_stream_it_is_asked_for_pages() {
        let client = client(|query| match query {
            query if query.contains("sendInitialEvents=true") => {
                let status = json!({
                    "kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422,
                    "message": "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the \
                                WatchList feature gate is enabled",
                });
                Some((422, status))
            }
            query if query.contains("limit=") => {
                let pod = json!({ "metadata": { "namespace": "shop", "name": "client-1" } });
                Some((200, json!({ "metadata": { "resourceVersion": "7" }, "items": [pod] })))
            }
            _ => None,
        });
        let (mesh, _owner, _triggers) = Mesh::new("cluster.local");
        let watch = Watch { client, mesh, listed: mpsc::channel(1).0 };
        let events = watch.streamed_events::<Pod>().take(3).collect::<Vec<_>>().await;
        let [Event::Init, Event::InitApply(pod), Event::InitDone] = &events[..] else { panic!("{events:?}") };
        assert_eq!(pod.name_any(), "client-1");
    }

    #[test]
    fn an_object_that_cannot_be_read_still_goes() {
        let object = |deleted: Option<&str>, enable: Value| -> DeserializeGuard<ServiceFence> {
            let metadata = json!({ "namespace": "shop", "name": "client", "deletionTimestamp": deleted });
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "enable": enable } })).unwrap()
        };
        let (spoiled, going) = (json!("perhaps"), Some("2026-01-01T12:00:00Z"));
        assert!(readable(Event::Apply(object(None, spoiled.clone()))).is_none());
        let Some(Event::Apply(fence)) = readable(Event::Apply(object(going, spoiled.clone()))) else {
            panic!()
        };
        assert!(!fence.spec.enable && fence.metadata.deletion_timestamp.is_some());
        let Some(Event::Delete(fence)) = readable(Event::Delete(object(None, spoiled))) else { panic!() };
        assert_eq!(fence.name_any(), "client");
        let Some(Event::Apply(fence)) = readable(Event::Apply(object(None, json!(true)))) else { panic!() };
        assert!(fence.spec.enable);
    }

    #[tokio::test]
    async fn a_kind_that_is_listed_again_and_again_says_so_once() {
        let (mesh, owner, _triggers) = Mesh::new("cluster.local");
        let stop = CancellationToken::new();
        let owning = tokio::spawn(owner.run(stop.clone()));
        let (listed, mut heard) = mpsc::channel(16);
        let again = [Event::Init, Event::InitDone, Event::Init, Event::InitDone];
        Box::pin(follow(stream::iter(again), mesh, PODS, listed)).await;
        assert_eq!(heard.recv().await, Some(()));
        assert_eq!(heard.recv().await, None);
        stop.cancel();
        owning.await.unwrap();
    }
}
