//! What Slime had learned for a fence, so that who comes from there starts warm.

use crate::api::{DependencySource, ServiceFence};
use crate::graph::{MAX_HOSTS, Want, Wanted, is_dns_name};

/// The labels under which Slime kept a host (`LL/controllers/servicefence_controller.go` of v0.9.0).
const LABELS: [&str; 2] = ["destination_service", "request_host"];

/// The hosts of `status.metricStatus`, once: as soon as the status is ours, they are in `status.domains`.
pub(super) fn wants(fence: &ServiceFence) -> Vec<Want> {
    let Some(status) = fence.status.as_ref().filter(|status| status.observed_generation.is_none()) else {
        return Vec::new();
    };
    let hosts = status.metric_status.keys().filter_map(|key| host(key));
    let wanted = hosts.map(|host| Want::always(Wanted::Host(host.into()), DependencySource::Slime));
    // What a client put into a Host header was kept there for ever.
    wanted.take(MAX_HOSTS as usize).collect()
}

/// The host of a key such as `{destination_service="reviews.shop.svc.cluster.local"}`. A name without a dot says not
/// which namespace it was called from, and could be anything.
fn host(key: &str) -> Option<&str> {
    let (label, value) = key.strip_prefix('{')?.strip_suffix('}')?.split_once('=')?;
    let value = value.strip_prefix('"')?.strip_suffix('"')?;
    let name = value.split_once(':').map_or(value, |(name, _port)| name);
    let known = LABELS.iter().any(|known| label.starts_with(known));
    (known && name.contains('.') && is_dns_name(name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ServiceFenceSpec, ServiceFenceStatus};

    #[test]
    fn a_key_of_slimes_is_read_if_it_names_one_full_host() {
        for (key, expected) in [
            (
                r#"{destination_service="reviews.shop.svc.cluster.local"}"#,
                Some("reviews.shop.svc.cluster.local"),
            ),
            (
                r#"{destination_service="reviews.shop.svc.cluster.local:9080"}"#,
                Some("reviews.shop.svc.cluster.local"),
            ),
            (r#"{request_host="www.example.com"}"#, Some("www.example.com")),
            (r#"{request_host="reviews"}"#, None),
            (r#"{request_host="*"}"#, None),
            (r#"{request_host="foo_bar.com"}"#, None),
            (r#"{request_host="10.0.0.1:80"}"#, None),
            (r#"{request_host="[2001:db8::1]:80"}"#, None),
            (r#"{request_host="Www.example.com"}"#, None),
            (r#"{request_host=""}"#, None),
            (r#"{source_app="a.b"}"#, None),
            (r#"{destination_service="a.b", response_code="200"}"#, None),
            ("reviews.shop.svc.cluster.local", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(host(key), expected, "{key}");
        }
    }

    #[test]
    fn no_more_than_the_cap_is_taken_over_and_nothing_once_the_status_is_ours() {
        let keys =
            (0..2 * MAX_HOSTS).map(|i| (format!("{{request_host=\"h{i}.example.com\"}}"), "1".to_owned()));
        let status = ServiceFenceStatus { metric_status: keys.collect(), ..ServiceFenceStatus::default() };
        let mut fence = ServiceFence::new("client", ServiceFenceSpec::default());
        fence.status = Some(status);
        assert_eq!(wants(&fence).len(), MAX_HOSTS as usize);
        fence.status.iter_mut().for_each(|status| status.observed_generation = Some(1));
        assert!(wants(&fence).is_empty());
    }
}
