use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

/// A set of few, mostly one: sorted, in one piece of memory, and copied by reference. The graph has several of them for each
/// host that a workload uses, and a copy of what stands beside a host that is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<T>(Arc<[T]>);

impl<T: Ord + Clone> Few<T> {
    /// Puts in what is not there yet.
    pub(super) fn extend(&mut self, more: &[T]) {
        if more.iter().any(|one| !self.contains(one)) {
            *self = self.iter().chain(more).cloned().collect();
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self(all.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Few<T> {
    fn from(all: [T; N]) -> Self {
        all.into_iter().collect()
    }
}
