use std::sync::Arc;

/// Who a workload is: what its certificate says, apart from the trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The namespace of its pods.
    pub namespace: Arc<str>,
    /// Their service account.
    pub account: Arc<str>,
}

/// What a policy says of callers, over the path of their SPIFFE identity (`/ns/shop/sa/client`). Istio's three ways
/// to name a caller (1.31: principals, namespaces, service accounts) all come down to this one.
///
/// The trust domain is not compared: policies may write `cluster.local` for the mesh's own, whatever that is, and an
/// alias for it. A policy that means another mesh's workload of the same namespace and account therefore lists a
/// host too many, which costs nothing but its clusters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerPattern(Box<str>);

impl CallerPattern {
    /// From a principal: exact (`cluster.local/ns/shop/sa/client`), with a prefix (`cluster.local/ns/shop/*`) or with
    /// a suffix (`*/sa/client`). `None` if it cannot match a workload.
    #[must_use]
    pub fn principal(text: &str) -> Option<Self> {
        let (front, back) = (text.strip_suffix('*'), text.strip_prefix('*'));
        // Istio takes any other asterisk by the letter, and no name has one.
        if text != "*" && front.or(back).unwrap_or(text).contains('*') {
            return None;
        }
        let path = match (front, back) {
            // What stands before the path ends in the trust domain.
            (None, Some(rest)) => rest.find("/ns/").map_or(text, |at| &rest[at..]),
            (Some(rest), _) if !rest.contains('/') => "*",
            _ => &text[text.find('/')?..],
        };
        Some(Self(path.into()))
    }

    /// From a namespace, in which an asterisk stands for anything.
    #[must_use]
    pub fn namespace(text: &str) -> Self {
        Self(format!("/ns/{text}/*").into())
    }

    /// From a service account: `namespace/name`, or a name in the policy's own namespace.
    #[must_use]
    pub fn account(own_namespace: &str, text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
        Self(format!("/ns/{namespace}/sa/{name}").into())
    }

    /// Whether it means this workload.
    #[must_use]
    pub fn matches(&self, caller: &Identity) -> bool {
        let path = format!("/ns/{}/sa/{}", caller.namespace, caller.account);
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *path };
        let Some(mut left) = path.strip_prefix(first) else { return false };
        let mut parts = rest.split('*').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return left.ends_with(part);
            }
            let Some(at) = left.find(part) else { return false };
            left = &left[at + part.len()..];
        }
        false
    }

    /// The namespace and the account that it spells out, if it does: by these, policies are found.
    #[must_use]
    pub(super) fn pins(&self) -> (Option<&str>, Option<&str>) {
        let (first, last) = (self.0.split('*').next(), self.0.rsplit('*').next());
        let namespace = first.and_then(|first| first.strip_prefix("/ns/")?.split_once('/'));
        let account = last.and_then(|last| last.rsplit_once("/sa/"));
        (namespace.map(|(namespace, _)| namespace), account.map(|(_, account)| account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(namespace: &str, account: &str) -> Identity {
        Identity { namespace: namespace.into(), account: account.into() }
    }

    fn matched(pattern: &CallerPattern) -> Vec<&'static str> {
        let all = [
            ("shop", "client"),
            ("shop", "web"),
            ("bookshop", "client"),
            ("palisade-system", "global-proxy"),
        ];
        let names = ["shop/client", "shop/web", "bookshop/client", "proxy"];
        let hits = all
            .iter()
            .zip(names)
            .filter(|((namespace, account), _)| pattern.matches(&who(namespace, account)));
        hits.map(|(_, name)| name).collect()
    }

    #[test]
    fn principals_match_as_istio_matches_them() {
        let everybody = &["shop/client", "shop/web", "bookshop/client", "proxy"][..];
        for (text, callers) in [
            ("cluster.local/ns/shop/sa/client", &["shop/client"][..]),
            ("td2/ns/shop/sa/client", &["shop/client"]),
            ("cluster.local/ns/shop/sa/cli", &[]),
            ("cluster.local/ns/shop/*", &["shop/client", "shop/web"]),
            ("cluster.local/ns/shop/sa/w*", &["shop/web"]),
            ("cluster.local/ns/*", everybody),
            ("cluster.local/*", everybody),
            ("cluster*", everybody),
            ("*", everybody),
            ("*/sa/client", &["shop/client", "bookshop/client"]),
            ("*/ns/shop/sa/client", &["shop/client"]),
            ("*local/ns/shop/sa/client", &["shop/client"]),
            ("*shop/sa/client", &["shop/client", "bookshop/client"]),
        ] {
            let pattern = CallerPattern::principal(text).unwrap();
            assert_eq!(matched(&pattern), callers, "{text}");
        }
        for nobody in ["", "client", "*/ns/shop/*", "cluster.local/ns/*/sa/client"] {
            assert!(CallerPattern::principal(nobody).is_none_or(|p| matched(&p).is_empty()), "{nobody}");
        }
    }

    #[test]
    fn namespaces_and_accounts_match_as_istio_matches_them() {
        for (text, callers) in [
            ("shop", &["shop/client", "shop/web"][..]),
            ("*shop", &["shop/client", "shop/web", "bookshop/client"]),
            ("b*p", &["bookshop/client"]),
            ("sho", &[]),
        ] {
            assert_eq!(matched(&CallerPattern::namespace(text)), callers, "{text}");
        }
        assert_eq!(matched(&CallerPattern::account("shop", "client")), ["shop/client"]);
        assert_eq!(matched(&CallerPattern::account("shop", "bookshop/client")), ["bookshop/client"]);
    }

    #[test]
    fn a_pattern_matches_nobody_whose_pins_differ() {
        for (pattern, pins) in [
            (CallerPattern::account("shop", "client"), (Some("shop"), Some("client"))),
            (CallerPattern::namespace("shop"), (Some("shop"), None)),
            (CallerPattern::namespace("b*p"), (None, None)),
            (CallerPattern::principal("*/sa/client").unwrap(), (None, Some("client"))),
            (CallerPattern::principal("td/ns/shop/sa/w*").unwrap(), (Some("shop"), None)),
            (CallerPattern::principal("td/ns/sh*").unwrap(), (None, None)),
            (CallerPattern::principal("*").unwrap(), (None, None)),
        ] {
            assert_eq!(pattern.pins(), pins, "{pattern:?}");
        }
    }
}
