use std::sync::Arc;

use regex::Regex;
use serde::Deserialize;

use super::is_host_name;

/// A rule of the operator's configuration by which hosts have further names: Slime's `domainAliases`, in its syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainAlias {
    /// A regular expression. The rule is for the hosts in which it matches just once.
    pub pattern: String,
    /// The further names, in which `$name` and `${name}` stand for the pattern's groups. `template` in some of Slime's
    /// samples.
    #[serde(alias = "template")]
    pub templates: Vec<String>,
}

/// The further names that rules give to hosts. What a rule says of one host it says always: there is no state.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Regex,
    templates: Vec<String>,
}

impl Aliases {
    /// The rules that can be understood; `refuse` hears why the others cannot. Slime drops all rules with a bad one.
    #[must_use]
    pub fn new(rules: &[DomainAlias], mut refuse: impl FnMut(&DomainAlias, regex::Error)) -> Self {
        let read = |rule: &DomainAlias| match Regex::new(&rule.pattern) {
            Ok(pattern) => Some(Rule { pattern, templates: rule.templates.clone() }),
            Err(error) => {
                refuse(rule, error);
                None
            }
        };
        Self { rules: rules.iter().filter_map(read).collect() }
    }

    /// The further names of a host; an output that is no host name is none.
    pub(super) fn of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = Arc<str>> + 'a {
        self.rules.iter().flat_map(move |rule| rule.names(host))
    }
}

impl Rule {
    fn names(&self, host: &str) -> Vec<Arc<str>> {
        let mut matches = self.pattern.captures_iter(host);
        let (Some(groups), None) = (matches.next(), matches.next()) else { return Vec::new() };
        let expand = |template: &String| {
            let mut name = String::new();
            groups.expand(template, &mut name);
            Some(Arc::from(name)).filter(|name: &Arc<str>| is_host_name(name) && **name != *host)
        };
        self.templates.iter().filter_map(expand).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str, templates: &[&str], host: &str) -> Vec<Arc<str>> {
        let rule = DomainAlias {
            pattern: pattern.to_owned(),
            templates: templates.iter().map(|template| (*template).to_owned()).collect(),
        };
        let aliases = Aliases::new(&[rule], |rule, error| panic!("{}: {error}", rule.pattern));
        aliases.of(host).collect()
    }

    #[test]
    fn a_rule_gives_names_to_hosts_that_it_matches_just_once() {
        let pattern = r"^(?P<service>[^.]+)\.(?P<namespace>[^.]+)\.svc\.cluster\.local$";
        let templates =
            ["$namespace.$service.mailsaas", "${service}-x.example.com", "", "no host", "*.$service.io"];
        assert_eq!(
            names(pattern, &templates, "a.b.svc.cluster.local")
                .iter()
                .map(|name| &**name)
                .collect::<Vec<_>>(),
            ["b.a.mailsaas", "a-x.example.com", "*.a.io"]
        );
        assert!(names(pattern, &templates, "www.example.com").is_empty());
        assert!(names("e", &["x.example.com"], "e.e").is_empty(), "it matches twice");
        assert!(names("^a", &["a.b"], "a.b").is_empty(), "no host is its own alias");
    }

    #[test]
    fn a_bad_rule_leaves_the_others_in_force() {
        let rule = |pattern: &str| DomainAlias {
            pattern: pattern.to_owned(),
            templates: vec!["x.example.com".to_owned()],
        };
        let mut refused = Vec::new();
        let rules = [rule("("), rule("^a")];
        let aliases = Aliases::new(&rules, |rule, _| refused.push(rule.pattern.clone()));
        assert_eq!((refused, aliases.of("a.b").count()), (vec!["(".to_owned()], 1));
    }

    #[test]
    fn a_rule_is_read_as_slime_wrote_it() {
        for field in ["templates", "template"] {
            let rule: DomainAlias =
                serde_json::from_str(&format!(r#"{{"pattern": "a", "{field}": ["b.c"]}}"#)).unwrap();
            assert_eq!(rule.templates, ["b.c"]);
        }
    }
}
