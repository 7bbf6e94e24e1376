//! Where a limit is enforced.

use super::refusal::Refusal;
use crate::api::Target;

/// The listeners of proxies that have the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listeners {
    pub(super) context: Context,
    /// All of them, or those of one port.
    pub(super) port: Option<u16>,
}

impl Listeners {
    /// Whether all of `others` are among these.
    pub(super) fn include(self, others: Self) -> bool {
        self.context == others.context && (self.port.is_none() || self.port == others.port)
    }
}

/// What Istio calls the context of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Context {
    Inbound,
    Outbound,
    Gateway,
}

impl Context {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Inbound => "SIDECAR_INBOUND",
            Self::Outbound => "SIDECAR_OUTBOUND",
            Self::Gateway => "GATEWAY",
        }
    }
}

/// Listeners, and which of their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) listeners: Listeners,
    /// An expression of Envoy's that holds for requests that take one of the routes; none for all requests.
    pub(super) routes: Option<String>,
}

impl Place {
    pub(super) fn of(target: &Target, gateway: bool) -> Result<Self, Refusal> {
        let context = match &*target.direction {
            _ if gateway => Context::Gateway,
            "" | "inbound" => Context::Inbound,
            "outbound" => Context::Outbound,
            other => return Err(Refusal::invalid(format!("there is no target.direction {other}"))),
        };
        let port = target.port.filter(|port| *port != 0);
        let port = port.map(u16::try_from).transpose();
        let port = port.map_err(|_| Refusal::invalid("target.port is no port"))?;
        let routes = routes(target, context, port)?;
        if context == Context::Inbound && routes.is_some() {
            return Err(Refusal::invalid(
                "requests that come in have no target.host and no target.route: match the header :authority instead",
            ));
        }
        Ok(Self { listeners: Listeners { context, port }, routes })
    }
}

fn routes(target: &Target, context: Context, port: Option<u16>) -> Result<Option<String>, Refusal> {
    let hosts = target.host.iter().map(|host| condition(host, "", context, port));
    let routes = target.route.iter().map(|route| {
        let (host, name) = route.split_once('/').unwrap_or((route, ""));
        condition(host, name, context, port)
    });
    let all: Vec<_> = hosts.chain(routes).collect::<Result<_, _>>()?;
    Ok((!all.is_empty()).then(|| all.join(" || ")))
}

/// What holds for requests to a host by a route.
fn condition(host: &str, route: &str, context: Context, port: Option<u16>) -> Result<String, Refusal> {
    // Nothing that ends a string in an expression.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._*:|/~".contains(c);
    if !host.chars().chain(route.chars()).all(plain) || host.len() + route.len() == 0 {
        return Err(Refusal::invalid(format!("{:?} is no host and no route", format!("{host}/{route}"))));
    }
    let (name, own_port) = match host.rsplit_once(':').map(|(name, port)| (name, port.parse::<u16>())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (host, None),
    };
    let host = match context {
        _ if name.is_empty() => Vec::new(),
        Context::Gateway => asked_for(name, own_port)?,
        _ => vec![virtual_host(name, own_port.or(port))],
    };
    let route = (!route.is_empty()).then(|| format!("xds.route_name == '{route}'"));
    Ok(format!("({})", host.into_iter().chain(route).collect::<Vec<_>>().join(" && ")))
}

/// Requests that are sent: istiod calls a virtual host by its host and port, by whatever name it was asked for.
fn virtual_host(name: &str, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("xds.virtual_host_name == '{name}:{port}'"),
        None => format!("xds.virtual_host_name.startsWith('{name}:')"),
    }
}

/// Requests at a gateway: istiod makes one virtual host of several with the same routes, so its name says nothing but
/// the port.
fn asked_for(name: &str, port: Option<u16>) -> Result<Vec<String>, Refusal> {
    let (any, rest) = name.strip_prefix('*').map_or((false, name), |rest| (true, rest));
    if !rest.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Err(Refusal::invalid(format!("{name:?} is no host of a gateway")));
    }
    let pattern = format!("{}{}", if any { ".*" } else { "" }, rest.replace('.', "[.]"));
    let host = format!("request.host.matches('^(?i){pattern}(:[0-9]+)?$')");
    let port = port.map(|port| format!("xds.virtual_host_name.endsWith(':{port}')"));
    Ok([host].into_iter().chain(port).collect())
}
