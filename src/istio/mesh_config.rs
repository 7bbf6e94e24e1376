use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

/// The part of Istio's mesh configuration that fences depend on: services that proxies need whatever their workload
/// calls, who sees what does not say it, and what becomes of calls to the unknown.
///
/// `defaultConfig` names some too (`tracing`, `envoyAccessLogService`), but those get clusters of their own in each
/// proxy's bootstrap, which no `Sidecar` takes away (Istio 1.31).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    extension_providers: Vec<Value>,
    default_service_export_to: Vec<String>,
    default_virtual_service_export_to: Vec<String>,
    default_destination_rule_export_to: Vec<String>,
    outbound_traffic_policy: Policy,
}

/// What becomes of calls to hosts that the mesh does not know. Istio's own default lets them out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Policy {
    mode: String,
}

impl MeshConfig {
    /// Reads the YAML of the `mesh` key of Istio's `ConfigMap`.
    ///
    /// # Errors
    /// If it is no YAML, or no mesh configuration.
    pub fn read(yaml: &str) -> Result<Self, serde_saphyr::Error> {
        serde_saphyr::from_str(yaml)
    }

    /// The words that say who sees Services and `ServiceEntry`s that do not say.
    pub fn services_export_to(&self) -> impl Iterator<Item = &str> {
        self.default_service_export_to.iter().map(String::as_str)
    }

    /// The words that say who sees `VirtualService`s that do not say.
    pub fn virtual_services_export_to(&self) -> impl Iterator<Item = &str> {
        self.default_virtual_service_export_to.iter().map(String::as_str)
    }

    /// The words that say who sees `DestinationRule`s that do not say.
    pub fn destination_rules_export_to(&self) -> impl Iterator<Item = &str> {
        self.default_destination_rule_export_to.iter().map(String::as_str)
    }

    /// Whether calls to hosts that the mesh does not know are refused, where no `Sidecar` says otherwise.
    #[must_use]
    pub fn is_registry_only(&self) -> bool {
        self.outbound_traffic_policy.mode == "REGISTRY_ONLY"
    }

    /// The hosts of the services that extension providers name (tracing, access logs, external authorization): where
    /// Telemetry, an `AuthorizationPolicy` or the mesh's defaults use a provider, istiod puts its cluster into
    /// listeners, and Envoy rejects a listener whose cluster is missing.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&str> {
        let settings =
            self.extension_providers.iter().filter_map(Value::as_object).flat_map(|one| one.values());
        let services = settings.filter_map(|settings| settings.get("service")?.as_str());
        services.map(service_host).filter(|host| !host.is_empty()).collect()
    }
}

/// The host of a service as Istio's settings name it: `host` or `namespace/host`.
#[must_use]
pub fn service_host(service: &str) -> &str {
    service.rsplit('/').next().unwrap_or(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_an_extension_provider_is_found() {
        let config = MeshConfig::read(
            "
            accessLogFile: /dev/stdout
            defaultConfig: {tracing: {zipkin: {address: 'zipkin.istio-system:9411'}}}
            defaultProviders: {tracing: [spans]}
            extensionProviders:
            - {name: spans, zipkin: {service: zipkin.tracing.svc.cluster.local, port: 9411}}
            - {name: authz, envoyExtAuthzGrpc: {service: security/authz.security.svc.cluster.local, port: '9000'}}
            - {name: logs, envoyFileAccessLog: {path: /dev/stdout}}
            - {name: metrics, prometheus: {}}
            - odd
            - {name: empty, opentelemetry: {service: ''}}
            ",
        );
        let services = ["authz.security.svc.cluster.local", "zipkin.tracing.svc.cluster.local"];
        assert_eq!(config.unwrap().services(), BTreeSet::from(services));
    }

    #[test]
    fn what_holds_where_no_object_says_otherwise_is_found() {
        let config = MeshConfig::read(
            "
            defaultServiceExportTo: ['.']
            defaultVirtualServiceExportTo: ['~']
            defaultDestinationRuleExportTo: ['*']
            outboundTrafficPolicy: {mode: REGISTRY_ONLY}
            ",
        );
        let config = config.unwrap();
        assert_eq!(config.services_export_to().collect::<Vec<_>>(), ["."]);
        assert_eq!(config.virtual_services_export_to().collect::<Vec<_>>(), ["~"]);
        assert_eq!(config.destination_rules_export_to().collect::<Vec<_>>(), ["*"]);
        assert!(config.is_registry_only());
        assert!(!MeshConfig::default().is_registry_only());
        assert!(!MeshConfig::read("outboundTrafficPolicy: {mode: ALLOW_ANY}").unwrap().is_registry_only());
    }

    #[test]
    fn a_configuration_that_is_none_is_an_error_and_an_empty_one_names_nobody() {
        assert!(MeshConfig::read("{}").unwrap().services().is_empty());
        for broken in ["extensionProviders: [", "extensionProviders: 3", "- a"] {
            assert!(MeshConfig::read(broken).is_err(), "{broken}");
        }
    }
}
