use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;

use super::wire::{Any, ClientConfig, GenericXdsConfig};
use crate::graph::ObjectKey;
use crate::limiter::{Look, ProxyState};

/// What limits are made of: listeners, and the configuration of their filters.
const OF_LIMITS: [&str; 2] = [
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
];
/// `envoy.service.status.v3.ConfigStatus.SYNCED`
const SYNCED: i32 = 1;
/// How much of a proxy's words is kept.
const WORDS: usize = 300;

/// What istiod, asked at `at`, tells of a proxy: its pod, and how it stands. Others than pods are left out, and what cannot be
/// read.
pub(super) fn read(resource: Any, at: Timestamp) -> Option<(ObjectKey, ProxyState)> {
    let ClientConfig { node, configs } = ClientConfig::decode(resource.value).ok()?;
    // istiod (1.31) names a proxy by its pod and its namespace. Only the former may have dots.
    let (name, namespace) = node.as_ref()?.id.rsplit_once('.')?;
    let of_limits = configs.iter().filter(|config| OF_LIMITS.contains(&&*config.type_url));
    // A proxy that has asked for no listener yet has just come.
    let state = of_limits.map(|config| state(config, at)).max().unwrap_or(ProxyState::Pending(at));
    Some((ObjectKey::new(namespace, name), state))
}

/// What was asked for and not sent is a filter that is not there.
fn state(config: &GenericXdsConfig, at: Timestamp) -> ProxyState {
    match (&config.error, config.status) {
        (Some(error), _) => ProxyState::Rejected(words(&error.details)),
        (None, SYNCED) => ProxyState::Synced,
        (None, _) => ProxyState::Pending(at),
    }
}

/// A proxy's words, as they may stand in a status.
fn words(details: &str) -> Arc<str> {
    let printable = details.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    printable.take(WORDS).collect::<String>().into()
}

/// Notes how a proxy stands. While it goes from one istiod to another, both tell of it: the worse counts.
pub(super) fn merge(proxies: &mut HashMap<ObjectKey, ProxyState>, pod: ObjectKey, state: ProxyState) {
    let known = proxies.entry(pod).or_insert(ProxyState::Synced);
    if state > *known {
        *known = state;
    }
}

/// Has proxies that have not answered since the look before be so since then.
pub(super) fn carry(last: &Look, look: &mut Look) {
    for (pod, state) in &mut look.proxies {
        if let (ProxyState::Pending(since), Some(ProxyState::Pending(before))) =
            (state, last.proxies.get(pod))
        {
            *since = *before;
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::admin::v3::UpdateFailureState;
    use envoy_types::pb::envoy::config::core::v3::Node;
    use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
    use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ConfigStatus};

    use super::*;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;
    const LISTENERS: &str = "listener.v3.Listener";
    const FILTERS: &str = "core.v3.TypedExtensionConfig";

    fn config(kind: &str, status: ConfigStatus, error: Option<&str>) -> GenericXdsConfig {
        let error = error.map(|text| UpdateFailureState { details: text.to_owned(), ..Default::default() });
        let type_url = format!("type.googleapis.com/envoy.config.{kind}");
        GenericXdsConfig { type_url, config_status: status.into(), error_state: error, ..Default::default() }
    }

    fn told(id: &str, configs: Vec<GenericXdsConfig>) -> Option<(ObjectKey, ProxyState)> {
        let node = Some(Node { id: id.to_owned(), ..Default::default() });
        let message = ClientConfig { node, generic_xds_configs: configs, ..Default::default() };
        read(Any { value: message.encode_to_vec().into() }, AT)
    }

    #[test]
    fn a_proxy_stands_as_the_worse_of_its_listeners_and_filters() {
        let listeners = config(LISTENERS, ConfigStatus::Synced, None);
        let refused = config(FILTERS, ConfigStatus::Error, Some("no such\u{7}field"));
        for (what, configs, expected) in [
            ("nothing was asked for", vec![], ProxyState::Pending(AT)),
            ("taken", vec![listeners.clone()], ProxyState::Synced),
            (
                "a filter is not there",
                vec![listeners.clone(), config(FILTERS, ConfigStatus::NotSent, None)],
                ProxyState::Pending(AT),
            ),
            (
                "one is under way",
                vec![listeners.clone(), config(FILTERS, ConfigStatus::Stale, None)],
                ProxyState::Pending(AT),
            ),
            (
                "one was refused",
                vec![config(LISTENERS, ConfigStatus::Stale, None), refused],
                ProxyState::Rejected("no such field".into()),
            ),
            (
                "others",
                vec![listeners, config("cluster.v3.Cluster", ConfigStatus::Error, Some("no"))],
                ProxyState::Synced,
            ),
        ] {
            let pod = ObjectKey::new("shop", "web-1.0-abc");
            assert_eq!(told("web-1.0-abc.shop", configs), Some((pod, expected)), "{what}");
        }
    }

    #[test]
    fn what_is_no_proxy_of_a_pod_is_left_out() {
        assert_eq!(told("ztunnel", vec![]), None);
        assert_eq!(read(Any { value: b"\xff\xff".as_slice().into() }, AT), None);
        assert_eq!(read(Any { value: b"".as_slice().into() }, AT), None);
    }

    #[test]
    fn of_two_istiods_that_tell_of_a_proxy_the_worse_word_counts() {
        let mut proxies = HashMap::new();
        for state in [ProxyState::Synced, ProxyState::Rejected("no".into()), ProxyState::Pending(AT)] {
            merge(&mut proxies, ObjectKey::new("shop", "web"), state);
        }
        assert_eq!(proxies[&ObjectKey::new("shop", "web")], ProxyState::Rejected("no".into()));
    }

    #[test]
    fn a_proxy_has_not_answered_since_the_first_look_that_saw_it_so() {
        let key = |pod: &str| ObjectKey::new("shop", pod);
        let look = |at: Timestamp, states: &[(&str, ProxyState)]| {
            let proxies = states.iter().map(|(pod, state)| (key(pod), state.clone())).collect();
            Look { at, proxies, ..Look::default() }
        };
        let (then, now) = (AT, Timestamp::MAX);
        let last = look(then, &[("a", ProxyState::Pending(then)), ("b", ProxyState::Synced)]);
        let mut next = look(now, &["a", "b", "c"].map(|pod| (pod, ProxyState::Pending(now))));
        carry(&last, &mut next);
        let states = ["a", "b", "c"].map(|pod| next.proxies[&key(pod)].clone());
        assert_eq!(states, [then, now, now].map(ProxyState::Pending));
    }
}
