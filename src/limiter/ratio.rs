use std::cmp::Ordering;

/// A fraction in lowest terms, so that a quota that is divided and multiplied is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    numerator: i128,
    /// Above zero.
    denominator: i128,
}

impl Ratio {
    pub(super) const ZERO: Self = Self { numerator: 0, denominator: 1 };

    pub(super) fn of(number: impl Into<i128>) -> Self {
        Self { numerator: number.into(), denominator: 1 }
    }

    /// `numerator / denominator`; `None` if there is no such number, or it is too large.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let common = common_divisor(numerator, denominator)?;
        let sign = if denominator < 0 { -1 } else { 1 };
        Some(Self { numerator: sign * (numerator / common), denominator: sign * (denominator / common) })
    }

    /// The number with nine decimals that is nearest; `None` if it is none, or too large.
    pub(super) fn near(number: f64) -> Option<Self> {
        if !number.is_finite() || number.abs() > 1e18 {
            return None;
        }
        let digits = format!("{number:.9}").replace('.', "");
        Self::new(digits.parse().ok()?, 1_000_000_000)
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    pub(super) fn negated(self) -> Option<Self> {
        Some(Self { numerator: self.numerator.checked_neg()?, ..self })
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.numerator)?;
        Self::new(numerator, self.denominator.checked_mul(other.denominator)?)
    }

    /// `None` for a divisor of zero as well.
    pub(super) fn over(self, divisor: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(divisor.denominator)?;
        Self::new(numerator, self.denominator.checked_mul(divisor.numerator)?)
    }

    pub(super) fn order(self, other: Self) -> Option<Ordering> {
        let difference = self.add(other.negated()?)?;
        Some(difference.numerator.cmp(&0))
    }

    pub(super) fn is_positive(self) -> bool {
        self.numerator > 0
    }

    pub(super) fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// The largest whole number that is not above it.
    pub(super) fn floor(self) -> i128 {
        self.numerator.div_euclid(self.denominator)
    }

    /// The smallest whole number that is not below it.
    pub(super) fn ceil(self) -> Option<i128> {
        Some(-self.negated()?.floor())
    }
}

/// The greatest number that divides both; `None` where the second is zero.
fn common_divisor(numerator: i128, denominator: i128) -> Option<i128> {
    let (mut a, mut b) = (numerator.checked_abs()?, denominator.checked_abs()?);
    if b == 0 {
        return None;
    }
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Some(a)
}
