use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::names::overlap;
use super::{Known, Labels};
use crate::api::DependencySource;

/// What somebody asks for without a call having been seen, until when, and who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The hosts.
    pub hosts: Wanted,
    /// How long.
    pub lifetime: Lifetime,
    /// Who asks.
    pub source: DependencySource,
}

/// Hosts that can be asked for together; what they stand for changes with the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One host, or with `*.` before it all that end so.
    Host(Arc<str>),
    /// The Services of a namespace.
    Namespace(Arc<str>),
    /// The Services of all namespaces that have these labels; none without a label.
    Labels(Labels),
}

/// How long something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// For as long as it is asked for.
    Always,
    /// Until then.
    Until(Timestamp),
    /// While it is called at least that often, counted from `base` if no call was seen since.
    WhileCalled {
        /// The longest pause between two calls.
        within: SignedDuration,
        /// What counts as the first call.
        base: Timestamp,
        /// Whether the fence's status says that it was not.
        over: bool,
    },
}

impl Want {
    /// What always holds: how the operator's configuration and most specs ask.
    #[must_use]
    pub fn always(hosts: Wanted, source: DependencySource) -> Self {
        Self { hosts, lifetime: Lifetime::Always, source }
    }

    /// Its name in a fence's status, if it is one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match &self.hosts {
            Wanted::Host(host) => Some(host.to_string()),
            Wanted::Namespace(namespace) => Some(format!("{namespace}/*")),
            Wanted::Labels(_) => None,
        }
    }
}

impl Wanted {
    /// From a key of `spec.host` or an entry of `stableHost`: a host, or `namespace/*`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix("/*") {
            Some(namespace) => Self::Namespace(namespace.into()),
            None => Self::Host(text.into()),
        }
    }

    /// The word by which what is no host is found when a namespace or a label changes. A selector is found by one of its labels;
    /// one without labels by nothing.
    pub(super) fn word(&self) -> Option<Arc<str>> {
        match self {
            Self::Host(_) => None,
            Self::Namespace(namespace) => Some(namespace_word(namespace)),
            Self::Labels(selector) => selector.iter().next().map(|(key, value)| label_word(key, value)),
        }
    }

    /// Whether a call of a host that was learned is one of what is asked for.
    #[must_use]
    pub fn includes(&self, host: &str, known: &Known) -> bool {
        let mut namespaces = known.namespaces.iter();
        self.concerns(host, None) || namespaces.any(|namespace| self.concerns(host, Some(namespace)))
    }

    /// Whether it makes a difference to it that `host` comes or goes.
    pub(super) fn concerns(&self, host: &str, namespace: Option<&str>) -> bool {
        match self {
            Self::Host(want) => overlap(host, want),
            Self::Namespace(want) => namespace == Some(want),
            Self::Labels(_) => false,
        }
    }
}

/// A word that is no host.
pub(super) fn namespace_word(namespace: &str) -> Arc<str> {
    format!("{namespace}/*").into()
}

/// A word that is neither a host nor a namespace's.
pub(super) fn label_word(key: &str, value: &str) -> Arc<str> {
    format!("{key}={value}").into()
}
