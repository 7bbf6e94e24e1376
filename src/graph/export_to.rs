use std::collections::BTreeSet;
use std::sync::Arc;

/// The namespaces that see a Service, a `ServiceEntry`, a `VirtualService` or a `DestinationRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportTo {
    /// Those that the mesh configuration says of objects that say nothing ([`DefaultExport`]).
    #[default]
    Unsaid,
    /// All.
    Everyone,
    /// These.
    Only(BTreeSet<Arc<str>>),
}

impl ExportTo {
    /// From Istio's words: `*` for all, `.` for the object's own namespace `own`, `~` for none, or a namespace.
    #[must_use]
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>, own: &str) -> Self {
        let words: BTreeSet<_> = words.into_iter().map(str::trim).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            return Self::Unsaid;
        }
        if words.contains("*") {
            return Self::Everyone;
        }
        let named = words.into_iter().filter(|word| *word != "~");
        Self::Only(named.map(|word| if word == "." { own } else { word }).map(Arc::from).collect())
    }

    /// Whether `namespace` sees an object of `own`.
    pub(super) fn includes(&self, namespace: &str, own: &str, default: DefaultExport) -> bool {
        match (self, default) {
            (Self::Everyone, _) | (Self::Unsaid, DefaultExport::Everyone) => true,
            (Self::Only(only), _) => only.contains(namespace),
            (Self::Unsaid, DefaultExport::Own) => own == namespace,
            (Self::Unsaid, DefaultExport::Nobody) => false,
        }
    }

    /// The namespaces that see an object of `own` that `namespace` does not see; none if it does.
    pub(super) fn hidden_from<'a>(
        &'a self,
        namespace: &str,
        own: &'a Arc<str>,
        default: DefaultExport,
    ) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let (only, unsaid) = match self {
            Self::Only(only) if !only.contains(namespace) => (Some(only), None),
            Self::Unsaid if default == DefaultExport::Own && **own != *namespace => (None, Some(own)),
            _ => (None, None),
        };
        only.into_iter().flatten().chain(unsaid)
    }
}

/// Which namespaces see objects that say nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultExport {
    /// All.
    #[default]
    Everyone,
    /// The object's own.
    Own,
    /// None.
    Nobody,
}

impl DefaultExport {
    /// From the words of the mesh configuration. istiod heeds `.` before `*`, and here no namespace by name
    /// (Istio 1.31, `PushContext.IsServiceVisible`); without a word it is `*`.
    #[must_use]
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: BTreeSet<_> = words.into_iter().collect();
        match () {
            () if words.contains(".") => Self::Own,
            () if words.is_empty() || words.contains("*") => Self::Everyone,
            () => Self::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_istios() {
        let only = |names: &[&str]| ExportTo::Only(names.iter().map(|name| Arc::from(*name)).collect());
        for (words, expected) in [
            ("", ExportTo::Unsaid),
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
        let hidden = |words: &str, default| {
            let export_to = ExportTo::parse(words.split(','), "shop");
            let own = "shop".into();
            export_to.hidden_from("mesh", &own, default).map(ToString::to_string).collect::<Vec<_>>()
        };
        for default in [DefaultExport::Everyone, DefaultExport::Own, DefaultExport::Nobody] {
            assert_eq!(hidden(".", default), ["shop"]);
            assert_eq!(hidden(".,web", default), ["shop", "web"]);
            for seen in ["*", "mesh", ".,mesh"] {
                assert!(hidden(seen, default).is_empty(), "{seen}");
            }
            let expected: &[&str] = if default == DefaultExport::Own { &["shop"] } else { &[] };
            assert_eq!(hidden("", default), expected, "{default:?}");
        }
        let unsaid = ExportTo::Unsaid;
        assert_eq!(unsaid.hidden_from("mesh", &"mesh".into(), DefaultExport::Own).count(), 0, "its own");
    }

    #[test]
    fn a_default_is_read_as_istiod_reads_it() {
        for (words, expected) in [
            (&[][..], DefaultExport::Everyone),
            (&["*"], DefaultExport::Everyone),
            (&["."], DefaultExport::Own),
            (&["*", "."], DefaultExport::Own),
            (&["~"], DefaultExport::Nobody),
            (&["shop"], DefaultExport::Nobody),
        ] {
            assert_eq!(DefaultExport::parse(words.iter().copied()), expected, "{words:?}");
        }
    }
}
