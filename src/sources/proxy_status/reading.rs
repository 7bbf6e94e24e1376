use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;

use super::wire::{Any, ClientConfig, GenericXdsConfig};
use crate::graph::ObjectKey;
use crate::limiter::ProxyState;

/// What limits are made of: listeners, and the configuration of their filters.
const OF_LIMITS: [&str; 2] = [
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
];
/// `envoy.service.status.v3.ConfigStatus.SYNCED`
const SYNCED: i32 = 1;
/// `envoy.service.status.v3.ConfigStatus.NOT_SENT`
const NOT_SENT: i32 = 2;
/// How much of a proxy's words is kept.
const WORDS: usize = 300;

/// What istiod tells of a proxy: its pod, and how it stands. Others than pods are left out, and what cannot be read.
pub(super) fn read(resource: Any) -> Option<(ObjectKey, ProxyState)> {
    let ClientConfig { node, configs } = ClientConfig::decode(resource.value).ok()?;
    // istiod (1.31) names a proxy by its pod and its namespace. Only the former may have dots.
    let (name, namespace) = node.as_ref()?.id.rsplit_once('.')?;
    let of_limits = configs.iter().filter(|config| OF_LIMITS.contains(&&*config.type_url));
    Some((ObjectKey::new(namespace, name), of_limits.map(state).max().unwrap_or(ProxyState::Synced)))
}

fn state(config: &GenericXdsConfig) -> ProxyState {
    match (&config.error, config.status) {
        (Some(error), _) => ProxyState::Rejected(words(&error.details)),
        (None, SYNCED | NOT_SENT) => ProxyState::Synced,
        (None, _) => ProxyState::Pending,
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

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::admin::v3::UpdateFailureState;
    use envoy_types::pb::envoy::config::core::v3::Node;
    use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
    use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ConfigStatus};

    use super::*;

    fn config(kind: &str, status: ConfigStatus, error: Option<&str>) -> GenericXdsConfig {
        let error = error.map(|text| UpdateFailureState { details: text.to_owned(), ..Default::default() });
        let type_url = format!("type.googleapis.com/envoy.config.{kind}");
        GenericXdsConfig { type_url, config_status: status.into(), error_state: error, ..Default::default() }
    }

    fn told(id: &str, configs: Vec<GenericXdsConfig>) -> Option<(ObjectKey, ProxyState)> {
        let node = Some(Node { id: id.to_owned(), ..Default::default() });
        let message = ClientConfig { node, generic_xds_configs: configs, ..Default::default() };
        read(Any { value: message.encode_to_vec().into() })
    }

    #[test]
    fn a_proxy_stands_as_the_worse_of_its_listeners_and_filters() {
        const LISTENERS: &str = "listener.v3.Listener";
        const FILTERS: &str = "core.v3.TypedExtensionConfig";
        let rejected = ProxyState::Rejected("no such field".into());
        for (what, configs, expected) in [
            ("nothing was sent", vec![], ProxyState::Synced),
            ("taken", vec![config(LISTENERS, ConfigStatus::Synced, None)], ProxyState::Synced),
            ("no filters", vec![config(FILTERS, ConfigStatus::NotSent, None)], ProxyState::Synced),
            (
                "one is under way",
                vec![
                    config(LISTENERS, ConfigStatus::Synced, None),
                    config(FILTERS, ConfigStatus::Stale, None),
                ],
                ProxyState::Pending,
            ),
            (
                "one was refused",
                vec![
                    config(LISTENERS, ConfigStatus::Stale, None),
                    config(FILTERS, ConfigStatus::Error, Some("no such\u{7}field")),
                ],
                rejected,
            ),
            (
                "others",
                vec![config("cluster.v3.Cluster", ConfigStatus::Error, Some("no"))],
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
        assert_eq!(read(Any { value: b"\xff\xff".as_slice().into() }), None);
        assert_eq!(read(Any { value: b"".as_slice().into() }), None);
    }

    #[test]
    fn of_two_istiods_that_tell_of_a_proxy_the_worse_word_counts() {
        let mut proxies = HashMap::new();
        for state in [ProxyState::Synced, ProxyState::Rejected("no".into()), ProxyState::Pending] {
            merge(&mut proxies, ObjectKey::new("shop", "web"), state);
        }
        assert_eq!(proxies[&ObjectKey::new("shop", "web")], ProxyState::Rejected("no".into()));
    }
}
