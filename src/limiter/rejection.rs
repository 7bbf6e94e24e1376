//! How requests are rejected.

use std::collections::BTreeSet;

use serde_json::json;

use super::limit::Limit;
use super::strategy::Kind;
use super::target::Listeners;
use crate::api::RejectionBody;
use crate::istio::ConfigPatch;

/// The status and the body of rejections, as far as they are not Envoy's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rejection<'a> {
    pub(super) status: Option<u16>,
    pub(super) body: Option<&'a RejectionBody>,
}

/// What Envoy (1.40) says of the answers of its filters that limit (`%RESPONSE_CODE_DETAILS%`). It has a flag for them as well, but sets
/// it for local limits only after the answer.
const REJECTED: &str =
    "response.code_details in ['local_rate_limited', 'request_rate_limited', 'reached_concurrency_limit']";
const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const CONNECTION_MANAGER_TYPE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const EXPRESSION_TYPE: &str =
    "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter";

impl Rejection<'_> {
    /// The patches that give rejections by these limits their body. Envoy has no such field in the filters that limit; its filter for
    /// bodies (`custom_response`) takes the limit's headers away.
    pub(super) fn patches(&self, limits: &[Limit]) -> Vec<ConfigPatch> {
        let Some(body) = self.body else { return Vec::new() };
        let limits = limits.iter().filter(|limit| limit.kind != Kind::Connections);
        let all: BTreeSet<_> = limits.map(|limit| limit.place.listeners).collect();
        let is_covered = |one: &&Listeners| all.iter().any(|other| other != *one && other.include(**one));
        all.iter().filter(|one| !is_covered(one)).map(|listeners| patch(*listeners, body)).collect()
    }
}

fn patch(listeners: Listeners, body: &RejectionBody) -> ConfigPatch {
    let mut listener = json!({ "filterChain": { "filter": { "name": CONNECTION_MANAGER } } });
    if let Some(port) = listeners.port {
        listener["portNumber"] = json!(port);
    }
    let rejected = json!({ "extension_filter": {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": { "@type": EXPRESSION_TYPE, "expression": REJECTED },
    } });
    let mapper = json!({
        "filter": rejected,
        "body": { "inline_string": body.text },
        "body_format_override": {
            "text_format_source": { "inline_string": "%LOCAL_REPLY_BODY%" },
            "content_type": body.content_type.as_deref().unwrap_or("text/plain"),
        },
    });
    let manager = json!({ "@type": CONNECTION_MANAGER_TYPE, "local_reply_config": { "mappers": [mapper] } });
    ConfigPatch {
        apply_to: "NETWORK_FILTER".to_owned(),
        matches: json!({ "context": listeners.context.word(), "listener": listener }),
        patch: json!({ "operation": "MERGE", "value": { "typed_config": manager } }),
    }
}
