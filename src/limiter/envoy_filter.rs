//! A limiter's limits as an `EnvoyFilter`.
//!
//! The listeners get a filter that names its configuration and no more; the configuration itself goes by ECDS. So a change of
//! a limit changes no listener: no connection is drained, and open connections have it at once.
//!
//! A chain has one filter of a limiter. One for a port takes the place of that for all ports, and one of a subset that of
//! `_base`; it has the limits of both.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::limit::Limit;
use super::target::Listeners;
use crate::istio::ConfigPatch;

/// The key of the entry that tells limits apart, and the beginning of what our counters are called.
const KEY: &str = "palisade";
/// The value of entries that only say that a request matches.
const YES: &str = "yes";

const CONFIG: &str = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const EXPRESSION: &str = "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor";

/// The patches of these limits. `name` is that of the limiter and subset (`shop/web/v1`), and begins the names of filters;
/// the filters of `base` are replaced.
pub(super) fn patches(name: &str, base: Option<&str>, limits: &[Limit]) -> Vec<ConfigPatch> {
    by_listeners(limits)
        .into_iter()
        .flat_map(|(listeners, limits)| {
            let filter = filter_name(name, listeners);
            let removed = replaced(name, base, listeners).into_iter();
            let removed = removed.map(|filter| patch(listeners, &filter, json!({ "operation": "REMOVE" })));
            let inserted = json!({ "operation": "INSERT_BEFORE", "value": discovered(&filter) });
            let inserted = patch(listeners, "envoy.filters.http.router", inserted);
            removed.chain([inserted, extension(&filter, &config(&limits))]).collect::<Vec<_>>()
        })
        .collect()
}

/// The limits of each group of listeners: those of one port have what holds for all ports as well.
fn by_listeners(limits: &[Limit]) -> BTreeMap<Listeners, Vec<&Limit>> {
    let mut groups: BTreeMap<_, _> = limits.iter().map(|limit| (limit.place.listeners, Vec::new())).collect();
    for (listeners, group) in &mut groups {
        let here = |limit: &&Limit| limit.place.listeners.include(*listeners);
        group.extend(limits.iter().filter(here));
    }
    groups
}

/// The filters whose place one takes. Those for all ports come first, and those of `base` before.
fn replaced(name: &str, base: Option<&str>, listeners: Listeners) -> Vec<String> {
    let all = Listeners { port: None, ..listeners };
    let own = listeners.port.map(|_| filter_name(name, all));
    let of_base = base.into_iter().flat_map(|base| {
        let port = listeners.port.map(|_| filter_name(base, listeners));
        [filter_name(base, all)].into_iter().chain(port)
    });
    of_base.chain(own).collect()
}

/// The name of a filter, which is that of its configuration too.
fn filter_name(name: &str, listeners: Listeners) -> String {
    let context = listeners.context.word().to_lowercase();
    let port = listeners.port.map(|port| format!("/{port}")).unwrap_or_default();
    format!("{KEY}/{name}/{context}{port}")
}

/// A filter whose configuration comes by ECDS. A listener waits for it; should it not come, there is no limit.
fn discovered(filter: &str) -> Value {
    json!({ "name": filter, "config_discovery": {
        "config_source": { "ads": {}, "resource_api_version": "V3" },
        "default_config": empty(),
        "type_urls": [CONFIG],
    } })
}

fn extension(filter: &str, config: &Value) -> ConfigPatch {
    ConfigPatch {
        apply_to: "EXTENSION_CONFIG".to_owned(),
        matches: json!({ "context": "ANY" }),
        patch: json!({ "operation": "ADD", "value": { "name": filter, "typed_config": config } }),
    }
}

fn patch(listeners: Listeners, filter: &str, patch: Value) -> ConfigPatch {
    let mut listener = json!({ "filterChain": { "filter": {
        "name": "envoy.filters.network.http_connection_manager",
        "subFilter": { "name": filter },
    } } });
    if let Some(port) = listeners.port {
        listener["portNumber"] = json!(port);
    }
    let matches = json!({ "context": listeners.context.word(), "listener": listener });
    ConfigPatch { apply_to: "HTTP_FILTER".to_owned(), matches, patch }
}

