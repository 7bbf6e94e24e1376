//! Which requests a limit is for: Envoy's actions, each of which adds an entry to a request's descriptor if the request
//! matches.

use std::net::IpAddr;

use regex::Regex;
use serde_json::{Value, json};

use super::refusal::Refusal;
use crate::api::Match;

/// What of Rust's regular expressions Envoy's (RE2) does not have, or reads differently.
const NOT_RE2: [&str; 11] = ["&&", "--", "~~", r"\b{", r"\<", r"\>", r"\u", r"\U", "(?R", "(?x", "(?u"];
/// How many addresses a descriptor may list: each one is a bucket of its own.
const MAX_SOURCES: usize = 64;

/// The action that tells the caller's address, and the key of its entry.
pub(super) const REMOTE_ADDRESS: &str = "remote_address";

/// An action, without the descriptor entry that it adds: its name, and its own fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Action {
    pub(super) name: &'static str,
    pub(super) fields: Value,
    /// Whether each value has a bucket of its own.
    pub(super) separate: bool,
}

impl Action {
    /// The key of the entry that it adds: Envoy has a fixed one for the caller's address.
    pub(super) fn key(&self, number: usize) -> String {
        if self.name == REMOTE_ADDRESS { REMOTE_ADDRESS.to_owned() } else { format!("match-{number}") }
    }

    /// One that tells whether a request matches.
    fn matching(name: &'static str, fields: Value) -> Self {
        Self { name, fields, separate: false }
    }

    /// One that tells a value of the request.
    fn separating(name: &'static str, fields: Value) -> Self {
        Self { name, fields, separate: true }
    }
}

/// What a limit's `match` asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matchers {
    /// What a request must all have.
    pub(super) all: Vec<Action>,
    /// The addresses of callers, each with a bucket of its own. None: whoever calls.
    pub(super) sources: Vec<Action>,
}

impl Matchers {
    pub(super) fn of(matches: &[Match]) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for (number, of) in matches.iter().enumerate() {
            found.add(of).map_err(|refusal| Refusal {
                message: format!("match[{number}]: {}", refusal.message),
                ..refusal
            })?;
        }
        Ok(found)
    }

    fn has_no_source(&self) -> bool {
        self.sources.is_empty() && self.all.iter().all(|action| action.name != REMOTE_ADDRESS)
    }

    fn add(&mut self, of: &Match) -> Result<(), Refusal> {
        match &*of.match_source {
            "QueryMatch" => self.all.push(query(of)?),
            "" | "HeadMatch" if of.use_query_match => self.all.push(query(of)?),
            "" | "HeadMatch" => self.all.push(header(of)?),
            "SourceIpMatch" if self.has_no_source() && is_separate(of)? => {
                self.all.push(Action::separating(REMOTE_ADDRESS, json!({})));
            }
            "SourceIpMatch" if self.has_no_source() => self.sources = sources(of)?,
            "SourceIpMatch" => return Err(Refusal::invalid("there may be one SourceIpMatch only")),
            "JsonBodyMatch" => {
                return Err(Refusal::not_supported("JsonBodyMatch needs an Envoy that nobody ships"));
            }
            other => return Err(Refusal::invalid(format!("there is no matchSource {other}"))),
        }
        Ok(())
    }
}

