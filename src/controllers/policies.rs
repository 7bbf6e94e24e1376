use crate::graph::{self, CallerPattern, Change, Labels, ObjectKey};
use crate::istio::{AuthorizationPolicy, AuthorizationPolicySpec, Condition, Source};

/// What an `AuthorizationPolicy` means for the graph.
pub(super) fn changed(policy: &AuthorizationPolicy) -> Change {
    let (key, spec) = (ObjectKey::of(policy), &policy.spec);
    let selector =
        spec.selector.as_ref().map(|selector| Labels::from(&selector.match_labels)).unwrap_or_default();
    let mut callers = callers(spec, &key.namespace);
    callers.sort();
    callers.dedup();
    Change::Policy(graph::Policy { key, selector, targets: targets(spec), callers })
}

/// The Services that a policy is attached to. One that is attached to a gateway has none, and is about no workload.
fn targets(spec: &AuthorizationPolicySpec) -> Option<Vec<std::sync::Arc<str>>> {
    let targets: Vec<_> = spec.target_refs.iter().chain(&spec.target_ref).collect();
    let services =
        targets.iter().filter(|target| target.kind == "Service").map(|target| target.name.as_str().into());
    (!targets.is_empty()).then(|| services.collect())
}

/// All callers that a policy names. Being left out of what is refused (`notPrincipals` of a `DENY`) is as much of a
/// difference as being let in.
fn callers(spec: &AuthorizationPolicySpec, namespace: &str) -> Vec<CallerPattern> {
    let sources =
        spec.rules.iter().flat_map(|rule| &rule.from).flat_map(|from| of_source(&from.source, namespace));
    let conditions =
        spec.rules.iter().flat_map(|rule| &rule.when).flat_map(|when| of_condition(when, namespace));
    sources.chain(conditions).collect()
}

fn of_source(source: &Source, namespace: &str) -> Vec<CallerPattern> {
    let principals = source.principals.iter().chain(&source.not_principals);
    let namespaces = source.namespaces.iter().chain(&source.not_namespaces);
    let accounts = source.service_accounts.iter().chain(&source.not_service_accounts);
    let principals = principals.filter_map(|text| CallerPattern::principal(text));
    let namespaces = namespaces.map(|text| CallerPattern::namespace(text));
    let accounts = accounts.map(|text| CallerPattern::account(namespace, text));
    principals.chain(namespaces).chain(accounts).collect()
}

fn of_condition(condition: &Condition, namespace: &str) -> Vec<CallerPattern> {
    let values = condition.values.iter().chain(&condition.not_values);
    match condition.key.as_str() {
        "source.principal" => values.filter_map(|text| CallerPattern::principal(text)).collect(),
        "source.namespace" => values.map(|text| CallerPattern::namespace(text)).collect(),
        "source.serviceAccount" => values.map(|text| CallerPattern::account(namespace, text)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> graph::Policy {
        let metadata = json!({ "namespace": "bank", "name": "vault" });
        let policy: AuthorizationPolicy =
            serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        let Change::Policy(policy) = changed(&policy) else { panic!("not a policy") };
        policy
    }

    #[test]
    fn every_way_to_name_a_caller_is_read() {
        let source =
            |field: &str, value: &str| json!({ "rules": [{ "from": [{ "source": { field: [value] } }] }] });
        let when = |key: &str, field: &str, value: &str| json!({ "rules": [{ "when": [{ "key": key, field: [value] }] }] });
        let principal = CallerPattern::principal("td/ns/shop/sa/client").unwrap();
        for spec in [
            source("principals", "td/ns/shop/sa/client"),
            source("notPrincipals", "td/ns/shop/sa/client"),
            source("serviceAccounts", "shop/client"),
            source("notServiceAccounts", "shop/client"),
            when("source.principal", "values", "td/ns/shop/sa/client"),
            when("source.principal", "notValues", "td/ns/shop/sa/client"),
            when("source.serviceAccount", "values", "shop/client"),
        ] {
            assert_eq!(read(&spec).callers, std::slice::from_ref(&principal), "{spec}");
        }
        for spec in [
            source("namespaces", "shop"),
            source("notNamespaces", "shop"),
            when("source.namespace", "values", "shop"),
            when("source.namespace", "notValues", "shop"),
        ] {
            assert_eq!(read(&spec).callers, [CallerPattern::namespace("shop")], "{spec}");
        }
        for spec in [
            json!({}),
            json!({ "rules": [{ "to": [{ "operation": { "paths": ["/x"] } }] }] }),
            source("ipBlocks", "10.0.0.0/8"),
            source("requestPrincipals", "issuer/subject"),
            when("request.headers[x]", "values", "shop"),
        ] {
            assert_eq!(read(&spec).callers, [], "{spec}");
        }
        assert_eq!(
            read(&source("serviceAccounts", "teller")).callers,
            [CallerPattern::account("bank", "teller")]
        );
    }

    #[test]
    fn a_policy_is_about_workloads_or_about_services() {
        let policy = read(&json!({ "selector": { "matchLabels": { "app": "vault" } } }));
        assert_eq!((policy.selector.iter().count(), policy.targets), (1, None));
        for spec in [
            json!({ "targetRefs": [{ "kind": "Service", "group": "", "name": "vault" }] }),
            json!({ "targetRef": { "kind": "Service", "group": "", "name": "vault" } }),
        ] {
            assert_eq!(read(&spec).targets, Some(vec!["vault".into()]), "{spec}");
        }
        let gateway = json!({ "targetRefs": [{ "kind": "Gateway", "name": "vault" }] });
        assert_eq!(read(&gateway).targets, Some(Vec::new()));
    }
}
