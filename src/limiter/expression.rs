//! The expressions of conditions and quotas: Slime's templates (`100/{{._base.pod}}`) and its calculator, and the same in the
//! notation of CEL (`metrics["rate"] > 5 ? 100 : 10`).
//!
//! One grammar has both. It is that of CEL's numbers and truths, their operators and functions, without what could grow: no strings, lists
//! or macros, so what an expression costs is bounded by its length. Numbers are exact, and of one kind. Beyond Slime's, there are `>=`, `<=`,
//! `==`, negative numbers and fractions: nothing is rounded on the way.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::function::Function;
use super::ratio::Ratio;
use super::tokens::{Token, tokens};

/// How deep parentheses and signs may be nested: an expression is read by as many calls.
const DEPTH: usize = 32;

/// An expression that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Number(Ratio),
    /// What is known of the mesh, by name (`_base.pod`).
    Material(String),
    Negated(Box<Expression>),
    Not(Box<Expression>),
    /// The second if the first holds, else the third.
    Choice(Box<[Expression; 3]>),
    Both(Operator, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
}

/// What is between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Greater,
    Less,
    AtLeast,
    AtMost,
    Equal,
    Unequal,
    Plus,
    Minus,
    Times,
    Over,
    /// What is left of a division, with the sign of what is divided.
    Rest,
}

impl Operator {
    /// Which binds more tightly.
    fn rank(self) -> u8 {
        match self {
            Self::Or => 0,
            Self::And => 1,
            Self::Greater | Self::Less | Self::AtLeast | Self::AtMost | Self::Equal | Self::Unequal => 2,
            Self::Plus | Self::Minus => 3,
            Self::Times | Self::Over | Self::Rest => 4,
        }
    }

    /// `None` if the result is too large. What is divided by zero is zero, as in Slime.
    fn apply(self, left: Ratio, right: Ratio) -> Option<Ratio> {
        let order = |wanted: &[Ordering]| left.order(right).map(|order| truth(wanted.contains(&order)));
        match self {
            Self::Or => Some(truth(!left.is_zero() || !right.is_zero())),
            Self::And => Some(truth(!left.is_zero() && !right.is_zero())),
            Self::Greater => order(&[Ordering::Greater]),
            Self::Less => order(&[Ordering::Less]),
            Self::AtLeast => order(&[Ordering::Greater, Ordering::Equal]),
            Self::AtMost => order(&[Ordering::Less, Ordering::Equal]),
            Self::Equal => order(&[Ordering::Equal]),
            Self::Unequal => order(&[Ordering::Less, Ordering::Greater]),
            Self::Plus => left.add(right),
            Self::Minus => left.add(right.negated()?),
            Self::Times => left.times(right),
            Self::Over | Self::Rest if right.is_zero() => Some(Ratio::ZERO),
            Self::Over => left.over(right),
            Self::Rest => {
                let times = Function::Int.apply(&[left.over(right)?])?;
                left.add(right.times(times)?.negated()?)
            }
        }
    }
}

fn truth(holds: bool) -> Ratio {
    Ratio::of(i64::from(holds))
}

