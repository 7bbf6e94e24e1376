//! Limits of how many TCP connections are open: Envoy's connection limit, a network filter of a port's chains.

use std::collections::BTreeMap;

use serde_json::json;

use super::envoy_filter::KEY;
use super::limit::Limit;
use super::target::Listeners;
use crate::istio::ConfigPatch;

const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";

/// The patches of these limits; the filters of `base` for the same ports are replaced. The number is part of the listener: a
/// filter that comes by itself would count anew for connections that are open.
pub(super) fn patches(name: &str, base: Option<&str>, limits: &[&Limit]) -> Vec<ConfigPatch> {
    let ports: BTreeMap<_, _> =
        limits.iter().map(|limit| (limit.place.listeners, limit.bucket.tokens)).collect();
    ports
        .into_iter()
        .flat_map(|(listeners, most)| {
            let removed = base.map(|base| {
                let filter = json!({ "filterChain": { "filter": { "name": filter_name(base, listeners) } } });
                patch(listeners, filter, json!({ "operation": "REMOVE" }))
            });
            let filter = json!({ "name": filter_name(name, listeners), "typed_config": {
                "@type": TYPE, "stat_prefix": KEY, "max_connections": most,
            } });
            let inserted =
                patch(listeners, json!({}), json!({ "operation": "INSERT_FIRST", "value": filter }));
            removed.into_iter().chain([inserted])
        })
        .collect()
}

fn filter_name(name: &str, listeners: Listeners) -> String {
    format!("{KEY}/{name}/connections/{}", listeners.port.unwrap_or_default())
}

fn patch(listeners: Listeners, listener: serde_json::Value, patch: serde_json::Value) -> ConfigPatch {
    let mut listener = listener;
    listener["portNumber"] = json!(listeners.port);
    let matches = json!({ "context": listeners.context.word(), "listener": listener });
    ConfigPatch { apply_to: "NETWORK_FILTER".to_owned(), matches, patch }
}
