//! The client of `grpc.health.v1.Health`.

use std::net::Ipv4Addr;

use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` in `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

/// Asks for a service's health.
///
/// # Errors
/// When there is no answer, or another than `SERVING`. The caller limits the time.
pub(super) async fn check(ip: Ipv4Addr, port: u16, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{ip}:{port}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let answer = client.unary(request, path, codec).await.map_err(|status| status.to_string())?;
    match answer.get_ref().status {
        SERVING => Ok(()),
        other => Err(format!("serving status {other}")),
    }
}