impl Expression {
    /// Reads an expression; what is wrong with it, if it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut rest = tokens.as_slice();
        let expression = whole(&mut rest, 0)?;
        match rest.first() {
            None => Ok(expression),
            Some(token) => Err(format!("{token} is not expected")),
        }
    }

    /// The names of what it depends on.
    pub(super) fn material(&self) -> BTreeSet<&str> {
        match self {
            Self::Number(_) => BTreeSet::new(),
            Self::Material(name) => BTreeSet::from([name.as_str()]),
            Self::Negated(of) | Self::Not(of) => of.material(),
            Self::Choice(all) => all.iter().flat_map(Self::material).collect(),
            Self::Both(_, left, right) => left.material().into_iter().chain(right.material()).collect(),
            Self::Call(_, arguments) => arguments.iter().flat_map(Self::material).collect(),
        }
    }

    /// Its value; what is missing or wrong, if it has none.
    pub(super) fn value(&self, material: &BTreeMap<String, Ratio>) -> Result<Ratio, String> {
        let large = || "the result is too large".to_owned();
        match self {
            Self::Number(number) => Ok(*number),
            Self::Material(name) => material.get(name).copied().ok_or_else(|| format!("{name} is not known")),
            Self::Negated(of) => of.value(material)?.negated().ok_or_else(large),
            Self::Not(of) => of.value(material).map(|value| truth(value.is_zero())),
            Self::Choice(all) => {
                let [condition, holds, else_] = &**all;
                let of = if condition.value(material)?.is_zero() { else_ } else { holds };
                of.value(material)
            }
            Self::Both(operator, left, right) => {
                operator.apply(left.value(material)?, right.value(material)?).ok_or_else(large)
            }
            Self::Call(function, arguments) => {
                let values: Vec<_> =
                    arguments.iter().map(|of| of.value(material)).collect::<Result<_, _>>()?;
                function.apply(&values).ok_or_else(large)
            }
        }
    }
}

/// Reads a whole expression: what may be within parentheses.
fn whole(rest: &mut &[Token], depth: usize) -> Result<Expression, String> {
    let condition = above(rest, 0, depth)?;
    if rest.first() != Some(&Token::Question) {
        return Ok(condition);
    }
    advance(rest);
    let holds = whole(rest, depth + 1)?;
    if rest.first() != Some(&Token::Colon) {
        return Err("a ? has no :".to_owned());
    }
    advance(rest);
    Ok(Expression::Choice(Box::new([condition, holds, whole(rest, depth + 1)?])))
}

/// Reads as much as binds at least as tightly as `rank`.
fn above(rest: &mut &[Token], rank: u8, depth: usize) -> Result<Expression, String> {
    let mut left = single(rest, depth)?;
    while let Some(&Token::Operator(operator)) = rest.first()
        && operator.rank() >= rank
    {
        advance(rest);
        let right = above(rest, operator.rank() + 1, depth + 1)?;
        left = Expression::Both(operator, Box::new(left), Box::new(right));
    }
    Ok(left)
}

fn single(rest: &mut &[Token], depth: usize) -> Result<Expression, String> {
    if depth > DEPTH {
        return Err(format!("it is nested more than {DEPTH} times"));
    }
    let Some(token) = rest.first().cloned() else { return Err("it ends too early".to_owned()) };
    advance(rest);
    match token {
        Token::Number(number) => Ok(Expression::Number(number)),
        Token::Material(name) => Ok(Expression::Material(name)),
        Token::Operator(Operator::Minus) => Ok(Expression::Negated(Box::new(single(rest, depth + 1)?))),
        Token::Function(function) => call(function, rest, depth),
        Token::Not => Ok(Expression::Not(Box::new(single(rest, depth + 1)?))),
        Token::Open => {
            let within = whole(rest, depth + 1)?;
            match rest.first() {
                Some(Token::Close) => {
                    advance(rest);
                    Ok(within)
                }
                _ => Err("a parenthesis is not closed".to_owned()),
            }
        }
        token => Err(format!("{token} is not expected")),
    }
}

/// Reads the arguments of a function.
fn call(function: Function, rest: &mut &[Token], depth: usize) -> Result<Expression, String> {
    let name = Token::Function(function);
    if rest.first() != Some(&Token::Open) {
        return Err(format!("{name} is not followed by a parenthesis"));
    }
    let mut arguments = Vec::new();
    loop {
        advance(rest);
        arguments.push(whole(rest, depth + 1)?);
        match rest.first() {
            Some(Token::Comma) => {}
            Some(Token::Close) => break,
            _ => return Err(format!("the parenthesis after {name} is not closed")),
        }
    }
    advance(rest);
    if function.takes(arguments.len()) {
        Ok(Expression::Call(function, arguments))
    } else {
        Err(format!("{name} does not take {} numbers", arguments.len()))
    }
}

fn advance(rest: &mut &[Token]) {
    *rest = rest.get(1..).unwrap_or_default();
}
