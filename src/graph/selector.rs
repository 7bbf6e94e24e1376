use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels of a pod, or those that a selector asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<BTreeMap<String, String>>);

impl Labels {
    /// Whether an object with these labels has every label of `selector`. An empty selector selects nothing:
    /// in Kubernetes a Service without a selector has no pods.
    #[must_use]
    pub fn satisfy(&self, selector: &Labels) -> bool {
        !selector.0.is_empty() && selector.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The labels themselves.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(Arc::new(map))
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
