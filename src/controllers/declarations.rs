//! The watches of what declares dependencies.

use super::watch::Kind;
use super::{envoy_filters, policies};
use crate::graph::{self, Change, ExportTo, Labels, ObjectKey};
use crate::istio::{AuthorizationPolicy, DestinationRule, EnvoyFilter};

pub(super) const POLICIES: Kind<AuthorizationPolicy> = Kind {
    changed: policies::changed,
    gone: Change::PolicyGone,
    known: |graph| graph.policy_keys().collect(),
};

pub(super) const DESTINATION_RULES: Kind<DestinationRule> = Kind {
    changed: |rule| Change::DestinationRule(destination_rule(rule)),
    gone: Change::DestinationRuleGone,
    known: |graph| graph.destination_rule_keys().collect(),
};

pub(super) const EXTENSIONS: Kind<EnvoyFilter> = Kind {
    changed: |filter| Change::Extension(envoy_filters::facts(filter)),
    gone: Change::ExtensionGone,
    known: |graph| graph.extension_keys().collect(),
};

fn destination_rule(rule: &DestinationRule) -> graph::DestinationRule {
    let (key, spec) = (ObjectKey::of(rule), &rule.spec);
    let subsets = spec.subsets.iter().map(|of| (of.name.as_str().into(), Labels::from(&of.labels)));
    let selector = spec.workload_selector.as_ref();
    // Whatever it says (Istio 1.31, `setDestinationRules`).
    let own = [".".to_owned()];
    let export_to = if selector.is_some() { &own[..] } else { &spec.export_to };
    graph::DestinationRule {
        host: spec.host.as_str().into(),
        subsets: subsets.collect(),
        own_transport: spec.has_own_transport(),
        selector: selector.map(|selector| Labels::from(&selector.match_labels)).unwrap_or_default(),
        export_to: ExportTo::parse(export_to.iter().map(String::as_str), &key.namespace),
        key,
    }
}
