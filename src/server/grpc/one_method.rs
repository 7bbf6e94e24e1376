//! A gRPC service written out: generated code would bring the full messages along.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// A gRPC service that has one method.
pub(crate) trait OneMethod: Clone + Send + Sync + 'static {
    /// The service's full name.
    const SERVICE: &'static str;
    /// The method's name.
    const METHOD: &'static str;

    /// Counts a call for which there is no room, and says what its peer is told.
    fn refuse_call(&self) -> Status;

    /// Serves one call.
    fn serve(self, request: http::Request<Body>) -> impl Future<Output = http::Response<Body>> + Send;
}

/// The service of this method.
#[derive(Clone)]
pub(super) struct Only<M> {
    method: M,
    /// One for each call that may be under way.
    slots: Arc<Semaphore>,
}

impl<M> Only<M> {
    /// With so many calls at a time.
    pub(super) fn new(method: M, calls: usize) -> Self {
        Self { method, slots: Arc::new(Semaphore::new(calls)) }
    }
}

impl<M: OneMethod> NamedService for Only<M> {
    const NAME: &'static str = M::SERVICE;
}

impl<M: OneMethod> Service<http::Request<Body>> for Only<M> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { method, slots } = self.clone();
        Box::pin(async move {
            let called = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
            if called != Some((M::SERVICE, M::METHOD)) {
                return Ok(Status::unimplemented(format!("only {} is served", M::METHOD)).into_http());
            }
            let Ok(_slot) = slots.try_acquire_owned() else {
                return Ok(method.refuse_call().into_http());
            };
            Ok(method.serve(request).await)
        })
    }
}
