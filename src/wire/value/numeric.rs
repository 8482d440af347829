//! numeric without floats: read, compared, added and written as PostgreSQL's numeric.c does.

use crate::wire::frontend::Format;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// Digits are in base 10,000, as on the wire and in numeric.c.
const BASE: u16 = 10_000;
/// Decimal digits in one of them.
const DIGIT_WIDTH: usize = 4;

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_INFINITY: u16 = 0xD000;
const SIGN_MINUS_INFINITY: u16 = 0xF000;

/// The largest power of 10,000 (make_result(): the weight is an int16).
const WEIGHT_MAX: i32 = i16::MAX as i32;
/// Decimal digits behind the point at most (NUMERIC_DSCALE_MAX).
const SCALE_MAX: u16 = 0x3FFF;
/// The least power of 10,000 that a digit can have within that scale.
const POWER_MIN: i32 = -(SCALE_MAX as i32 / 4 + 1);

/// A numeric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numeric {
    /// Not a number: equal to itself, greater than all.
    NaN,
    /// Infinity.
    Infinity,
    /// -Infinity.
    MinusInfinity,
    /// Anything else.
    Finite(Decimal),
}

/// A finite numeric: ± digits × 10,000^(weight - index).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// The first digit's power of 10,000; 0 for zero.
    weight: i32,
    /// Neither the first nor the last is 0; empty for zero.
    digits: SmallVec<[u16; 8]>,
    /// Decimal digits shown behind the point.
    scale: u16,
}

/// A result is larger than a numeric can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value overflows numeric format")]
pub struct NumericOverflow;

impl Numeric {
    /// Reads either format.
    #[must_use]
    pub fn read(value: &[u8], format: Format) -> Option<Self> {
        match format {
            Format::Text => Self::read_text(value),
            Format::Binary => Self::read_binary(value),
        }
    }

    fn read_text(text: &[u8]) -> Option<Self> {
        match text {
            b"NaN" => return Some(Self::NaN),
            b"Infinity" => return Some(Self::Infinity),
            b"-Infinity" => return Some(Self::MinusInfinity),
            _ => {}
        }
        let (negative, unsigned) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let point = memchr::memchr(b'.', unsigned);
        let (whole, fraction) = match point {
            Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
            None => (unsigned, &unsigned[..0]),
        };
        let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
        if whole.is_empty() || !all_digits || (point.is_some() && fraction.is_empty()) {
            return None;
        }
        let mut digits = SmallVec::new();
        // The first digit of the whole part may be short on the left, the last one of the fraction on the right.
        let first = whole.len() % DIGIT_WIDTH;
        if first > 0 {
            digits.push(decimal_digits(&whole[..first], first));
        }
        digits.extend(
            whole[first..]
                .chunks(DIGIT_WIDTH)
                .map(|digit| decimal_digits(digit, DIGIT_WIDTH)),
        );
        let weight = i32::try_from(digits.len()).ok()? - 1;
        digits.extend(
            fraction
                .chunks(DIGIT_WIDTH)
                .map(|digit| decimal_digits(digit, DIGIT_WIDTH)),
        );
        let scale = u16::try_from(fraction.len()).ok()?;
        Decimal::new(negative, weight, digits, scale).checked()
    }

    fn read_binary(value: &[u8]) -> Option<Self> {
        let (header, rest) = value.split_first_chunk::<8>()?;
        let field = |at: usize| [header[at], header[at + 1]];
        let count = u16::from_be_bytes(field(0));
        let weight = i16::from_be_bytes(field(2));
        let scale = u16::from_be_bytes(field(6));
        let negative = match u16::from_be_bytes(field(4)) {
            0 => false,
            SIGN_NEGATIVE => true,
            SIGN_NAN => return Some(Self::NaN),
            SIGN_INFINITY => return Some(Self::Infinity),
            SIGN_MINUS_INFINITY => return Some(Self::MinusInfinity),
            _ => return None,
        };
        let digits: SmallVec<[u16; 8]> = rest
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        if rest.len() != 2 * usize::from(count) || digits.iter().any(|digit| *digit >= BASE) {
            return None;
        }
        Decimal::new(negative, i32::from(weight), digits, scale).checked()
    }

