use std::cmp::Ordering;

use super::ratio::Ratio;

/// A function of numbers: CEL's conversions, and those of its extension for mathematics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Greatest,
    Least,
    Ceil,
    Floor,
    Round,
    Abs,
    /// What is left without the decimals.
    Int,
    /// The number itself: there is one kind of them.
    Double,
}

/// Their names.
pub(super) const FUNCTIONS: [(Function, &str); 8] = [
    (Function::Greatest, "math.greatest"),
    (Function::Least, "math.least"),
    (Function::Ceil, "math.ceil"),
    (Function::Floor, "math.floor"),
    (Function::Round, "math.round"),
    (Function::Abs, "math.abs"),
    (Function::Int, "int"),
    (Function::Double, "double"),
];

impl Function {
    /// Whether it may have so many arguments.
    pub(super) fn takes(self, arguments: usize) -> bool {
        matches!(self, Self::Greatest | Self::Least) && arguments > 0 || arguments == 1
    }

    /// `None` if the result is too large, or there is no argument.
    pub(super) fn apply(self, arguments: &[Ratio]) -> Option<Ratio> {
        let (first, rest) = arguments.split_first()?;
        let outermost = |wanted| {
            rest.iter()
                .try_fold(*first, |best, next| Some(if next.order(best)? == wanted { *next } else { best }))
        };
        match self {
            Self::Greatest => outermost(Ordering::Greater),
            Self::Least => outermost(Ordering::Less),
            Self::Ceil => first.ceil().map(Ratio::of),
            Self::Floor => Some(Ratio::of(first.floor())),
            // Half a number is rounded away from zero, as CEL has it.
            Self::Round => whole(*first, |size| size.add(Ratio::new(1, 2)?)),
            Self::Abs => size(*first),
            Self::Int => whole(*first, Some),
            Self::Double => Some(*first),
        }
    }
}

fn size(number: Ratio) -> Option<Ratio> {
    if number.order(Ratio::ZERO)? == Ordering::Less { number.negated() } else { Some(number) }
}

/// The whole part of a number whose size was changed, with its sign.
fn whole(number: Ratio, change: impl FnOnce(Ratio) -> Option<Ratio>) -> Option<Ratio> {
    let whole = Ratio::of(change(size(number)?)?.floor());
    if number.order(Ratio::ZERO)? == Ordering::Less { whole.negated() } else { Some(whole) }
}
