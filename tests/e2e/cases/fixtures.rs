//! Manifests of applications.

/// A client without a Service: Deployment and `ServiceAccount` `name`, pods labelled `app: name`.
pub fn client(namespace: &str, name: &str) -> String {
    deployment(namespace, name, "[]", "")
}

/// The same, whose proxy counts its connections: upstream Envoy has none of Istio's statistics, and its own of clusters
/// Istio leaves out unless it is told.
pub fn counted_client(namespace: &str, name: &str) -> String {
    deployment(namespace, name, "[]", "sidecar.istio.io/statsInclusionPrefixes: cluster.outbound")
}

/// The same, whose proxy answers the names that the pod asks for.
pub fn resolving_client(namespace: &str, name: &str) -> String {
    let config = r#"proxy.istio.io/config: '{"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}'"#;
    deployment(namespace, name, "[]", config)
}

/// An application with ports, each `(name, number)`, and its Service.
pub fn server(namespace: &str, name: &str, ports: &[(&str, u16)]) -> String {
    let list = |line: &dyn Fn(&str, u16) -> String| {
        let lines: Vec<_> = ports.iter().map(|(port, number)| line(port, *number)).collect();
        format!("[{}]", lines.join(", "))
    };
    let container = list(&|port, number| format!("{{name: {port}, containerPort: {number}}}"));
    let service = list(&|port, number| format!("{{name: {port}, port: {number}}}"));
    format!(
        "{}\n---\n{}",
        deployment(namespace, name, &container, ""),
        service_of(namespace, name, &service, "")
    )
}

/// An application of two pods as it should be to be updated or scaled under load, with its Service: ready when it answers,
/// and told to end only some time after its pod began to go, when callers' proxies have heard of it. Its own proxy, a
/// native sidecar, outlives it.
pub fn graceful(namespace: &str, name: &str) -> String {
    let service = service_of(namespace, name, "[{name: http, port: 8080}]", "");
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: {name}
        image: bed-app
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{port: http, path: /}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}
---
{service}"
    )
}

/// An application with a headless Service.
pub fn headless(namespace: &str, name: &str, port: (&str, u16)) -> String {
    let container = format!("[{{name: {}, containerPort: {}}}]", port.0, port.1);
    let service = format!("[{{name: {}, port: {}}}]", port.0, port.1);
    let service = service_of(namespace, name, &service, "clusterIP: None,");
    format!("{}\n---\n{service}", deployment(namespace, name, &container, ""))
}

/// Clients that are the pods of one Service: each has a Deployment and a `ServiceAccount` of its own, and pods labelled
/// `app: service` and `version: name`.
pub fn versions(namespace: &str, service: &str, names: &[&str]) -> String {
    let one = |name: &&str| labelled(namespace, name, &format!("app: {service}, version: {name}"), "[]", "");
    let service = service_of(namespace, service, "[{name: http, port: 8080}]", "");
    names.iter().map(one).chain([service]).collect::<Vec<_>>().join("\n---\n")
}

/// A gateway without a Service: Deployment `name`, pods labelled `istio: name`.
pub fn gateway(namespace: &str, name: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{istio: {name}}}}}
  template:
    metadata:
      labels: {{istio: {name}, sidecar.istio.io/inject: 'true'}}
      annotations: {{inject.istio.io/templates: gateway}}
    spec: {{containers: [{{name: istio-proxy, image: auto}}]}}"
    )
}

fn deployment(namespace: &str, name: &str, ports: &str, annotations: &str) -> String {
    labelled(namespace, name, &format!("app: {name}"), ports, annotations)
}

fn labelled(namespace: &str, name: &str, labels: &str, ports: &str, annotations: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{{labels}}}}}
  template:
    metadata: {{labels: {{{labels}}}, annotations: {{{annotations}}}}}
    spec:
      serviceAccountName: {name}
      containers: [{{name: {name}, image: bed-app, ports: {ports}}}]"
    )
}

fn service_of(namespace: &str, name: &str, ports: &str, more: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{more} selector: {{app: {name}}}, ports: {ports}}}"
    )
}

/// Services without pods, `count` of them, to fill the registry: each has an endpoint that nobody answers at.
pub fn crowd(namespace: &str, count: usize) -> String {
    let one = |number: usize| {
        let (high, low) = (number / 250, number % 250 + 1);
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: crowd-{number}, namespace: {namespace}}}
spec: {{ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: crowd-{number}, namespace: {namespace}, labels: {{kubernetes.io/service-name: crowd-{number}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.245.{high}.{low}]}}]"
        )
    };
    (0..count).map(one).collect::<Vec<_>>().join("\n---\n")
}

/// Services that all stand for the application `app`, named `alias-0` and so on.
pub fn aliases(namespace: &str, app: &str, count: usize, port: (&str, u16)) -> String {
    let one = |number: usize| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: alias-{number}, namespace: {namespace}}}
spec: {{selector: {{app: {app}}}, ports: [{{name: {}, port: {}}}]}}",
            port.0, port.1
        )
    };
    (0..count).map(one).collect::<Vec<_>>().join("\n---\n")
}
