//! A container's environment variables.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, Pod};

use super::{
    context::{PodContext, container_named},
    expansion::expand,
    fields,
    image::Program,
    objects::Data,
};

/// Environment variables, by name.
pub(super) type Environment = BTreeMap<String, String>;

/// The environment of `container`: what every container gets, what its image has, `envFrom`, then `env`.
///
/// # Errors
/// When a reference that is not optional cannot be resolved; Kubernetes calls it
/// `CreateContainerConfigError`.
pub(super) async fn environment(
    context: &PodContext,
    container: &Container,
    program: Program,
) -> Result<Environment> {
    let pod = context.pod();
    let mut values = common(&pod);
    for source in container.env_from.iter().flatten() {
        from_object(context, source, &mut values).await?;
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(context, &pod, container, variable, &values).await? {
            values.insert(variable.name.clone(), value);
        }
    }
    if matches!(program, Program::StandIn | Program::BedApp) {
        values.insert("POD_NAME".to_owned(), pod.metadata.name.clone().unwrap_or_default());
        values.insert("POD_NAMESPACE".to_owned(), pod.metadata.namespace.clone().unwrap_or_default());
    }
    Ok(values)
}

/// What every container has. Of the variables that Kubernetes makes for Services only those of the API
/// server are here: clients in the cluster find it by them.
fn common(pod: &Pod) -> Environment {
    let spec = pod.spec.as_ref();
    let hostname = spec.and_then(|spec| spec.hostname.clone()).or_else(|| pod.metadata.name.clone());
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOSTNAME", hostname.as_deref().unwrap_or_default()),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
        ("KUBERNETES_PORT_443_TCP", "tcp://10.96.0.1:443"),
        ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
        ("KUBERNETES_PORT_443_TCP_PORT", "443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn from_object(context: &PodContext, source: &EnvFromSource, values: &mut Environment) -> Result<()> {
    let data = if let Some(reference) = &source.config_map_ref {
        context.objects.config_map(&reference.name, reference.optional).await?
    } else if let Some(reference) = &source.secret_ref {
        context.objects.secret(&reference.name, reference.optional).await?
    } else {
        None
    };
    let prefix = source.prefix.as_deref().unwrap_or_default();
    for (key, value) in data.into_iter().flatten() {
        if let Ok(value) = String::from_utf8(value) {
            values.insert(format!("{prefix}{key}"), value);
        }
    }
    Ok(())
}

async fn value(
    context: &PodContext,
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    values: &Environment,
) -> Result<Option<String>> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), values)));
    };
    referred(context, pod, container, source).await.with_context(|| format!("env {:?}", variable.name))
}

async fn referred(
    context: &PodContext,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>> {
    if let Some(selector) = &source.field_ref {
        return fields::field(pod, context.ip, &selector.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let named = selector.container_name.as_deref().and_then(|name| container_named(pod, name));
        return fields::resource(named.unwrap_or(container), selector).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let data = context.objects.config_map(&selector.name, selector.optional).await?;
        return key(data, &selector.name, &selector.key, selector.optional);
    }
    if let Some(selector) = &source.secret_key_ref {
        let data = context.objects.secret(&selector.name, selector.optional).await?;
        return key(data, &selector.name, &selector.key, selector.optional);
    }
    bail!("a valueFrom of this kind is not supported")
}

fn key(data: Option<Data>, object: &str, key: &str, optional: Option<bool>) -> Result<Option<String>> {
    let found = data.and_then(|mut data| data.remove(key));
    match found {
        Some(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => bail!("couldn't find key {key} in {object}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_be_optional() {
        let data = || Some(Data::from([("a".to_owned(), b"1".to_vec())]));
        assert_eq!(key(data(), "o", "a", None).unwrap(), Some("1".to_owned()));
        assert_eq!(key(data(), "o", "b", Some(true)).unwrap(), None);
        assert_eq!(key(None, "o", "a", Some(true)).unwrap(), None);
        assert!(key(data(), "o", "b", None).is_err());
    }
}
