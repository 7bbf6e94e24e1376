//! From what a proxy has counted to what is news.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::sample::{Sample, parse};
use crate::api::DependencySource;
use crate::graph::{Caller, Graph, Judgement, Observation};
use crate::sources::Unusable;
use crate::sources::host::{NoHost, host_or_cluster, outbound_host};
use crate::sources::outcome::Tally;

/// Istio's standard metrics (1.31), of which a proxy has its own as the caller (`reporter="source"`) and as the callee.
const REQUESTS: &str = "istio_requests_total";
const TCP_OPENED: &str = "istio_tcp_connections_opened_total";
/// Envoy's own, by cluster: the connections that were opened, and those that are open.
const CONNECTIONS: &str = "envoy_cluster_upstream_cx_total";
const OPEN_CONNECTIONS: &str = "envoy_cluster_upstream_cx_active";
/// What a callee that does not let a caller in answers.
const FORBIDDEN: &str = "403";
const PERMISSION_DENIED: &str = "7";

/// The reading of one proxy's answer.
pub(super) struct Reading<'a> {
    graph: &'a Graph,
    caller: Caller,
    /// The host to which unknown calls are diverted: nobody uses it by its own wish.
    detour: &'a str,
    now: Timestamp,
    tally: Tally,
    /// Hosts by the names that the registry has for them, so that a proxy cannot make them many.
    news: HashSet<Arc<str>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(graph: &'a Graph, caller: Caller, detour: &'a str, now: Timestamp) -> Self {
        Self { graph, caller, detour, now, tally: Tally::default(), news: HashSet::new() }
    }

    /// Reads a line; `None` if it could not be kept.
    pub(super) fn read(&mut self, line: Option<&str>) {
        let of_interest = |name: &str| [REQUESTS, TCP_OPENED, CONNECTIONS, OPEN_CONNECTIONS].contains(&name);
        match line.map(|line| parse(line, of_interest)) {
            Some(Ok(Some(sample))) => {
                let outcome = self.judge(&sample);
                self.tally.count(outcome);
            }
            Some(Ok(None)) => {}
            Some(Err(_)) | None => self.tally.count(Unusable::Malformed),
        }
    }

    /// What is to be learned. What a proxy has ever counted counts as seen now: it does not say when it was.
    pub(super) fn into_news(self) -> (Tally, Vec<Observation>) {
        let Self { caller, now, news, tally, .. } = self;
        let source = DependencySource::ProxyMetrics;
        let news =
            news.into_iter().map(|host| Observation { caller: caller.clone(), host, source, seen: now });
        (tally, news.collect())
    }

    fn judge(&mut self, sample: &Sample<'_>) -> Result<Judgement, Unusable> {
        if sample.value.is_nan() || sample.value <= 0.0 {
            return Err(Unusable::NoCall);
        }
        let host = host(sample)?;
        if host == self.detour {
            return Err(Unusable::Detour);
        }
        let judgement = self.graph.judge(&self.caller, host, self.now);
        self.news.extend(self.graph.perhaps_called(&self.caller, host, self.now).cloned());
        if matches!(judgement, Judgement::New | Judgement::Stale) {
            self.news.extend(self.graph.registry().canonical(host));
        }
        Ok(judgement)
    }
}

