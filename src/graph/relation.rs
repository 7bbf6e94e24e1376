use std::borrow::Borrow;
use std::cmp::Ordering;

use equivalent::{Comparable, Equivalent};
use imbl::OrdSet;

/// Which values belong to a key: any number of them, in order.
///
/// All pairs stand in one tree. In a mesh most keys have one value or two, and a set of its own for each of them would take
/// ten times the room: a node of [`OrdSet`] has 16 places (imbl 7).
#[derive(Clone, Debug)]
pub(super) struct Relation<K: Ord, V: Ord>(OrdSet<(K, V)>);

impl<K: Ord + Clone, V: Ord + Clone> Relation<K, V> {
    /// Puts a value to a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.insert((key, value));
    }

    /// Takes a value from a key.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, value: &V)
    where
        K: Borrow<Q>,
    {
        self.0.remove(&Pair(key, value));
    }

    /// The values of a key.
    pub(super) fn of<'a, Q: Ord + ?Sized>(&'a self, key: &Q) -> impl Iterator<Item = &'a V> + use<'a, Q, K, V>
    where
        K: Borrow<Q>,
    {
        let mut pairs = self.0.range(First(key)..);
        let own = pairs.next().filter(|(own, _)| own.borrow() == key);
        let own_key = own.map(|(own, _)| own);
        let rest = pairs.take_while(move |(next, _)| Some(next) == own_key);
        own.into_iter().chain(rest).map(|(_, value)| value)
    }

    /// The key itself, as it is kept here; `None` if it has no value.
    pub(super) fn key<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.0.range(First(key)..).next().map(|(own, _)| own).filter(|own| (*own).borrow() == key)
    }

    /// The keys that have a value.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        let mut last = None;
        self.0.iter().map(|(key, _)| key).filter(move |key| last.replace(*key) != Some(*key))
    }
}

impl<K: Ord, V: Ord> Default for Relation<K, V> {
    fn default() -> Self {
        Self(OrdSet::default())
    }
}

/// A pair, borrowed.
struct Pair<'a, Q: ?Sized, V>(&'a Q, &'a V);

impl<Q: Ord + ?Sized, K: Borrow<Q>, V: Ord> Equivalent<(K, V)> for Pair<'_, Q, V> {
    fn equivalent(&self, (key, value): &(K, V)) -> bool {
        self.0 == key.borrow() && self.1 == value
    }
}

impl<Q: Ord + ?Sized, K: Borrow<Q>, V: Ord> Comparable<(K, V)> for Pair<'_, Q, V> {
    fn compare(&self, (key, value): &(K, V)) -> Ordering {
        self.0.cmp(key.borrow()).then_with(|| self.1.cmp(value))
    }
}

/// What stands before every pair of a key, and after all of the keys before it.
pub(super) struct First<'a, Q: ?Sized>(pub(super) &'a Q);

impl<Q: Ord + ?Sized, K: Borrow<Q>, V> Equivalent<(K, V)> for First<'_, Q> {
    fn equivalent(&self, _: &(K, V)) -> bool {
        false
    }
}

impl<Q: Ord + ?Sized, K: Borrow<Q>, V> Comparable<(K, V)> for First<'_, Q> {
    fn compare(&self, (key, _): &(K, V)) -> Ordering {
        self.0.cmp(key.borrow()).then(Ordering::Less)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_relation_is_what_a_map_of_sets_is(
            changes in prop::collection::vec((any::<bool>(), "[a-c]{0,2}", 0..4_u8), 0..200),
        ) {
            let mut relation = Relation::<Box<str>, u8>::default();
            let mut sets = BTreeMap::<String, BTreeSet<u8>>::new();
            for (comes, key, value) in changes {
                if comes {
                    relation.insert(key.as_str().into(), value);
                    sets.entry(key).or_default().insert(value);
                } else {
                    relation.remove(key.as_str(), &value);
                    sets.entry(key).or_default().remove(&value);
                }
                sets.retain(|_, set| !set.is_empty());
            }
            for key in ["", "a", "aa", "b", "cb", "z"] {
                let expected = sets.get(key);
                prop_assert_eq!(relation.key(key).is_some(), expected.is_some());
                prop_assert!(relation.of(key).eq(expected.into_iter().flatten()));
            }
            prop_assert!(relation.keys().map(|key| &**key).eq(sets.keys().map(String::as_str)));
        }
    }
}
