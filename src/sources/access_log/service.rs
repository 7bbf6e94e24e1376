//! The gRPC service.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::server::{ClientStreamingService, Grpc};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tracing::{debug, warn};

use super::Peers;
use super::identity::{Speaker, Unidentified};
use super::ingest::Ingest;
use super::metrics::TOO_MANY;
use super::wire::Message;
use crate::server::grpc::OneMethod;

/// `envoy.service.accesslog.v3.AccessLogService`.
#[derive(Clone)]
pub(super) struct AccessLogService {
    ingest: Ingest,
    peers: Peers,
    stop: CancellationToken,
}

impl AccessLogService {
    pub(super) fn new(ingest: Ingest, peers: Peers, stop: CancellationToken) -> Self {
        Self { ingest, peers, stop }
    }

    /// Reads a stream to its end. Returns what the peer is told; `StreamAccessLogsResponse` has no fields.
    async fn read(self, mut messages: Streaming<Message>) -> Result<Response<()>, Status> {
        let _open = self.ingest.stream();
        let mut speaker = Speaker::new(self.peers);
        while let Some(message) = self.next(&mut messages).await? {
            speaker.hear(&message).map_err(|why| self.refuse(why))?;
            let read = self.ingest.message_of(speaker.caller(), message, Timestamp::now());
            read.map_err(|error| Status::invalid_argument(error.to_string()))?;
            // Envoy keeps for a while what it cannot send.
            self.ingest.room().await;
        }
        Ok(Response::new(()))
    }

    fn refuse(&self, why: Unidentified) -> Status {
        self.ingest.metrics().refused(why.label());
        Status::invalid_argument(why.to_string())
    }

    async fn next(&self, messages: &mut Streaming<Message>) -> Result<Option<Message>, Status> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Status::unavailable("the server is stopping")),
            message = messages.message() => message,
        }
    }
}

impl OneMethod for AccessLogService {
    const SERVICE: &'static str = "envoy.service.accesslog.v3.AccessLogService";
    const METHOD: &'static str = "StreamAccessLogs";

    fn refuse_call(&self) -> Status {
        self.ingest.metrics().refused(TOO_MANY);
        let limit = self.peers.limits().streams;
        warn!(limit, "too many access log streams; a new one is refused");
        Status::resource_exhausted("too many streams")
    }

    async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        let most = self.peers.limits().message;
        let mut grpc = Grpc::new(ProstCodec::<(), Message>::new()).max_decoding_message_size(most);
        grpc.client_streaming(StreamAccessLogs(self), request).await
    }
}

struct StreamAccessLogs(AccessLogService);

impl ClientStreamingService<Message> for StreamAccessLogs {
    type Response = ();
    type Future = BoxFuture<Response<()>, Status>;

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let result = service.read(request.into_inner()).await;
            if let Err(status) = &result {
                debug!(%status, "an access log stream ended");
            }
            result
        })
    }
}
