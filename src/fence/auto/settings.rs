use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde::{Deserialize, Deserializer};

use crate::api::Mode;
use crate::graph::Labels;

/// What the operator's configuration says of automatic fences.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AutoFence {
    /// Whether there are any.
    pub enabled: bool,
    /// Whether a Service is fenced about which no label says anything (Slime's `defaultFence`).
    pub default: bool,
    /// The namespaces that may have automatic fences.
    pub namespaces: NamespaceLists,
    /// If there is any, a Namespace must match one (Slime's `managementSelectors`).
    pub management_selectors: Vec<ManagementSelector>,
    /// The label by which pods without a Service are fenced (Slime's `fenceLabelKeyAlias`).
    #[serde(deserialize_with = "unless_empty")]
    pub workload_label: Option<WorkloadLabel>,
    /// The mode that they are created in.
    pub mode: Mode,
    /// The revision of Istio that automatic fences are for.
    #[serde(deserialize_with = "unless_empty")]
    pub revision: Option<String>,
}

/// Nothing is fenced unasked, and what is fenced automatically is observed first.
impl Default for AutoFence {
    fn default() -> Self {
        Self {
            enabled: false,
            default: false,
            namespaces: NamespaceLists::default(),
            management_selectors: Vec::new(),
            workload_label: None,
            mode: Mode::Observe,
            revision: None,
        }
    }
}

impl AutoFence {
    /// Whether a Namespace of this name and with these labels may have automatic fences.
    pub(super) fn covers(&self, name: &str, labels: &Labels) -> bool {
        let NamespaceLists { allow, deny } = &self.namespaces;
        let listed = |list: &[String]| list.iter().any(|listed| listed == name);
        (allow.is_empty() || listed(allow)) && !listed(deny) && self.selects(labels)
    }

    fn selects(&self, labels: &Labels) -> bool {
        let selectors = &self.management_selectors;
        if selectors.is_empty() {
            return true;
        }
        let labels = labels.to_map();
        selectors.iter().any(|selector| selector.0.matches(&labels))
    }
}

/// Lists of namespaces, by their exact names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespaceLists {
    /// If there is any, no other (Slime's `whiteNamespaceList`).
    pub allow: Vec<String>,
    /// Not these, even if they are allowed (Slime's `blackNamespaceList`).
    pub deny: Vec<String>,
}

/// A label selector on Namespaces.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "LabelSelector")]
pub struct ManagementSelector(Selector);

impl TryFrom<LabelSelector> for ManagementSelector {
    type Error = String;

    fn try_from(selector: LabelSelector) -> Result<Self, Self::Error> {
        let selector = Selector::try_from(selector).map_err(|error| error.to_string())?;
        // As likely as not a word misspelt, and it would let every namespace in.
        if selector.selects_all() {
            return Err("an empty selector selects every namespace: leave it out".to_owned());
        }
        Ok(Self(selector))
    }
}

/// The label by which pods without a Service are fenced, and the word for it in the names of their fences.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct WorkloadLabel {
    /// The key of the label.
    pub key: String,
    /// The word, `app` if none is given.
    pub alias: String,
}

/// How the name of a workload's fence ends.
const SUFFIX: &str = ".workload.identity";

impl WorkloadLabel {
    /// The name of the fence of the pods with this value of the label (Slime's); `None` if no object can have it.
    pub(super) fn fence_of(&self, value: &str) -> Option<String> {
        let may_begin_and_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let within = value.split('.').all(|part| {
            part.starts_with(|c| c == '-' || may_begin_and_end(c))
                && part.ends_with(may_begin_and_end)
                && part.chars().all(|c| c == '-' || may_begin_and_end(c))
        });
        let later = value.split('.').skip(1).all(|part| part.starts_with(may_begin_and_end));
        (within && later).then(|| format!("{}-{value}{SUFFIX}", self.alias))
    }

    /// The value of the label by the name of a fence: the way back from [`Self::fence_of`].
    pub(super) fn value_of<'a>(&self, fence: &'a str) -> Option<&'a str> {
        fence.strip_prefix(&*self.alias)?.strip_prefix('-')?.strip_suffix(SUFFIX)
    }
}

impl TryFrom<String> for WorkloadLabel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (key, alias) = text.split_once(':').unwrap_or((&text, ""));
        let alias = if alias.is_empty() { "app" } else { alias };
        let inner = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
        if key.is_empty() || alias.len() > 63 || alias.starts_with('-') || !alias.chars().all(inner) {
            return Err(format!("{text:?} is no label key with an optional alias (\"app:app\")"));
        }
        Ok(Self { key: key.to_owned(), alias: alias.to_owned() })
    }
}

/// The chart's values say "none" with an empty text.
fn unless_empty<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<String, Error: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(T::try_from).transpose().map_err(serde::de::Error::custom)
}