    /// Bytes it holds, for bounds.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Finite(decimal) => size_of::<Self>() + decimal.digits.len() * size_of::<u16>(),
            Self::NaN | Self::Infinity | Self::MinusInfinity => size_of::<Self>(),
        }
    }

    /// Appends bytes that order and equal each other as the numerics do; 1.0 and 1.00 are one.
    pub fn append_key(&self, out: &mut Vec<u8>) {
        match self {
            Self::MinusInfinity => out.push(0),
            Self::Finite(decimal) if decimal.digits.is_empty() => out.push(2),
            Self::Finite(decimal) => {
                out.push(if decimal.negative { 1 } else { 3 });
                let start = out.len();
                out.extend_from_slice(&(decimal.weight ^ i32::MIN).to_be_bytes());
                for digit in &decimal.digits {
                    // One more, so that the end (0) comes before every digit.
                    out.extend_from_slice(&(digit + 1).to_be_bytes());
                }
                out.extend_from_slice(&[0, 0]);
                if decimal.negative {
                    out[start..].iter_mut().for_each(|byte| *byte = !*byte);
                }
            }
            Self::Infinity => out.push(4),
            Self::NaN => out.push(5),
        }
    }

    /// The sum, with the larger scale of the two, as `sum(numeric)` has it.
    ///
    /// # Errors
    /// When PostgreSQL could not hold it.
    pub fn add(&self, other: &Self) -> Result<Self, NumericOverflow> {
        Ok(match (self, other) {
            (Self::NaN, _)
            | (_, Self::NaN)
            | (Self::Infinity, Self::MinusInfinity)
            | (Self::MinusInfinity, Self::Infinity) => Self::NaN,
            (Self::Infinity, _) | (_, Self::Infinity) => Self::Infinity,
            (Self::MinusInfinity, _) | (_, Self::MinusInfinity) => Self::MinusInfinity,
            (Self::Finite(a), Self::Finite(b)) => Self::Finite(a.add(b)?),
        })
    }

    /// Appends it in either format.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Text => self.write_text(out),
            Format::Binary => self.write_binary(out),
        }
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::NaN => out.extend_from_slice(b"NaN"),
            Self::Infinity => out.extend_from_slice(b"Infinity"),
            Self::MinusInfinity => out.extend_from_slice(b"-Infinity"),
            Self::Finite(decimal) => decimal.write_text(out),
        }
    }

    fn write_binary(&self, out: &mut Vec<u8>) {
        // numeric_send() reads a scale out of the special values' headers too: 32 for both infinities.
        let special = |sign: u16, out: &mut Vec<u8>| {
            out.extend_from_slice(&[0, 0, 0, 0]);
            out.extend_from_slice(&sign.to_be_bytes());
            out.extend_from_slice(&[0, if sign == SIGN_NAN { 0 } else { 32 }]);
        };
        match self {
            Self::NaN => special(SIGN_NAN, out),
            Self::Infinity => special(SIGN_INFINITY, out),
            Self::MinusInfinity => special(SIGN_MINUS_INFINITY, out),
            Self::Finite(decimal) => decimal.write_binary(out),
        }
    }
}

/// Up to four decimal digits as the leading ones of a digit: `5` behind the point is 5000.
fn decimal_digits(digits: &[u8], width: usize) -> u16 {
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    (digits.len()..width).fold(number, |number, _| number * 10)
}

impl Decimal {
    /// Takes zero digits off both ends.
    fn new(negative: bool, weight: i32, mut digits: SmallVec<[u16; 8]>, scale: u16) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Self {
                negative: false,
                weight: 0,
                digits,
                scale,
            };
        }
        let weight = weight - i32::try_from(zeros).unwrap_or(i32::MAX);
        Self {
            negative,
            weight,
            digits,
            scale,
        }
    }

    /// Is it one that PostgreSQL could have sent? What is added and written later then stays within bounds.
    fn checked(self) -> Option<Numeric> {
        let fits =
            self.weight <= WEIGHT_MAX && self.lowest() >= POWER_MIN && self.scale <= SCALE_MAX;
        fits.then_some(Numeric::Finite(self))
    }

    /// The digit at a power of 10,000.
    fn digit(&self, power: i32) -> u16 {
        usize::try_from(self.weight - power)
            .ok()
            .and_then(|index| self.digits.get(index))
            .copied()
            .unwrap_or(0)
    }

    /// The last digit's power of 10,000.
    fn lowest(&self) -> i32 {
        self.weight + 1 - i32::try_from(self.digits.len()).unwrap_or(i32::MAX)
    }

    /// Compares without signs.
    fn compare_magnitude(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self
                .weight
                .cmp(&other.weight)
                .then_with(|| self.digits.cmp(&other.digits)),
        }
    }

    fn add(&self, other: &Self) -> Result<Self, NumericOverflow> {
        let scale = self.scale.max(other.scale);
        if self.digits.is_empty() || other.digits.is_empty() {
            let sum = if self.digits.is_empty() { other } else { self };
            return Ok(Self {
                scale,
                ..sum.clone()
            });
        }
        let (large, small) = match self.compare_magnitude(other) {
            Ordering::Less => (other, self),
            Ordering::Equal | Ordering::Greater => (self, other),
        };
        let subtract = large.negative != small.negative;
        let weight = large.weight + 1;
        let mut digits = SmallVec::new();
        let mut carry = 0;
        for power in large.lowest().min(small.lowest())..=weight {
            let (a, b) = (large.digit(power), small.digit(power) + carry);
            // Digits are below 10,000, so neither sum leaves u16.
            let digit;
            (digit, carry) = match (subtract, a >= b) {
                (true, true) => (a - b, 0),
                (true, false) => (a + BASE - b, 1),
                (false, _) if a + b >= BASE => (a + b - BASE, 1),
                (false, _) => (a + b, 0),
            };
            digits.push(digit);
        }
        digits.reverse();
        let sum = Self::new(large.negative, weight, digits, scale);
        if sum.weight > WEIGHT_MAX {
            Err(NumericOverflow)
        } else {
            Ok(sum)
        }
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        if self.weight < 0 {
            out.push(b'0');
        }
        for power in (0..=self.weight).rev() {
            let digit = self.digit(power);
            if power == self.weight {
                out.extend_from_slice(digit.to_string().as_bytes());
            } else {
                out.extend_from_slice(format!("{digit:04}").as_bytes());
            }
        }
        if self.scale > 0 {
            out.push(b'.');
            let end = out.len() + usize::from(self.scale);
            let mut power = -1;
            while out.len() < end {
                out.extend_from_slice(format!("{:04}", self.digit(power)).as_bytes());
                power -= 1;
            }
            out.truncate(end);
        }
    }

    fn write_binary(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.digits.len())
            .expect("there are fewer than 65,536 powers from POWER_MIN to WEIGHT_MAX");
        let weight =
            i16::try_from(self.weight).expect("weights are checked when read and when added");
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&(if self.negative { SIGN_NEGATIVE } else { 0 }).to_be_bytes());
        out.extend_from_slice(&self.scale.to_be_bytes());
        for digit in &self.digits {
            out.extend_from_slice(&digit.to_be_bytes());
        }
    }
}
