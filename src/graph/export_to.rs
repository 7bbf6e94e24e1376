use std::collections::BTreeSet;
use std::sync::Arc;

/// The namespaces that see a Service or `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportTo {
    /// All.
    #[default]
    Everyone,
    /// These.
    Only(BTreeSet<Arc<str>>),
}

impl ExportTo {
    /// From Istio's words: `*` for all, `.` for the object's own namespace `own`, `~` for none, or a namespace. No word
    /// means what the mesh's defaults say, which are taken to be Istio's own: all.
    #[must_use]
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>, own: &str) -> Self {
        let words: BTreeSet<_> = words.into_iter().map(str::trim).filter(|word| !word.is_empty()).collect();
        if words.is_empty() || words.contains("*") {
            return Self::Everyone;
        }
        let named = words.into_iter().filter(|word| *word != "~");
        Self::Only(named.map(|word| if word == "." { own } else { word }).map(Arc::from).collect())
    }

    /// The namespaces that see what `namespace` does not; none if it does.
    pub(super) fn hidden_from(&self, namespace: &str) -> impl Iterator<Item = &Arc<str>> {
        let only = match self {
            Self::Only(only) if !only.contains(namespace) => Some(only),
            _ => None,
        };
        only.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_istios() {
        let only = |names: &[&str]| ExportTo::Only(names.iter().map(|name| Arc::from(*name)).collect());
        for (words, expected) in [
            ("", ExportTo::Everyone),
            ("*", ExportTo::Everyone),
            (".,*", ExportTo::Everyone),
            (".", only(&["shop"])),
            ("., web ", only(&["shop", "web"])),
            ("~", only(&[])),
        ] {
            assert_eq!(ExportTo::parse(words.split(','), "shop"), expected, "{words}");
        }
    }

    #[test]
    fn what_a_namespace_sees_is_hidden_from_nobody_on_its_account() {
        let hidden = |words: &str| {
            let export_to = ExportTo::parse(words.split(','), "shop");
            export_to.hidden_from("mesh").map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(hidden("."), ["shop"]);
        assert_eq!(hidden(".,web"), ["shop", "web"]);
        for seen in ["", "*", "mesh", ".,mesh"] {
            assert!(hidden(seen).is_empty(), "{seen}");
        }
    }
}
