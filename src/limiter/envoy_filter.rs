//! A limiter's limits as an `EnvoyFilter`.
//!
//! The listeners get a filter that names its configuration and no more; the configuration itself goes by ECDS. So a change of
//! a limit changes no listener: no connection is drained, and open connections have it at once.
//!
//! A chain has one filter of a limiter. One for a port takes the place of that for all ports, and one of a subset that of
//! `_base`; it has the limits of both.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::adaptive::Adaptive;
use super::connections;
use super::global::Global;
use super::limit::Limit;
use super::local::Local;
use super::matcher::{Action, REMOTE_ADDRESS};
use super::rejection::Rejection;
use super::strategy::Kind;
use super::target::Listeners;
use crate::istio::ConfigPatch;

/// The key of the entry that tells limits apart, and the beginning of what our counters are called.
pub(super) const KEY: &str = "palisade";
/// The value of entries that only say that a request matches.
const YES: &str = "yes";

const EXPRESSION: &str = "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor";

/// A filter of Envoy's that limits.
pub(super) trait Limits {
    /// What the filter's name ends in, so that a chain may have one of each.
    const END: &'static str;
    /// The type of its configuration.
    const TYPE: &'static str;
    /// The field with the status of its rejections.
    const STATUS: &'static str;

    /// Its configuration without a limit, should none come.
    fn empty(&self) -> Value;

    /// Its configuration with these limits.
    fn config(&self, limits: &[&Limit]) -> Value;
}

/// The patches of these limits. `name` is that of the limiter and subset (`shop/web/v1`), and begins the names of filters;
/// the filters of `base` are replaced.
pub(super) fn patches(
    name: &str,
    base: Option<&str>,
    limits: &[Limit],
    global: Option<Global<'_>>,
    rejection: Rejection<'_>,
) -> Vec<ConfigPatch> {
    let chain = Chain { name, base, status: rejection.status };
    let of = |kind| limits.iter().filter(|limit| limit.kind == kind).collect::<Vec<_>>();
    // What a pod refuses by itself, the service is not asked about.
    let own = patches_of(&Local, chain, &of(Kind::Local));
    let shared = global.map(|global| patches_of(&global, chain, &of(Kind::Global)));
    let adaptive = patches_of(&Adaptive, chain, &of(Kind::Adaptive));
    let connections = connections::patches(name, base, &of(Kind::Connections));
    [own, shared.unwrap_or_default(), adaptive, connections, rejection.patches(limits)].concat()
}

/// What the filters of a limiter and subset have in common.
#[derive(Clone, Copy)]
struct Chain<'a> {
    name: &'a str,
    base: Option<&'a str>,
    status: Option<u16>,
}

fn patches_of<F: Limits>(
    filters: &F,
    Chain { name, base, status }: Chain<'_>,
    limits: &[&Limit],
) -> Vec<ConfigPatch> {
    by_listeners(limits)
        .into_iter()
        .flat_map(|(listeners, limits)| {
            let filter = filter_name::<F>(name, listeners);
            let removed = replaced::<F>(name, base, listeners).into_iter();
            let removed = removed.map(|filter| patch(listeners, &filter, json!({ "operation": "REMOVE" })));
            let inserted = json!({ "operation": "INSERT_BEFORE", "value": discovered(&filter, filters) });
            let inserted = patch(listeners, "envoy.filters.http.router", inserted);
            let mut config = filters.config(&limits);
            if let Some(status) = status {
                config[F::STATUS] = json!({ "code": status });
            }
            removed.chain([inserted, extension(&filter, &config)]).collect::<Vec<_>>()
        })
        .collect()
}

/// The limits of each group of listeners: those of one port have what holds for all ports as well.
fn by_listeners<'a>(limits: &[&'a Limit]) -> BTreeMap<Listeners, Vec<&'a Limit>> {
    let mut groups: BTreeMap<_, _> = limits.iter().map(|limit| (limit.place.listeners, Vec::new())).collect();
    for (listeners, group) in &mut groups {
        let here = |limit: &&Limit| limit.place.listeners.include(*listeners);
        group.extend(limits.iter().copied().filter(here));
    }
    groups
}

