//! Whose calls a stream tells of.

use bytes::Bytes;
use prost::Message as _;

use super::Peers;
use super::wire::{Identifier, Message, Node};
use crate::graph::{Caller, MAX_NAME, ObjectKey};

/// The longest identity of a node: its kind, its address, its name and namespace, and its DNS domain.
const MAX_NODE: usize = 1024;
/// The longest name of a Namespace.
const MAX_NAMESPACE: usize = 63;

/// Who speaks on a stream: each entry for itself, or one proxy of its own calls.
#[derive(Clone, Debug)]
pub(super) enum Speaker {
    /// Each entry says who called: the address of a pod.
    Entries,
    /// A proxy that has not said yet who it is.
    Stranger,
    /// The proxy of a pod.
    Proxy(Caller),
}

/// Why nobody knows whose calls a stream tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Unidentified {
    /// Its first message has no identifier.
    #[error("the first message does not identify its node")]
    Missing,
    /// The identifier is none, or that of no pod's proxy.
    #[error("the node's id is not that of a pod's proxy (kind~address~name.namespace~domain)")]
    Invalid,
    /// A later message has another one than the first.
    #[error("the identifier has changed")]
    Changed,
}

impl Unidentified {
    /// A word for metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Missing => "no_identifier",
            Self::Invalid => "invalid_identifier",
            Self::Changed => "changed_identifier",
        }
    }
}

impl Speaker {
    /// Who may speak on a stream of such a peer.
    pub(super) fn new(peers: Peers) -> Self {
        match peers {
            Peers::GlobalProxy => Self::Entries,
            Peers::Sidecars => Self::Stranger,
        }
    }

    /// Notes what a message says of who sends it. Envoy says so in the first one of a stream only.
    pub(super) fn hear(&mut self, message: &Message) -> Result<(), Unidentified> {
        if matches!(self, Self::Entries) {
            return Ok(());
        }
        let said = message.identifier();
        if said.is_empty() {
            return self.caller().map(|_| ()).ok_or(Unidentified::Missing);
        }
        let caller = proxy(said)?;
        if self.caller().is_some_and(|first| *first != caller) {
            return Err(Unidentified::Changed);
        }
        *self = Self::Proxy(caller);
        Ok(())
    }

    /// The caller of all calls on the stream; `None` if each entry says for itself.
    pub(super) fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Proxy(caller) => Some(caller),
            Self::Entries | Self::Stranger => None,
        }
    }
}

/// The pod of the proxy that an identifier names.
fn proxy(identifier: Bytes) -> Result<Caller, Unidentified> {
    let invalid = |_| Unidentified::Invalid;
    let identifier = Identifier::decode(identifier).map_err(invalid)?;
    let node = Node::decode(identifier.node).map_err(invalid)?;
    pod(&node.id).map(Caller::Pod).ok_or(Unidentified::Invalid)
}

/// The pod in a node's id, `sidecar~10.244.0.7~client-1.shop~shop.svc.cluster.local` (`ParseServiceNodeWithMetadata` in
/// Istio's `pilot/pkg/model`). Gateways and waypoints have such ids too; their pods are in no fence.
fn pod(id: &[u8]) -> Option<ObjectKey> {
    let id = str::from_utf8(id).ok().filter(|id| id.len() <= MAX_NODE)?;
    let mut parts = id.split('~');
    let (_kind, _address, name, _domain) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A pod's name may have dots, a Namespace's has none.
    let (name, namespace) = name.rsplit_once('.').filter(|_| parts.next().is_none())?;
    let fits = |text: &str, most| !text.is_empty() && text.len() <= most;
    (fits(name, MAX_NAME) && fits(namespace, MAX_NAMESPACE)).then(|| ObjectKey::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Node;
    use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
    use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
    use proptest::prelude::*;

    use super::*;

    const CLIENT: &str = "sidecar~10.244.0.7~client-1.shop~shop.svc.cluster.local";

    /// A message of the full kind, read as ours.
    fn message(id: Option<&str>) -> Message {
        let node =
            |id: &str| Node { id: id.to_owned(), cluster: "client.shop".to_owned(), ..Node::default() };
        let identifier =
            id.map(|id| Identifier { node: Some(node(id)), log_name: "http_envoy_accesslog".to_owned() });
        let full = StreamAccessLogsMessage { identifier, log_entries: None };
        Message::decode(&*full.encode_to_vec()).unwrap()
    }

    fn hear(ids: &[Option<&str>]) -> Result<Option<Caller>, Unidentified> {
        let mut speaker = Speaker::new(Peers::Sidecars);
        ids.iter().try_for_each(|id| speaker.hear(&message(*id)))?;
        Ok(speaker.caller().cloned())
    }

    #[test]
    fn a_stream_is_of_the_pod_that_its_first_message_names() {
        let client = Some(Caller::Pod(ObjectKey::new("shop", "client-1")));
        assert_eq!(hear(&[Some(CLIENT), None, None]), Ok(client.clone()));
        assert_eq!(hear(&[Some(CLIENT), Some(CLIENT)]), Ok(client), "it is said again");
        let dotted = "router~fd00::7~a.b.c.shop~shop.svc.cluster.local";
        assert_eq!(hear(&[Some(dotted)]), Ok(Some(Caller::Pod(ObjectKey::new("shop", "a.b.c")))));
    }

    #[test]
    fn a_stream_of_nobody_or_of_two_is_refused() {
        let other = "sidecar~10.244.0.8~client-2.shop~shop.svc.cluster.local";
        assert_eq!(hear(&[None, Some(CLIENT)]), Err(Unidentified::Missing));
        assert_eq!(hear(&[Some(CLIENT), Some(other)]), Err(Unidentified::Changed));
        let long = format!("sidecar~10.0.0.1~client.shop~{}", "a".repeat(MAX_NODE));
        let names = format!("sidecar~10.0.0.1~{}.shop~x", "a".repeat(MAX_NAME + 1));
        for id in [
            "",
            "client",
            "a~b~c",
            "a~b~.shop~d",
            "a~b~client.~d",
            "a~b~client~d",
            "a~b~c.d~e~f",
            long.as_str(),
            names.as_str(),
        ] {
            assert_eq!(hear(&[Some(id)]), Err(Unidentified::Invalid), "{id}");
        }
    }

    #[test]
    fn the_global_proxy_need_not_say_who_it_is() {
        let mut speaker = Speaker::new(Peers::GlobalProxy);
        for said in [None, Some(CLIENT), Some("nonsense")] {
            assert_eq!(speaker.hear(&message(said)), Ok(()));
            assert_eq!(speaker.caller(), None);
        }
    }

    proptest! {
        #[test]
        fn no_identifier_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), id in "[a-z~.]{0,40}") {
            let _ = proxy(bytes.into());
            let _ = pod(id.as_bytes());
        }
    }
}
