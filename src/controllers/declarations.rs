//! The watches of what declares dependencies.

use super::policies;
use super::watch::Kind;
use crate::graph::Change;
use crate::istio::AuthorizationPolicy;

pub(super) const POLICIES: Kind<AuthorizationPolicy> = Kind {
    changed: policies::changed,
    gone: Change::PolicyGone,
    known: |graph| graph.policy_keys().cloned().collect(),
};
