//! What Prometheus is asked.

use super::settings::{CallerLabels, Query};

/// What Istio's proxies count of calls (standard metrics, Istio 1.31). The proxy of the caller counts them
/// (`reporter="source"`), and so does that of the callee, with the same labels for who called whom: either is enough.
pub(super) fn of_istio() -> Vec<Query> {
    const REQUESTS: &str = "istio_requests_total";
    const OPENED: &str = "istio_tcp_connections_opened_total";
    const CLOSED: &str = "istio_tcp_connections_closed_total";
    [grown(REQUESTS, LET_IN), grown(OPENED, ""), open(OPENED, CLOSED)]
        .map(|query| Query {
            query,
            caller: CallerLabels {
                namespace: "source_workload_namespace".to_owned(),
                workload: Some("source_workload".to_owned()),
                pod: None,
            },
            callee: "destination_service".to_owned(),
        })
        .into()
}

/// Whom the callee refuses learns nothing by trying.
const LET_IN: &str = r#", response_code!="403", grpc_response_status!="7""#;
const PAIR: &str = "source_workload_namespace, source_workload, destination_service";
const SELECTOR: &str = r#"reporter=~"source|destination", source_workload_namespace=~"$namespaces""#;

/// The pairs whose counter grew within the window. A counter that merely exists is no call; but proxies count from one,
/// with their first call, and `increase` sees no growth in that: so one that was not there before the window has grown.
///
/// It was there if it has any sample of the last 5 minutes before the window, which is how far an instant vector looks
/// as well. But that ends at the mark of a scrape that failed, and then every idle counter would have grown.
fn grown(metric: &str, more: &str) -> String {
    let counter = format!("{metric}{{{SELECTOR}{more}}}");
    format!(
        "(sum by ({PAIR}) (increase({counter}[$window])) > 0) or (sum by ({PAIR}) \
         (last_over_time({counter}[$window]) unless last_over_time({counter}[5m] offset $window)) > 0)"
    )
}

/// The pairs that have connections open now: they are in use, however long ago they were opened.
fn open(opened: &str, closed: &str) -> String {
    let total = |metric: &str| format!("sum by ({PAIR}) ({metric}{{{SELECTOR}}})");
    let (opened, closed) = (total(opened), total(closed));
    format!("({opened} - {closed} > 0) or ({opened} unless {closed})")
}