/// The filters whose place one takes. Those for all ports come first, and those of `base` before.
fn replaced<F: Limits>(name: &str, base: Option<&str>, listeners: Listeners) -> Vec<String> {
    let all = Listeners { port: None, ..listeners };
    let own = listeners.port.map(|_| filter_name::<F>(name, all));
    let of_base = base.into_iter().flat_map(|base| {
        let port = listeners.port.map(|_| filter_name::<F>(base, listeners));
        [filter_name::<F>(base, all)].into_iter().chain(port)
    });
    of_base.chain(own).collect()
}

/// The name of a filter, which is that of its configuration too.
fn filter_name<F: Limits>(name: &str, listeners: Listeners) -> String {
    let context = listeners.context.word().to_lowercase();
    let port = listeners.port.map(|port| format!("/{port}")).unwrap_or_default();
    format!("{KEY}/{name}/{context}{port}{}", F::END)
}

/// A filter whose configuration comes by ECDS. A listener waits for it; should it not come, there is no limit.
fn discovered<F: Limits>(filter: &str, filters: &F) -> Value {
    json!({ "name": filter, "config_discovery": {
        "config_source": { "ads": {}, "resource_api_version": "V3" },
        "default_config": filters.empty(),
        "type_urls": [F::TYPE],
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

/// Has a filter add the limits' headers to the answers to requests that it refuses.
pub(super) fn add_headers(limits: &[&Limit], config: &mut Value) {
    let headers = limits.iter().flat_map(|limit| &limit.headers);
    let headers: Vec<_> = headers
        .map(|header| {
            // A percent sign begins a command of Envoy's.
            json!({ "header": { "key": header.key, "value": header.value.replace('%', "%%") },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" })
        })
        .collect();
    if !headers.is_empty() {
        config["response_headers_to_add"] = json!(headers);
    }
}

/// Milliseconds as Protocol Buffers write a duration in JSON.
pub(super) fn duration(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

/// Each of a limit's buckets, by the entries of its descriptor, and the actions that give a request these entries.
pub(super) fn single_buckets(limit: &Limit) -> Vec<(Vec<Value>, Vec<Value>)> {
    let sources = &limit.matchers.sources;
    match sources.len() {
        0 => vec![bucket(limit, &limit.name, None)],
        1 => vec![bucket(limit, &limit.name, sources.first())],
        _ => {
            let one = |(number, source): (usize, &Action)| {
                bucket(limit, &format!("{}/{number}", limit.name), Some(source))
            };
            sources.iter().enumerate().map(one).collect()
        }
    }
}

fn bucket(limit: &Limit, name: &str, source: Option<&Action>) -> (Vec<Value>, Vec<Value>) {
    let mut entries = vec![entry(KEY, name)];
    let mut actions = vec![generic_key(KEY, name)];
    if let Some((key, value)) = &limit.custom {
        entries.push(entry(key, value));
        actions.push(generic_key(key, value));
    }
    for (number, action) in limit.matchers.all.iter().chain(source).enumerate() {
        let key = action.key(number);
        entries.push(if action.separate { json!({ "key": key }) } else { entry(&key, YES) });
        actions.push(json!({ action.name: with_entry(action, &key) }));
    }
    if let Some(routes) = &limit.place.routes {
        entries.push(entry("route", YES));
        actions.push(expression(routes));
    }
    (entries, actions)
}

/// How a request comes by a descriptor.
pub(super) fn rate_limit(limit: &Limit, actions: &[Value]) -> Value {
    let mut rate_limit = json!({ "actions": actions });
    if limit.tells {
        rate_limit["x_ratelimit_option"] = json!("DRAFT_VERSION_03");
    }
    rate_limit
}

fn entry(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value })
}

pub(super) fn generic_key(key: &str, value: &str) -> Value {
    json!({ "generic_key": { "descriptor_key": key, "descriptor_value": value } })
}

/// An action's fields, with the entry that it adds.
fn with_entry(action: &Action, key: &str) -> Value {
    let mut all: Map<String, Value> = action.fields.as_object().cloned().unwrap_or_default();
    if action.name != REMOTE_ADDRESS {
        all.insert("descriptor_key".to_owned(), json!(key));
    }
    if !action.separate {
        all.insert("descriptor_value".to_owned(), json!(YES));
    }
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
