//! Lines of Prometheus's text format (0.0.4): `name{label="value",…} value timestamp`.

use std::borrow::Cow;

/// A line that is no sample, comment or blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One sample.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl Sample<'_> {
    /// The value of a label; empty if there is none, as in Prometheus.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
    }
}

/// Reads a line. Of a sample whose name is none of interest only the name is read.
pub(super) fn parse(line: &str, of_interest: impl Fn(&str) -> bool) -> Result<Option<Sample<'_>>, Malformed> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, rest) = word(line, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))?;
    if !of_interest(name) {
        return Ok(None);
    }
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    Ok(Some(Sample { name, labels, value: value(rest)? }))
}

/// The longest beginning of such bytes, which are ASCII; at least one.
fn word(text: &str, is_part: impl Fn(u8) -> bool) -> Result<(&str, &str), Malformed> {
    let end = text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).ok_or(Malformed)?;
    if word.is_empty() { Err(Malformed) } else { Ok((word, rest)) }
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Reads labels up to the brace that ends them.
fn labels(mut text: &str) -> Result<(Labels<'_>, &str), Malformed> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, rest) = word(text, |byte| byte.is_ascii_alphanumeric() || byte == b'_')?;
        let rest = rest.trim_start().strip_prefix('=').ok_or(Malformed)?;
        let (value, rest) = quoted(rest.trim_start())?;
        labels.push((name, value));
        let rest = rest.trim_start();
        text = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return Err(Malformed),
        };
    }
}

/// Reads a value in quotes, in which a backslash stands before a quote, a backslash, or the `n` of a new line.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
    let text = text.strip_prefix('"').ok_or(Malformed)?;
    let mut escaped = String::new();
    let mut begin = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let part = text.get(begin..at).ok_or(Malformed);
        match byte {
            b'"' if begin == 0 => return Ok((Cow::Borrowed(part?), &text[at + 1..])),
            b'"' => return Ok((Cow::Owned(escaped + part?), &text[at + 1..])),
            b'\\' => {
                escaped.push_str(part?);
                escaped.push(match bytes.next() {
                    Some((_, b'n')) => '\n',
                    Some((_, b'"')) => '"',
                    Some((_, b'\\')) => '\\',
                    _ => return Err(Malformed),
                });
                begin = at + 2;
            }
            _ => {}
        }
    }
    Err(Malformed)
}

/// Reads the value, and the time that may stand behind it.
fn value(text: &str) -> Result<f64, Malformed> {
    let mut words = text.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or(Malformed)?;
    let time_is_one = words.next().is_none_or(|time| time.parse::<i64>().is_ok());
    if time_is_one && words.next().is_none() { Ok(value) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Option<Sample<'_>>, Malformed> {
        parse(line, |_| true)
    }

    #[test]
    fn samples_are_read_as_envoy_writes_them() {
        let line = r#"envoy_cluster_upstream_cx_total{cluster_name="outbound|9080||reviews.shop.svc.cluster.local"} 12"#;
        let sample = read(line).unwrap().unwrap();
        assert_eq!((sample.name, sample.value), ("envoy_cluster_upstream_cx_total", 12.0));
        assert_eq!(sample.label("cluster_name"), "outbound|9080||reviews.shop.svc.cluster.local");
        assert_eq!(sample.label("reporter"), "");
        let odd = read("a:b{ x = \"1\\\\2\\\"3\\n\" , y=\"\", } 1.5e3 1700000000000 ").unwrap().unwrap();
        assert_eq!((odd.name, odd.label("x"), odd.label("y"), odd.value), ("a:b", "1\\2\"3\n", "", 1500.0));
        assert!(read("up NaN").unwrap().unwrap().value.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_told_apart_from_what_is_none_of_interest() {
        for nothing in ["", "  ", "# TYPE envoy_x counter", "#"] {
            assert_eq!(read(nothing), Ok(None), "{nothing}");
        }
        assert_eq!(parse("other{ broken", |name| name == "up"), Ok(None));
        for broken in [
            "up",
            "up x",
            "up 1 2 3",
            "up 1 soon",
            "{} 1",
            "é 1",
            "up{a=\"1\" 2",
            "up{a=1} 2",
            "up{=\"1\"} 2",
            "up{a=\"1\"b=\"2\"} 2",
            "up{a=\"\\x\"} 1",
            "up{a=\"\\",
            "up{a=\"é",
            "up{a} 1",
            "up{,} 1",
        ] {
            assert_eq!(read(broken), Err(Malformed), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in "[a-z_:][a-z0-9_:]{0,8}",
            labels in prop::collection::vec(("[a-z_][a-z0-9_]{0,6}", any::<String>()), 0..5),
            value in any::<f64>(),
        ) {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let pairs: Vec<_> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
            let line = format!("{name}{{{}}} {value:?}", pairs.join(","));
            let sample = read(&line).unwrap().unwrap();
            prop_assert_eq!(sample.name, &name);
            prop_assert!(sample.value.to_bits() == value.to_bits() || value.is_nan());
            let read: Vec<_> = sample.labels.iter().map(|(key, text)| ((*key).to_owned(), text.to_string())).collect();
            prop_assert_eq!(read, labels);
        }

        #[test]
        fn nothing_makes_it_panic(line in "[ -~é\\\\\"{}=,#\n]{0,80}") {
            let _ = read(&line);
        }
    }
}
