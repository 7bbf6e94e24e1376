use std::collections::BTreeSet;

use super::Scope;
use crate::api::Observed;
use crate::graph::Registry;

/// Counts what the workload keeps of the mesh, and what it does without. A mesh that grew or shrank by less than a
/// tenth is not news.
pub(super) fn observe(kept: &Scope, registry: &Registry, old: Option<Observed>) -> Observed {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let Scope::Hosts(kept) = kept else { return Observed { kept: number(registry.len()), cut: 0 } };
    let hosts: BTreeSet<_> = kept.iter().filter_map(|host| Some(host.split_once('/')?.1)).collect();
    let kept = number(hosts.len());
    let new = Observed { kept, cut: number(registry.len()).saturating_sub(kept) };
    let is_news = |old: &Observed| old.kept != kept || old.cut.abs_diff(new.cut) > (old.kept + old.cut) / 10;
    old.filter(|old| !is_news(old)).unwrap_or(new)
}
