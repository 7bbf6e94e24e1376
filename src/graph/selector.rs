use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels of a pod, or those that a selector asks for. There are many such sets, and few labels in one: sorted by name
/// they take a fraction of what a map does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Whether an object with these labels has every label of `selector`. An empty selector selects nothing:
    /// in Kubernetes a Service without a selector has no pods.
    #[must_use]
    pub fn satisfy(&self, selector: &Labels) -> bool {
        !selector.is_empty() && selector.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// The labels themselves, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same as Kubernetes' objects have them.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self::from(&map)
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(map: &BTreeMap<String, String>) -> Self {
        Self(map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
    }
}

/// How a fence says which pods it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodSelection {
    /// The pods of its namespace with these labels.
    Labels(Labels),
    /// The pods of the Service of its name.
    #[default]
    Service,
    /// The same; without such a Service, the pods whose service label ([`MeshWide::service_label`]) has that name.
    ///
    /// [`MeshWide::service_label`]: super::MeshWide::service_label
    ServiceOrLabel,
}
