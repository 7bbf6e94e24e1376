//! Kubernetes quantities (`500m`, `1Gi`), as far as resource references need them.

use anyhow::{Context as _, Result, bail};

/// `quantity / divisor`, rounded up, as `resourceFieldRef` gives it to containers. A missing or empty
/// divisor is 1.
///
/// # Errors
/// When one of both is not a quantity, or the divisor is zero.
pub(super) fn divided(quantity: &str, divisor: Option<&str>) -> Result<u64> {
    let value = parse(quantity)?;
    let divisor = divisor.filter(|text| !text.is_empty()).map_or(Ok(1.0), parse)?;
    // An unset divisor reaches clients of the API as the quantity "0".
    let divisor = if divisor == 0.0 { 1.0 } else { divisor };
    let result = (value / divisor).ceil();
    if !(0.0..=9.0e18).contains(&result) {
        bail!("{quantity} divided by {divisor} is not a number of units");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked above")]
    Ok(result as u64)
}

fn parse(text: &str) -> Result<f64> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || ".+-".contains(c))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().with_context(|| format!("{text:?} is not a quantity"))?;
    Ok(number * scale(suffix).with_context(|| format!("{text:?} has an unknown suffix"))?)
}

fn scale(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => 10.0_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_divided_and_rounded_up() {
        for (quantity, divisor, expected) in [
            ("2", None, 2),
            ("500m", None, 1),
            ("500m", Some("1m"), 500),
            ("1500m", Some("1"), 2),
            ("1Gi", Some("0"), 1 << 30),
            ("1Gi", Some("1Mi"), 1024),
            ("128M", None, 128_000_000),
            ("1e3", None, 1000),
            ("0", None, 0),
        ] {
            assert_eq!(divided(quantity, divisor).unwrap(), expected, "{quantity} / {divisor:?}");
        }
        for bad in ["", "x", "1Q", "--1"] {
            assert!(divided(bad, None).is_err(), "{bad}");
        }
    }
}
