use std::sync::Arc;

use imbl::OrdMap;

use super::relation::Relation;

/// What a host name begins with that stands for all names that end like it.
const WILDCARD: &str = "*.";

/// Whether `host` is `name`, or one of those that `name` stands for. Istio's `host.Name.SubsetOf`.
pub(super) fn is_covered_by(host: &str, name: &str) -> bool {
    host == name || ending(name).is_some_and(|ending| host.len() > ending.len() && host.ends_with(ending))
}

/// Whether one of two names is the other, or stands for it.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    is_covered_by(one, other) || is_covered_by(other, one)
}

/// `.example.com` of `*.example.com`.
fn ending(name: &str) -> Option<&str> {
    name.starts_with(WILDCARD).then(|| &name[1..])
}

/// Whether a name stands for all that end like it.
pub(super) fn is_wildcard(name: &str) -> bool {
    name.starts_with(WILDCARD)
}

/// The wildcards that cover a host other than itself, the closest one first.
pub(super) fn wildcards(host: &str) -> impl Iterator<Item = String> + '_ {
    let own = host.strip_prefix(WILDCARD).unwrap_or(host);
    let dots = own.match_indices('.').map(|(at, _)| format!("*{}", &own[at..]));
    dots.filter(move |wildcard| wildcard != host)
}

/// A set of host names that finds those which a wildcard covers without looking at the others.
#[derive(Clone, Debug, Default)]
pub(super) struct HostNames(OrdMap<String, Arc<str>>);

impl HostNames {
    pub(super) fn insert(&mut self, host: Arc<str>) {
        self.0.insert(backwards(&host), host);
    }

    pub(super) fn remove(&mut self, host: &str) {
        self.0.remove(&backwards(host));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names that a wildcard covers, itself among them if it is there.
    pub(super) fn covered_by(&self, wildcard: &str) -> impl Iterator<Item = &Arc<str>> {
        let start = ending(wildcard).map(backwards);
        let all = start.clone().map(|start| self.0.range(start..)).into_iter().flatten();
        all.take_while(move |(name, _)| start.as_ref().is_some_and(|start| name.starts_with(start.as_str())))
            .map(|(_, host)| host)
    }
}

/// Which values belong to a host name, to be found also by a name that stands for it, or that it stands for.
#[derive(Clone, Debug)]
pub(super) struct ByHost<V: Ord> {
    values: Relation<Arc<str>, V>,
    names: HostNames,
}

impl<V: Ord + Clone> ByHost<V> {
    pub(super) fn insert(&mut self, host: Arc<str>, value: V) {
        self.names.insert(host.clone());
        self.values.insert(host, value);
    }

    pub(super) fn remove(&mut self, host: &str, value: &V) {
        self.values.remove(host, value);
        if self.values.key(host).is_none() {
            self.names.remove(host);
        }
    }

    /// The values of a host, of the wildcards that cover it, and of what it covers.
    pub(super) fn overlapping<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a V> {
        // In order, wildcards come first: mostly there are none.
        let any = self.values.keys().next().is_some_and(|first| is_wildcard(first));
        let covering = any.then(|| wildcards(host)).into_iter().flatten();
        let covering = covering.flat_map(|name| self.values.of(name.as_str()));
        let covered = self.names.covered_by(host).flat_map(|name| self.values.of(name));
        self.values.of(host).chain(covering).chain(covered)
    }
}

impl<V: Ord> Default for ByHost<V> {
    fn default() -> Self {
        Self { values: Relation::default(), names: HostNames::default() }
    }
}

/// Names that end alike begin alike when they are read backwards, and stand together in order.
fn backwards(host: &str) -> String {
    host.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_what_ends_like_it() {
        for (host, name, expected) in [
            ("www.example.com", "www.example.com", true),
            ("www.example.com", "*.example.com", true),
            ("a.b.example.com", "*.example.com", true),
            ("*.b.example.com", "*.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("example.com", "*.example.com", false),
            ("*.example.com", "www.example.com", false),
            ("*.com", "*.example.com", false),
            ("wwwexample.com", "*.example.com", false),
            ("www.example.com", "www", false),
        ] {
            assert_eq!(is_covered_by(host, name), expected, "{host} by {name}");
        }
    }

    #[test]
    fn the_wildcards_of_a_host_come_closest_first() {
        assert_eq!(wildcards("a.b.com").collect::<Vec<_>>(), ["*.b.com", "*.com"]);
        assert_eq!(wildcards("*.b.com").collect::<Vec<_>>(), ["*.com"]);
        assert_eq!(wildcards("localhost").count(), 0);
    }

    #[test]
    fn names_are_found_by_a_wildcard_that_covers_them() {
        let all = ["www.example.com", "*.example.com", "example.com", "a.b.example.com", "www.example.org"];
        let mut names = HostNames::default();
        for host in all {
            names.insert(host.into());
        }
        let covered = |names: &HostNames, wildcard| {
            let mut found: Vec<_> = names.covered_by(wildcard).map(ToString::to_string).collect();
            found.sort();
            found
        };
        assert_eq!(covered(&names, "*.example.com"), ["*.example.com", "a.b.example.com", "www.example.com"]);
        assert_eq!(covered(&names, "www.example.com"), Vec::<String>::new(), "it is no wildcard");
        names.remove("a.b.example.com");
        assert_eq!(covered(&names, "*.example.com"), ["*.example.com", "www.example.com"]);
    }
}