fn header(of: &Match) -> Result<Action, Refusal> {
    let symbol = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_|~`".contains(c);
    let name = of.name.strip_prefix(':').unwrap_or(&of.name);
    if name.is_empty() || !name.chars().all(symbol) {
        return Err(Refusal::invalid(format!("{:?} is no name of a header", of.name)));
    }
    if is_separate(of)? {
        return Ok(Action::separating("request_headers", json!({ "header_name": of.name })));
    }
    let mut matcher = operator(of)?;
    matcher["name"] = json!(of.name);
    if of.invert_match {
        matcher["invert_match"] = json!(true);
    }
    Ok(Action::matching("header_value_match", json!({ "headers": [matcher] })))
}

fn query(of: &Match) -> Result<Action, Refusal> {
    if of.name.is_empty() {
        return Err(Refusal::invalid("name is missing"));
    }
    if is_separate(of)? {
        return Ok(Action::separating("query_parameters", json!({ "query_parameter_name": of.name })));
    }
    let mut matcher = operator(of)?;
    matcher["name"] = json!(of.name);
    let mut fields = json!({ "query_parameters": [matcher] });
    if of.invert_match {
        fields["expect_match"] = json!(false);
    }
    Ok(Action::matching("query_parameter_value_match", fields))
}

/// The one operator of a match, as headers and query parameters have it.
fn operator(of: &Match) -> Result<Value, Refusal> {
    let text = |kind: &str, value: &Option<String>| {
        value.as_ref().map(|value| (json!({ kind: value }), kind == "exact" || !value.is_empty()))
    };
    let given = [
        text("exact", &of.exact_match),
        text("prefix", &of.prefix_match),
        text("suffix", &of.suffix_match),
        of.regex_match.as_ref().map(|regex| (json!({ "safe_regex": { "regex": regex } }), is_re2(regex))),
        of.is_exact_match_empty.then(|| (json!({ "exact": "" }), true)),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next(), of.present_match) {
        (Some((matcher, true)), None, None) => Ok(json!({ "string_match": matcher })),
        (Some((matcher, false)), None, None) => {
            Err(Refusal::invalid(format!("{matcher} is empty, or no regular expression of RE2")))
        }
        (None, None, Some(present)) => Ok(json!({ "present_match": present })),
        (None, None, None) => Err(Refusal::invalid("it has no operator, such as exact_match")),
        _ => Err(Refusal::invalid("it has more than one operator")),
    }
}

/// Whether each value has a quota for itself; then there is no other operator.
fn is_separate(of: &Match) -> Result<bool, Refusal> {
    if of.present_match_separate != Some(true) {
        return Ok(false);
    }
    let texts = [&of.exact_match, &of.prefix_match, &of.suffix_match, &of.regex_match];
    let alone =
        texts.iter().all(|text| text.is_none()) && of.present_match.is_none() && !of.is_exact_match_empty;
    if !alone || of.invert_match {
        return Err(Refusal::invalid(
            "present_match_separate goes with no other operator, and is not inverted",
        ));
    }
    Ok(true)
}

/// Whether Envoy takes this regular expression: one that it cannot read makes it reject its whole listener.
fn is_re2(regex: &str) -> bool {
    !regex.is_empty() && Regex::new(regex).is_ok() && !NOT_RE2.iter().any(|other| regex.contains(other))
}

fn sources(of: &Match) -> Result<Vec<Action>, Refusal> {
    let others = [&of.regex_match, &of.prefix_match, &of.suffix_match];
    let Some(list) = of.exact_match.as_ref().filter(|_| others.iter().all(|other| other.is_none())) else {
        return Err(Refusal::invalid("SourceIpMatch needs exact_match, and no other operator"));
    };
    let ranges: Vec<_> = list.split(',').map(|text| range(text.trim())).collect::<Result<_, _>>()?;
    if ranges.len() > MAX_SOURCES {
        return Err(Refusal::invalid(format!("there are more than {MAX_SOURCES} addresses")));
    }
    let action =
        |matcher: Value| Action::matching("remote_address_match", json!({ "address_matcher": matcher }));
    if of.invert_match {
        return Ok(vec![action(json!({ "ranges": ranges, "invert_match": true }))]);
    }
    Ok(ranges.into_iter().map(|range| action(json!({ "ranges": [range] }))).collect())
}

/// An address, or a range of them.
fn range(text: &str) -> Result<Value, Refusal> {
    let wrong = || Refusal::invalid(format!("{text:?} is no address and no range of addresses"));
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length: u8 = length.map_or(Ok(longest), str::parse).map_err(|_| wrong())?;
    if length > longest {
        return Err(wrong());
    }
    Ok(json!({ "address_prefix": address.to_string(), "prefix_len": length }))
}
