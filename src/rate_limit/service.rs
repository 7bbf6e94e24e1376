//! The gRPC service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::answer::{Refused, answer};
use super::buckets::Buckets;
use super::metrics::{Metrics, Outcome};
use super::wire::{RateLimitRequest, RateLimitResponse};
use crate::server::grpc::OneMethod;

/// Bytes of one request: each descriptor may carry a header of the request.
const MESSAGE: usize = 64 << 10;

/// `envoy.service.ratelimit.v3.RateLimitService`.
#[derive(Clone, Debug)]
pub(super) struct RateLimitService {
    /// Held for the time of some look-ups, never across an await.
    buckets: Arc<Mutex<Buckets<RandomState>>>,
    began: Instant,
    metrics: Metrics,
}

impl RateLimitService {
    /// With buckets in `memory` bytes at most.
    pub(super) fn new(memory: usize, metrics: Metrics) -> Self {
        let buckets = Arc::new(Mutex::new(Buckets::new(memory)));
        Self { buckets, began: Instant::now(), metrics }
    }

    fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = answer(&mut buckets, request, self.began.elapsed());
        self.metrics.kept(buckets.len());
        drop(buckets);
        match answered {
            Ok((response, outcome)) => {
                self.metrics.answered(outcome);
                Ok(response)
            }
            Err(refused) => Err(self.refuse(refused)),
        }
    }

    /// The caller's proxy then does what its limiter says for a service that does not answer.
    fn refuse(&self, refused: Refused) -> Status {
        debug!(%refused, "a request has no answer");
        if refused == Refused::Full {
            self.metrics.answered(Outcome::Full);
            return Status::resource_exhausted(refused.to_string());
        }
        self.metrics.answered(Outcome::Invalid);
        Status::invalid_argument(refused.to_string())
    }
}

impl OneMethod for RateLimitService {
    const SERVICE: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
    const METHOD: &'static str = "ShouldRateLimit";

    fn refuse_call(&self) -> Status {
        self.metrics.answered(Outcome::TooMany);
        Status::resource_exhausted("too many requests at a time")
    }

    async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        let codec = ProstCodec::<RateLimitResponse, RateLimitRequest>::new();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE);
        grpc.unary(ShouldRateLimit(self), request).await
    }
}

struct ShouldRateLimit(RateLimitService);

impl UnaryService<RateLimitRequest> for ShouldRateLimit {
    type Response = RateLimitResponse;
    type Future = std::future::Ready<Result<Response<RateLimitResponse>, Status>>;

    fn call(&mut self, request: Request<RateLimitRequest>) -> Self::Future {
        std::future::ready(self.0.answer(request.into_inner()).map(Response::new))
    }
}
