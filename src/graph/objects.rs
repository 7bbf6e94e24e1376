use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{ExportTo, Labels, ObjectKey, OwnEntry};

/// A host together with the namespace that defines it: what a `Sidecar` imports, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EgressHost {
    /// The namespace of the Service or `ServiceEntry`.
    pub namespace: Arc<str>,
    /// The full host name.
    pub host: Arc<str>,
}

impl fmt::Display for EgressHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.host)
    }
}

/// What matters of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its uid: another one of the same name is another Service.
    pub uid: Arc<str>,
    /// Its own labels.
    pub labels: Labels,
    /// The pods that it stands for; empty if it has no selector.
    pub selector: Labels,
    /// Whether it has no cluster IP.
    pub headless: bool,
    /// Its cluster IPs.
    pub addresses: Vec<IpAddr>,
    /// The host that it is another name for, if it is an `ExternalName` Service.
    pub external_name: Option<Arc<str>>,
    /// The namespaces that see it.
    pub export_to: ExportTo,
}

/// What matters of a `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The hosts that it defines; a name may begin with `*.`.
    pub hosts: Vec<Arc<str>>,
    /// The namespaces that see it.
    pub export_to: ExportTo,
    /// The pods of its namespace that it stands for; empty if it has no selector.
    pub selector: Labels,
    /// Those of its hosts of which only istiod tells the address to call.
    pub resolved_by_istiod: Vec<Arc<str>>,
    /// What matters besides, if Palisade wrote it.
    pub own: Option<OwnEntry>,
}

impl ServiceEntry {
    /// The namespaces that see it, as far as it matters where its hosts can be learned. A host of our own entries is learned without
    /// the global proxy seeing it, so that it counts as hidden from nobody.
    pub(super) fn learnable(&self) -> &ExportTo {
        if self.own.is_some() { &ExportTo::Everyone } else { &self.export_to }
    }
}
