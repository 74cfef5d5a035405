//! Unix seconds as decimal text to whole microseconds, exactly.
//!
//! Keeps: no digit is lost on the way. The text never passes through a float (`1.5945120943859746E9` has 17 digits, a
//! double holds fewer microseconds than that); what lies beyond the microsecond is rounded half to even.
//! Python twin: `Decimal(text).scaleb(6).to_integral_value(ROUND_HALF_EVEN)` with enough precision.

/// Largest count of digits in the microseconds that we accept (an `i64` holds 18 of any kind); more is out of bounds anyway.
const MAX_DIGITS: i64 = 18;

/// Microseconds in a second, as a power of ten.
const MICROS: i64 = 6;

/// A decimal number as text, taken apart: `sign`, the digits before and behind the point, and the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal<'t> {
    negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

impl<'t> Decimal<'t> {
    /// Takes the number apart, or `None` when the text is not a number by the rules:
    /// `[+-] (digits [. [digits]] | . digits) [(e|E) [+-] digits]`, nothing else around or inside.
    pub(crate) fn parse(text: &'t [u8]) -> Option<Self> {
        let (negative, rest) = split_sign(text);
        let (whole, rest) = split_digits(rest);
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', rest)) => split_digits(rest),
            _ => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        Some(Self {
            negative,
            whole,
            fraction,
            exponent: parse_exponent(rest)?,
        })
    }

    fn digit(&self, index: usize) -> u8 {
        let whole = self.whole.len();
        let digit = if index < whole {
            self.whole[index]
        } else {
            self.fraction[index - whole]
        };
        digit - b'0'
    }

    fn digits(&self) -> usize {
        self.whole.len() + self.fraction.len()
    }

    /// The value times a million as an integer, rounded half to even; `None` when it needs more than 18 digits.
    fn to_micros(self) -> Option<i64> {
        let first = (0..self.digits()).find(|&index| self.digit(index) != 0);
        let Some(first) = first else { return Some(0) };
        // How many digits, counted from the first one written, stand before the point of the result.
        let point = i64::try_from(self.whole.len())
            .ok()?
            .checked_add(self.exponent)?
            .checked_add(MICROS)?;
        let significant = point.checked_sub(i64::try_from(first).ok()?)?;
        if significant > MAX_DIGITS {
            return None;
        }
        if significant < 0 {
            return Some(0);
        }
        let mut value: i64 = 0;
        for index in (first..).take(usize::try_from(significant).ok()?) {
            let digit = if index < self.digits() {
                self.digit(index)
            } else {
                0
            };
            value = value * 10 + i64::from(digit);
        }
        if self.rounds_up(usize::try_from(point).unwrap_or(0), value) {
            value += 1;
        }
        Some(if self.negative { -value } else { value })
    }

    /// Whether the digits from `point` on are more than a half, or exactly a half behind an odd `value`.
    fn rounds_up(&self, point: usize, value: i64) -> bool {
        if point >= self.digits() {
            return false;
        }
        let exact_half = (point + 1..self.digits()).all(|index| self.digit(index) == 0);
        match self.digit(point) {
            5 => !exact_half || value % 2 == 1,
            digit => digit > 5,
        }
    }
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The exponent of `e±digits`, 0 for nothing, `None` for anything else. Beyond `i32` it is cut there: such a number is
/// zero or out of every bound all the same, and the sums above cannot overflow.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let Some((b'e' | b'E', rest)) = text.split_first() else {
        return text.is_empty().then_some(0);
    };
    let (negative, rest) = split_sign(rest);
    let (digits, tail) = split_digits(rest);
    if digits.is_empty() || !tail.is_empty() {
        return None;
    }
    let size = digits.iter().fold(0_i64, |size, digit| {
        (size * 10 + i64::from(digit - b'0')).min(i64::from(i32::MAX))
    });
    Some(if negative { -size } else { size })
}

/// Seconds since 1970 as decimal text (`1594512094`, `1.5945120943859746E9`) to microseconds, rounded half to even.
///
/// # Errors
/// `NotANumber` for text outside the number grammar, `OutOfBounds` for an instant
/// before 2000-01-01 or from 2100-01-01 on (UTC, judged after rounding).
pub fn parse_micros(text: &[u8]) -> Result<i64, TimestampError> {
    let decimal = Decimal::parse(text).ok_or(TimestampError::NotANumber)?;
    match decimal.to_micros() {
        Some(micros) if (MIN_MICROS..END_MICROS).contains(&micros) => Ok(micros),
        _ => Err(TimestampError::OutOfBounds),
    }
}