/// The host that a sample says was called.
fn host<'a>(sample: &'a Sample<'_>) -> Result<&'a str, Unusable> {
    let host = match sample.name {
        // Istio ends the names of clusters so in statistics, for the expression that finds them.
        CONNECTIONS | OPEN_CONNECTIONS => {
            outbound_host(sample.label("cluster_name").trim_end_matches(';').as_bytes())
        }
        _ if sample.label("reporter") != "source" => return Err(Unusable::NotOutbound),
        _ if sample.label("response_code") == FORBIDDEN => return Err(Unusable::Denied),
        _ if sample.label("grpc_response_status") == PERMISSION_DENIED => return Err(Unusable::Denied),
        _ => host_or_cluster(sample.label("destination_service")),
    };
    host.map_err(|why| match why {
        NoHost::NotOutbound => Unusable::NotOutbound,
        NoHost::InvalidCluster | NoHost::InvalidName => Unusable::InvalidHost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Change, Fence, Labels, ObjectKey, Pod, PodSelection, Service};
    use crate::sources::Outcome;

    const DETOUR: &str = "global-proxy.palisade-system.svc.cluster.local";

    fn graph() -> Graph {
        let labels =
            Labels::from(std::collections::BTreeMap::from([("app".to_owned(), "client".to_owned())]));
        let (selection, key) = (PodSelection::Labels(labels.clone()), ObjectKey::new("shop", "client"));
        let pod = Pod { key: ObjectKey::new("shop", "client-1"), labels, ..Pod::default() };
        let mut graph = Graph::new("cluster.local");
        for name in ["reviews", "redis"] {
            let key = ObjectKey::new("shop", name);
            graph.apply(Change::Service(Service { key, ..Service::default() }));
        }
        graph.apply(Change::Fence(Fence { key, selection, ..Fence::default() }));
        graph.apply(Change::Pod(pod));
        graph
    }

    fn read(lines: &[&str]) -> (Vec<(Outcome, u64)>, Vec<String>) {
        let (graph, caller) = (graph(), Caller::Pod(ObjectKey::new("shop", "client-1")));
        let mut reading = Reading::new(&graph, caller, DETOUR, Timestamp::UNIX_EPOCH);
        for line in lines {
            reading.read(Some(line));
        }
        let (tally, news) = reading.into_news();
        let mut hosts: Vec<_> = news.iter().map(|call| call.host.to_string()).collect();
        hosts.sort();
        (tally.met().collect(), hosts)
    }

    #[test]
    fn what_a_proxy_has_called_is_news() {
        let lines = [
            "# TYPE istio_requests_total counter",
            r#"istio_requests_total{reporter="source",response_code="200",destination_service="reviews.shop.svc.cluster.local"} 3"#,
            r#"envoy_cluster_upstream_cx_total{cluster_name="outbound|9080||reviews.shop.svc.cluster.local"} 1"#,
            r#"envoy_cluster_upstream_cx_active{cluster_name="outbound|6379||redis.shop.svc.cluster.local;"} 1"#,
            "envoy_server_live{} 1",
        ];
        let (outcomes, hosts) = read(&lines);
        assert_eq!(outcomes, [(Outcome::from(Judgement::New), 3)]);
        assert_eq!(hosts, ["redis.shop.svc.cluster.local", "reviews.shop.svc.cluster.local"]);
    }

    #[test]
    fn what_tells_of_no_call_of_the_pod_teaches_nothing() {
        let detour =
            format!(r#"envoy_cluster_upstream_cx_total{{cluster_name="outbound|15001||{DETOUR}"}} 1"#);
        let cases: [(&str, Outcome); 10] = [
            (
                r#"istio_requests_total{reporter="destination",destination_service="reviews.shop.svc.cluster.local"} 3"#,
                Unusable::NotOutbound.into(),
            ),
            (
                r#"istio_requests_total{reporter="source",response_code="403",destination_service="reviews.shop.svc.cluster.local"} 3"#,
                Unusable::Denied.into(),
            ),
            (
                r#"istio_requests_total{reporter="source",grpc_response_status="7",destination_service="reviews.shop.svc.cluster.local"} 3"#,
                Unusable::Denied.into(),
            ),
            (
                r#"istio_tcp_connections_opened_total{reporter="source",destination_service="unknown"} 3"#,
                Judgement::UnknownHost.into(),
            ),
            (
                r#"istio_tcp_connections_opened_total{reporter="source",destination_service=""} 3"#,
                Unusable::InvalidHost.into(),
            ),
            (
                r#"envoy_cluster_upstream_cx_active{cluster_name="outbound|6379||redis.shop.svc.cluster.local"} 0"#,
                Unusable::NoCall.into(),
            ),
            (
                r#"envoy_cluster_upstream_cx_total{cluster_name="inbound|9080||;"} 4"#,
                Unusable::NotOutbound.into(),
            ),
            (r#"envoy_cluster_upstream_cx_total{cluster_name="xds-grpc"} 4"#, Unusable::NotOutbound.into()),
            (detour.as_str(), Unusable::Detour.into()),
            ("istio_requests_total{ 3", Unusable::Malformed.into()),
        ];
        for (line, outcome) in cases {
            assert_eq!(read(&[line]), (vec![(outcome, 1)], vec![]), "{line}");
        }
    }
}
