//! `$(NAME)` references in environment values, commands and arguments.

use std::collections::BTreeMap;

/// Replaces `$(NAME)` by the value of NAME as Kubernetes does: an unknown name stays as written, `$$`
/// stands for one `$`, and so `$$(NAME)` becomes the text `$(NAME)`.
#[must_use]
pub(super) fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        rest = expand_one(rest, values, &mut out);
    }
    out.push_str(rest);
    out
}

/// Handles what follows one `$` and returns what is left.
fn expand_one<'a>(rest: &'a str, values: &BTreeMap<String, String>, out: &mut String) -> &'a str {
    if let Some(after) = rest.strip_prefix('$') {
        out.push('$');
        return after;
    }
    let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
    let Some((name, after)) = reference else {
        out.push('$');
        return rest;
    };
    if let Some(value) = values.get(name) {
        out.push_str(value);
    } else {
        out.push_str("$(");
        out.push_str(name);
        out.push(')');
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_values() {
        let values: BTreeMap<String, String> =
            [("A", "1"), ("B", "$(A)"), ("EMPTY", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(EMPTY)|", "|"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("cost: 5$", "cost: 5$"),
            ("$()", "$()"),
            ("é$(A)", "é1"),
        ] {
            assert_eq!(expand(text, &values), expected, "{text}");
        }
    }
}