/// 2000-01-01T00:00:00Z, the first instant allowed.
const MIN_MICROS: i64 = 946_684_800_000_000;
/// 2100-01-01T00:00:00Z, the first instant too late.
const END_MICROS: i64 = 4_102_444_800_000_000;

/// Why a text is not a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text is not a number (`yesterday`, `nan`, `2020-07-12T00:01:34Z`, nothing).
    #[error("not unix seconds")]
    NotANumber,
    /// A number, but no instant that a sensor can have meant (0, milliseconds, a year beyond 2099).
    #[error("not within 2000-01-01 <= ts < 2100-01-01")]
    OutOfBounds,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<i64, TimestampError>) {
        assert_eq!(parse_micros(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn seconds_in_any_notation_become_microseconds() {
        check("1594512094", Ok(1_594_512_094_000_000));
        check("1.5945120943859746E9", Ok(1_594_512_094_385_975));
        check("+15945120943859746e-7", Ok(1_594_512_094_385_975));
        check("1594512094.", Ok(1_594_512_094_000_000));
        check(".1594512094e+10", Ok(1_594_512_094_000_000));
        check("0001594512094.0000", Ok(1_594_512_094_000_000));
    }

    #[test]
    fn the_half_goes_to_the_even_microsecond() {
        check("1594512094.0000005", Ok(1_594_512_094_000_000));
        check("1594512094.0000015", Ok(1_594_512_094_000_002));
        check(
            "1594512094.00000050000000000000000001",
            Ok(1_594_512_094_000_001),
        );
        check("1594512094.0000025", Ok(1_594_512_094_000_002));
    }

    #[test]
    fn bounds_hold_after_rounding() {
        check("946684800", Ok(MIN_MICROS));
        check("946684799.9999999", Ok(MIN_MICROS));
        check("946684799.9999994", Err(TimestampError::OutOfBounds));
        check("4102444799.999999", Ok(END_MICROS - 1));
        check("4102444799.9999999", Err(TimestampError::OutOfBounds));
        for text in [
            "0",
            "-5",
            "4.2E9",
            "9.9E12",
            "1594512094385",
            "1e999999999999999999999",
            "1e-999999999999",
        ] {
            check(text, Err(TimestampError::OutOfBounds));
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        let texts = [
            "",
            "nan",
            "inf",
            "yesterday",
            "1_594",
            "0x5F",
            "1594512094s",
            "1e",
            "1e+",
            ".",
            "+",
            "--1",
            "1.2.3",
        ];
        for text in texts {
            check(text, Err(TimestampError::NotANumber));
        }
        check("2020-07-12T00:01:34Z", Err(TimestampError::NotANumber));
        check(" 1594512094", Err(TimestampError::NotANumber));
        check("１５", Err(TimestampError::NotANumber));
    }

    /// The exact value by integer arithmetic: `mantissa * 10^exponent` seconds, half to even.
    fn exact_micros(mantissa: i128, exponent: i32) -> i128 {
        let shift = exponent + 6;
        if shift >= 0 {
            return mantissa * 10_i128.pow(shift.unsigned_abs());
        }
        let divisor = 10_i128.pow(shift.unsigned_abs());
        let (floor, rest) = (mantissa.div_euclid(divisor), mantissa.rem_euclid(divisor));
        match (rest * 2).cmp(&divisor) {
            std::cmp::Ordering::Less => floor,
            std::cmp::Ordering::Greater => floor + 1,
            std::cmp::Ordering::Equal => floor + floor % 2,
        }
    }

    proptest! {
        #[test]
        fn equals_exact_rational_arithmetic(mantissa in 0_i128..10_i128.pow(20), exponent in -20_i32..4) {
            let text = format!("{mantissa}e{exponent}");
            let exact = exact_micros(mantissa, exponent);
            let in_bounds = (i128::from(MIN_MICROS)..i128::from(END_MICROS)).contains(&exact);
            let got = parse_micros(text.as_bytes());
            if in_bounds {
                prop_assert_eq!(got.map(i128::from), Ok(exact));
            } else {
                prop_assert_eq!(got, Err(TimestampError::OutOfBounds));
            }
        }

        #[test]
        fn every_instant_in_bounds_is_exact(micros in MIN_MICROS..END_MICROS, tail in 0_u32..1000) {
            let mantissa = i128::from(micros) * 1000 + i128::from(tail);
            let text = format!("{}.{:09}", mantissa / 1_000_000_000, mantissa % 1_000_000_000);
            let exact = exact_micros(mantissa, -9);
            prop_assume!(exact < i128::from(END_MICROS));
            prop_assert_eq!(parse_micros(text.as_bytes()).map(i128::from), Ok(exact));
        }

        #[test]
        fn any_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _verdict = parse_micros(&text);
        }
    }
}
