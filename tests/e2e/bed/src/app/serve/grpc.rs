//! The gRPC service.

use std::future::{Ready, ready};
use std::pin::Pin;

use futures::stream::{BoxStream, StreamExt as _};
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::app::Answer;
use crate::app::echo::{EchoReply, EchoRequest, HEALTH, HealthReply, HealthRequest, STREAM, UNARY};

/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// Whether a request is a gRPC call.
pub(super) fn asked_for(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a gRPC call; `answer` is what the server says about it.
pub(super) async fn answer(answer: Answer, request: Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        UNARY => Grpc::new(ProstCodec::default()).unary(Echo(answer), request).await,
        STREAM => Grpc::new(ProstCodec::default()).streaming(Echo(answer), request).await,
        HEALTH => Grpc::new(ProstCodec::default()).unary(Health, request).await,
        path => Status::unimplemented(format!("{} has no {path}", answer.name)).into_http(),
    }
}

struct Echo(Answer);

impl UnaryService<EchoRequest> for Echo {
    type Response = EchoReply;
    type Future = Ready<Result<tonic::Response<EchoReply>, Status>>;

    fn call(&mut self, request: tonic::Request<EchoRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(EchoReply::new(&self.0, request.into_inner().message))))
    }
}

impl StreamingService<EchoRequest> for Echo {
    type Response = EchoReply;
    type ResponseStream = BoxStream<'static, Result<EchoReply, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<EchoRequest>>) -> Self::Future {
        let answer = self.0.clone();
        let replies = request.into_inner().map(move |message| Ok(EchoReply::new(&answer, message?.message)));
        Box::pin(ready(Ok(tonic::Response::new(replies.boxed()))))
    }
}

struct Health;

impl UnaryService<HealthRequest> for Health {
    type Response = HealthReply;
    type Future = Ready<Result<tonic::Response<HealthReply>, Status>>;

    fn call(&mut self, _request: tonic::Request<HealthRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(HealthReply { status: SERVING })))
    }
}
