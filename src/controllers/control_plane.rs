use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;

use super::watch::Kind;
use crate::graph::{Change, Istiod, ObjectKey};

/// The pods of istiod, by the label that its chart gives them (Istio 1.31).
pub(super) const SELECTOR: &str = "app=istiod";

/// Whether proxies can connect to istiod.
pub(super) const ISTIODS: Kind<Pod> = Kind {
    changed: |pod| Change::Istiod(ObjectKey::of(pod), istiod(pod)),
    gone: |key| Change::IstiodGone(key, Timestamp::now()),
    known: |graph| graph.pushes().istiods().cloned().collect(),
};

/// That they change is all that is asked: istiod hears of it too, often when pods and Services have long been still, as when
/// the slices of a deleted namespace are collected.
pub(super) const ENDPOINTS: Kind<PartialObjectMeta<EndpointSlice>> =
    Kind { changed: |_| Change::Endpoints, gone: |_| Change::Endpoints, known: |_| Vec::new() };

fn istiod(pod: &Pod) -> Istiod {
    let mut conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    let since = ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
    Istiod {
        ready: ready.is_some_and(|condition| condition.status == "True")
            && pod.metadata.deletion_timestamp.is_none(),
        since: since.unwrap_or(Timestamp::UNIX_EPOCH),
        address: address.and_then(|address| address.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(metadata: &Value, conditions: &Value) -> Istiod {
        istiod(
            &serde_json::from_value(
                json!({ "metadata": metadata, "status": { "podIP": "10.0.0.7", "conditions": conditions } }),
            )
            .unwrap(),
        )
    }

    #[test]
    fn an_istiod_can_be_reached_while_it_is_ready_and_stays() {
        let ready = |status: &str| {
            json!([
                { "type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-01T00:00:00Z" },
                { "type": "Ready", "status": status, "lastTransitionTime": "2026-11-02T00:00:00Z" },
            ])
        };
        let since: Timestamp = "2026-11-02T00:00:00Z".parse().unwrap();
        let address = "10.0.0.7".parse().ok();
        let going = json!({ "deletionTimestamp": "2026-11-03T00:00:00Z" });
        for (what, metadata, conditions, expected) in [
            ("ready", json!({}), ready("True"), Istiod { ready: true, since, address }),
            ("not ready", json!({}), ready("False"), Istiod { ready: false, since, address }),
            ("going", going, ready("True"), Istiod { ready: false, since, address }),
            (
                "starting",
                json!({}),
                json!([]),
                Istiod { ready: false, since: Timestamp::UNIX_EPOCH, address },
            ),
        ] {
            assert_eq!(read(&metadata, &conditions), expected, "{what}");
        }
    }
}
