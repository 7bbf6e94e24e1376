use std::collections::BTreeSet;

/// Istio's word for every host of every namespace.
const EVERYTHING: &str = "*/*";
/// Istio's word for no host: a listener that lists nothing at all is refused (Istio 1.31's validation).
const NOTHING: &str = "~/*";

/// A set of egress hosts (`namespace/host`), or all there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every host of the mesh.
    Everything,
    /// These hosts.
    Hosts(BTreeSet<String>),
}

impl Scope {
    /// No host at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Hosts(BTreeSet::new())
    }

    /// Whether there is no host in it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Hosts(hosts) if hosts.is_empty())
    }

    /// Whether every host of it is also in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Everything) => true,
            (Self::Everything, Self::Hosts(_)) => false,
            (Self::Hosts(mine), Self::Hosts(theirs)) => mine.is_subset(theirs),
        }
    }

    /// The hosts of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Hosts(mine), Self::Hosts(theirs)) => Self::Hosts(mine | theirs),
            _ => Self::Everything,
        }
    }

    /// The hosts of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everything, scope) | (scope, Self::Everything) => scope.clone(),
            (Self::Hosts(mine), Self::Hosts(theirs)) => Self::Hosts(mine & theirs),
        }
    }

    /// The smallest scope that can be written down and, together with `other`, covers this one.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        match (self, other) {
            (_, Self::Everything) => Self::nothing(),
            (Self::Everything, Self::Hosts(_)) => Self::Everything,
            (Self::Hosts(mine), Self::Hosts(theirs)) => Self::Hosts(mine - theirs),
        }
    }

    /// As a `Sidecar` lists it: sorted.
    #[must_use]
    pub fn to_hosts(&self) -> Vec<String> {
        match self {
            Self::Everything => vec![EVERYTHING.to_owned()],
            Self::Hosts(hosts) if hosts.is_empty() => vec![NOTHING.to_owned()],
            Self::Hosts(hosts) => hosts.iter().cloned().collect(),
        }
    }

    /// From what a `Sidecar` lists.
    #[must_use]
    pub fn from_hosts(hosts: &[String]) -> Self {
        if hosts.iter().any(|host| host == EVERYTHING) {
            return Self::Everything;
        }
        Self::Hosts(hosts.iter().filter(|host| *host != NOTHING).cloned().collect())
    }
}

impl FromIterator<String> for Scope {
    fn from_iter<I: IntoIterator<Item = String>>(hosts: I) -> Self {
        Self::Hosts(hosts.into_iter().collect())
    }
}
