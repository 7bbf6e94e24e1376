use std::fmt;

use super::expression::Operator;
use super::function::{FUNCTIONS, Function};
use super::ratio::Ratio;

/// The longest number, so that none is too large.
const DIGITS: usize = 18;
/// How many tokens an expression may have.
const MAX_TOKENS: usize = 256;

/// One word of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Number(Ratio),
    Material(String),
    Operator(Operator),
    Function(Function),
    Comma,
    Not,
    Open,
    Close,
    Question,
    Colon,
}

/// Words that are neither operators nor names.
const MARKS: [(Token, &str); 6] = [
    (Token::Open, "("),
    (Token::Close, ")"),
    (Token::Question, "?"),
    (Token::Colon, ":"),
    (Token::Comma, ","),
    (Token::Not, "!"),
];

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(_) => write!(f, "a number"),
            Self::Material(name) => write!(f, "{{{{.{name}}}}}"),
            Self::Operator(operator) => {
                let (_, symbol) =
                    OPERATORS.iter().rev().find(|(it, _)| it == operator).unwrap_or(&OPERATORS[0]);
                write!(f, "{symbol}")
            }
            Self::Function(function) => {
                let found = FUNCTIONS.iter().find(|(it, _)| it == function);
                write!(f, "{}", found.map_or("", |(_, name)| name))
            }
            mark => {
                let found = MARKS.iter().find(|(it, _)| it == mark);
                write!(f, "{}", found.map_or("", |(_, symbol)| symbol))
            }
        }
    }
}

/// The longer ones first.
const OPERATORS: [(Operator, &str); 15] = [
    (Operator::Or, "||"),
    (Operator::And, "&&"),
    (Operator::AtLeast, ">="),
    (Operator::AtMost, "<="),
    (Operator::Equal, "=="),
    (Operator::Unequal, "!="),
    (Operator::Or, "|"),
    (Operator::And, "&"),
    (Operator::Greater, ">"),
    (Operator::Less, "<"),
    (Operator::Plus, "+"),
    (Operator::Minus, "-"),
    (Operator::Times, "*"),
    (Operator::Over, "/"),
    (Operator::Rest, "%"),
];

/// The words of an expression.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let (token, after) = next(rest)?;
        found.push(token);
        rest = after.trim_start();
        if found.len() > MAX_TOKENS {
            return Err(format!("it has more than {MAX_TOKENS} words"));
        }
    }
    if found.is_empty() { Err("it is empty".to_owned()) } else { Ok(found) }
}

fn next(text: &str) -> Result<(Token, &str), String> {
    for (operator, symbol) in OPERATORS {
        if let Some(rest) = text.strip_prefix(symbol) {
            return Ok((Token::Operator(operator), rest));
        }
    }
    for (token, symbol) in MARKS {
        if let Some(rest) = text.strip_prefix(symbol) {
            return Ok((token, rest));
        }
    }
    for (word, value) in [("true", 1), ("false", 0)] {
        if let Some(rest) = text.strip_prefix(word) {
            return Ok((Token::Number(Ratio::of(value)), rest));
        }
    }
    for (function, name) in FUNCTIONS {
        if let Some(rest) = text.strip_prefix(name) {
            return Ok((Token::Function(function), rest));
        }
    }
    match text.strip_prefix("{{") {
        Some(rest) => material(rest),
        None if text.starts_with("metrics") || text.starts_with("subsets") => variable(text),
        None => number(text),
    }
}

/// A name as CEL has it: `metrics["cpu.sum"]` and `subsets["v1"].pods`.
fn variable(text: &str) -> Result<(Token, &str), String> {
    let wrong = || {
        let shown: String = text.chars().take(20).collect();
        format!("{shown} cannot be understood: write metrics[\"name\"] or subsets[\"name\"].pods")
    };
    let (name, rest) = text.split_at("metrics".len());
    let (key, rest) = quoted(rest).ok_or_else(wrong)?;
    let (material, rest) = match name {
        "metrics" => (key.to_owned(), rest),
        _ => (format!("{key}.pod"), rest.strip_prefix(".pods").ok_or_else(wrong)?),
    };
    if is_metric_name(&material) { Ok((Token::Material(material), rest)) } else { Err(wrong()) }
}

/// What is in `["…"]` or `['…']`, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('[')?;
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let (key, rest) = rest[1..].split_once(quote)?;
    Some((key, rest.strip_prefix(']')?))
}

/// Whether a metric may have this name: words of letters, digits, `-` and `_`, with dots between.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    name.split('.').all(is_word)
}

/// The rest of a template: Slime's have one field of what is known, and nothing else.
fn material(text: &str) -> Result<(Token, &str), String> {
    let (field, rest) = text.split_once("}}").ok_or("{{ is not closed")?;
    let name = field.trim().strip_prefix('.').unwrap_or_default();
    if is_metric_name(name) {
        Ok((Token::Material(name.to_owned()), rest))
    } else {
        Err(format!("{{{{{field}}}}} is no name of a metric, like {{{{._base.pod}}}}"))
    }
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let wrong = || format!("{} cannot be understood", text.chars().take(20).collect::<String>());
    if whole.is_empty() || whole.len() + decimals.len() > DIGITS {
        return Err(wrong());
    }
    let numerator: i128 = format!("{whole}{decimals}").parse().map_err(|_| wrong())?;
    let power = u32::try_from(decimals.len()).map_err(|_| wrong())?;
    let number = Ratio::new(numerator, 10_i128.pow(power)).ok_or_else(wrong)?;
    Ok((Token::Number(number), rest))
}
