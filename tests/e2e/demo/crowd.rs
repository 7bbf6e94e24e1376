//! The rest of a company's mesh: services that nobody here calls, which every sidecar is told of all the same.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bed::mesh::Mesh;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::screen::Progress;

/// How many services there are.
pub const SERVICES: usize = 1000;
/// How many namespaces they are spread over.
pub const NAMESPACES: usize = 20;

const AT_ONCE: usize = 32;
const LIMIT: Duration = Duration::from_secs(30);

/// The ports of web services. Services that share a port share a listener, which has a route for each of them.
const WEB: [u16; 10] = [8080, 80, 8000, 3000, 9080, 5000, 8081, 8888, 9000, 7070];
const GRPC: [u16; 4] = [50051, 9090, 7000, 8980];
/// Stores and brokers: each such port of each service has a listener of its own.
const TCP: [u16; 5] = [5432, 6379, 3306, 9092, 27017];

/// Makes all of them.
pub async fn create(mesh: &Mesh, progress: &Progress) -> Result<()> {
    for number in 0..NAMESPACES {
        let name: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace(number)}}))?;
        soon(Api::all(mesh.client().clone()).create(&PostParams::default(), &name)).await?;
    }
    let mut services =
        stream::iter(0..SERVICES).map(|number| create_one(mesh, number)).buffer_unordered(AT_ONCE);
    let mut done = 0;
    while services.try_next().await?.is_some() {
        done += 1;
        progress.show(done, SERVICES);
    }
    Ok(())
}

/// Makes the service of this number, and its endpoints.
pub async fn create_one(mesh: &Mesh, number: usize) -> Result<()> {
    let (namespace, name, ports) = (namespace(number), name(number), ports(number));
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"ports": ports}}))?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [address(2 * number)]}, {"addresses": [address(2 * number + 1)]}],
    }))?;
    let services: Api<Service> = Api::namespaced(mesh.client().clone(), &namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(mesh.client().clone(), &namespace);
    // Endpoints first: the other way round istiod pushes once or twice, depending on how fast they come.
    soon(slices.create(&PostParams::default(), &slice)).await?;
    soon(services.create(&PostParams::default(), &service)).await.map(drop)
}

/// The full name of the service of this number.
pub fn host(number: usize) -> String {
    format!("{}.{}.svc.cluster.local", name(number), namespace(number))
}

fn namespace(number: usize) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

fn name(number: usize) -> String {
    format!("service-{number:04}")
}

/// Six in ten are web services, two speak gRPC and have a second port for metrics, two are stores.
fn ports(number: usize) -> Value {
    let pick = |ports: &[u16]| ports[number / 10 % ports.len()];
    match number / NAMESPACES % 10 {
        0..6 => json!([{"name": "http", "port": pick(&WEB)}]),
        6..8 => json!([{"name": "grpc", "port": pick(&GRPC)}, {"name": "http-metrics", "port": 9102}]),
        _ => json!([{"name": "tcp", "port": pick(&TCP)}]),
    }
}

/// Outside the addresses of pods: nobody answers there.
fn address(number: usize) -> String {
    format!("10.245.{}.{}", number / 250, number % 250 + 1)
}

async fn soon<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T> {
    Ok(tokio::time::timeout(LIMIT, request).await.context("the API server does not answer")??)
}
