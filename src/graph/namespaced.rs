use std::sync::Arc;

use imbl::OrdMap;

use super::{HashMap, ObjectKey};

/// Objects, to be found by their key as well as by their namespace.
#[derive(Clone, Debug)]
pub(super) struct Namespaced<V>(HashMap<Arc<str>, OrdMap<Arc<str>, Arc<V>>>);

impl<V> Namespaced<V> {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<V>> {
        self.0.get(&key.namespace)?.get(&key.name)
    }

    /// Puts an object there, and gives the one that was there before.
    pub(super) fn insert(&mut self, key: ObjectKey, value: Arc<V>) -> Option<Arc<V>> {
        self.0.entry(key.namespace).or_default().insert(key.name, value)
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<V>> {
        let of_namespace = self.0.get_mut(&key.namespace)?;
        let old = of_namespace.remove(&key.name);
        if of_namespace.is_empty() {
            self.0.remove(&key.namespace);
        }
        old
    }

    /// The objects of a namespace, in the order of their names.
    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = &Arc<V>> + use<'_, V> {
        self.0.get(namespace).into_iter().flat_map(OrdMap::values)
    }

    /// Those of a namespace, and those of the root namespace, which are about the workloads of all.
    pub(super) fn about(&self, namespace: &str, root: &str) -> impl Iterator<Item = &Arc<V>> + use<'_, V> {
        let elsewhere = (root != namespace).then(|| self.of(root));
        self.of(namespace).chain(elsewhere.into_iter().flatten())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.0.values().flat_map(OrdMap::values)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.0
            .iter()
            .flat_map(|(namespace, of)| of.keys().map(|name| ObjectKey::new(namespace.clone(), name.clone())))
    }
}

impl<V> Default for Namespaced<V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}