/// The filter without a limit: it has no bucket for requests that match none.
fn empty() -> Value {
    let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    json!({
        "@type": CONFIG,
        "stat_prefix": KEY,
        "filter_enabled": always,
        "filter_enforced": always,
        "always_consume_default_token_bucket": false,
    })
}

/// The filter with these limits.
fn config(limits: &[&Limit]) -> Value {
    let single: Vec<_> = limits.iter().flat_map(|limit| single_buckets(limit)).collect();
    let headers: Vec<_> = limits
        .iter()
        .flat_map(|limit| &limit.headers)
        .map(|header| {
            // A percent sign begins a command of Envoy's.
            json!({ "header": { "key": header.key, "value": header.value.replace('%', "%%") },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" })
        })
        .collect();
    let (descriptors, rate_limits): (Vec<_>, Vec<_>) = single.into_iter().unzip();
    let mut config = empty();
    config["descriptors"] = json!(descriptors);
    config["rate_limits"] = json!(rate_limits);
    if !headers.is_empty() {
        config["response_headers_to_add"] = json!(headers);
    }
    config
}

/// Each of a limit's buckets, as a descriptor, and how a request comes by that descriptor.
fn single_buckets(limit: &Limit) -> Vec<(Value, Value)> {
    let sources = &limit.matchers.sources;
    match sources.len() {
        0 => vec![bucket(limit, &limit.name, None)],
        1 => vec![bucket(limit, &limit.name, sources.first().map(|source| (source.name, &source.fields)))],
        _ => {
            let one = |(number, source): (usize, &super::matcher::Action)| {
                bucket(limit, &format!("{}/{number}", limit.name), Some((source.name, &source.fields)))
            };
            sources.iter().enumerate().map(one).collect()
        }
    }
}

fn bucket(limit: &Limit, name: &str, source: Option<(&'static str, &Value)>) -> (Value, Value) {
    let mut entries = vec![entry(KEY, name)];
    let mut actions = vec![generic_key(KEY, name)];
    if let Some((key, value)) = &limit.custom {
        entries.push(entry(key, value));
        actions.push(generic_key(key, value));
    }
    let all = limit.matchers.all.iter().map(|action| (action.name, &action.fields)).chain(source);
    for (number, (kind, fields)) in all.enumerate() {
        let key = format!("match-{number}");
        entries.push(entry(&key, YES));
        actions.push(json!({ kind: with_entry(fields, &key) }));
    }
    if let Some(routes) = &limit.place.routes {
        entries.push(entry("route", YES));
        actions.push(expression(routes));
    }
    (descriptor(limit, &entries), rate_limit(limit, &actions))
}

fn descriptor(limit: &Limit, entries: &[Value]) -> Value {
    let interval = limit.bucket.interval;
    let mut descriptor = json!({ "entries": entries, "token_bucket": {
        "max_tokens": limit.bucket.tokens,
        "tokens_per_fill": limit.bucket.tokens,
        "fill_interval": format!("{}.{:03}s", interval / 1000, interval % 1000),
    } });
    if limit.shadow {
        descriptor["shadow_mode"] = json!(true);
    }
    descriptor
}

fn rate_limit(limit: &Limit, actions: &[Value]) -> Value {
    let mut rate_limit = json!({ "actions": actions });
    if limit.tells {
        rate_limit["x_ratelimit_option"] = json!("DRAFT_VERSION_03");
    }
    rate_limit
}

fn entry(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value })
}

fn generic_key(key: &str, value: &str) -> Value {
    json!({ "generic_key": { "descriptor_key": key, "descriptor_value": value } })
}

/// An action's fields, with the entry that it adds.
fn with_entry(fields: &Value, key: &str) -> Value {
    let mut all: Map<String, Value> = fields.as_object().cloned().unwrap_or_default();
    all.insert("descriptor_key".to_owned(), json!(key));
    all.insert("descriptor_value".to_owned(), json!(YES));
    Value::Object(all)
}

/// An action that adds `yes` where the expression holds. Where it cannot be computed, there is no limit.
fn expression(text: &str) -> Value {
    json!({ "extension": { "name": "palisade.route", "typed_config": {
        "@type": EXPRESSION,
        "descriptor_key": "route",
        "skip_if_error": true,
        "text": format!("{text} ? '{YES}' : 'no'"),
    } } })
}
