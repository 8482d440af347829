//! Values of the types whose order Keyway knows: decoded from their text or binary form, compared and made canonical.
//!
//! A value becomes a *key*: bytes that compare (`memcmp`) as PostgreSQL's default btree operator class compares the
//! values, and that are equal exactly when PostgreSQL's `=` says so. Every key is self-delimiting, so keys of several
//! columns can be put one behind the other. Types that are not listed in [`Comparer::for_type`] have no key.

mod datetime;
pub mod numeric;
#[cfg(test)]
mod tests;

use crate::wire::frontend::Format;
use crate::wire::types::{self, Oid};
use smallvec::SmallVec;
use std::cmp::Ordering;

/// Session settings of the servers that change how text values look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextStyle {
    /// DateStyle's output part is ISO.
    pub dates_are_iso: bool,
    /// `extra_float_digits` is at least 1: a float's text stands for exactly one float.
    pub floats_are_exact: bool,
}

impl TextStyle {
    /// From the values of `DateStyle` (as `ISO, MDY`, perhaps in quotes) and `extra_float_digits`.
    #[must_use]
    pub fn new(date_style: &str, extra_float_digits: i32) -> Self {
        let mut words = date_style
            .split(',')
            .map(|word| word.trim_matches([' ', '\'', '"']));
        Self {
            dates_are_iso: words.any(|word| word.eq_ignore_ascii_case("iso")),
            floats_are_exact: extra_float_digits >= 1,
        }
    }
}

/// PostgreSQL's defaults.
impl Default for TextStyle {
    fn default() -> Self {
        Self {
            dates_are_iso: true,
            floats_are_exact: true,
        }
    }
}

/// A value that is not written as its type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value of type {type_name} is not written as expected")]
pub struct BadValue {
    /// The type.
    pub type_name: &'static str,
}

/// The families of types with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Bytea,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Text,
    Bpchar,
}

/// Compares values of one type in one format as PostgreSQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparer {
    kind: Kind,
    format: Format,
}

impl Comparer {
    /// The comparer of a type, if Keyway knows the type's order and its form under these settings.
    #[must_use]
    pub fn for_type(type_oid: Oid, format: Format, style: TextStyle) -> Option<Self> {
        let kind = match type_oid {
            types::BOOL => Kind::Bool,
            types::BYTEA => Kind::Bytea,
            types::INT8 => Kind::Int8,
            types::INT2 => Kind::Int2,
            types::INT4 => Kind::Int4,
            types::TEXT | types::VARCHAR => Kind::Text,
            types::OID => Kind::Oid,
            types::FLOAT4 => Kind::Float4,
            types::FLOAT8 => Kind::Float8,
            types::BPCHAR => Kind::Bpchar,
            types::DATE => Kind::Date,
            types::TIME => Kind::Time,
            types::TIMESTAMP => Kind::Timestamp,
            types::TIMESTAMPTZ => Kind::TimestampTz,
            types::NUMERIC => Kind::Numeric,
            types::UUID => Kind::Uuid,
            _ => return None,
        };
        let readable = match (format, kind) {
            (Format::Text, Kind::Date | Kind::Timestamp | Kind::TimestampTz) => style.dates_are_iso,
            (Format::Text, Kind::Float4 | Kind::Float8) => style.floats_are_exact,
            _ => true,
        };
        readable.then_some(Self { kind, format })
    }

    /// The type has a collation: keys are ordered as PostgreSQL orders only under C, and equal only under a
    /// deterministic collation.
    #[must_use]
    pub fn has_collation(self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Bpchar)
    }

    /// The order of two values that are not NULL.
    ///
    /// # Errors
    /// When one is not written as its type is.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Result<Ordering, BadValue> {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        self.append_key(a, &mut left)?;
        self.append_key(b, &mut right)?;
        Ok(left.cmp(&right))
    }

    /// Appends the key of a value that is not NULL.
    ///
    /// # Errors
    /// When it is not written as its type is; `out` may then end in garbage.
    pub fn append_key(self, value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
        self.try_append_key(value, out).ok_or(BadValue {
            type_name: self.type_name(),
        })
    }

    fn try_append_key(self, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let text = self.format == Format::Text;
        match self.kind {
            Kind::Bool => out.push(match (text, value) {
                (true, b"t") | (false, [1]) => 1,
                (true, b"f") | (false, [0]) => 0,
                _ => return None,
            }),
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid => append_int(self.int(value)?, out),
            Kind::Float4 | Kind::Float8 => append_float(self.float(value)?, out),
            Kind::Numeric => numeric::Numeric::read(value, self.format)?.append_key(out),
            Kind::Date => append_int(
                if text {
                    datetime::date(value)?
                } else {
                    int4(value)?
                },
                out,
            ),
            Kind::Time => append_int(
                if text {
                    datetime::time(value)?
                } else {
                    int8(value)?
                },
                out,
            ),
            Kind::Timestamp => append_int(
                if text {
                    datetime::timestamp(value)?
                } else {
                    int8(value)?
                },
                out,
            ),
            Kind::TimestampTz => append_int(
                if text {
                    datetime::timestamptz(value)?
                } else {
                    int8(value)?
                },
                out,
            ),
            Kind::Uuid if text => out.extend_from_slice(&uuid(value)?),
            Kind::Uuid => out.extend_from_slice(<&[u8; 16]>::try_from(value).ok()?),
            Kind::Bytea if text => {
                for pair in value.strip_prefix(b"\\x")?.chunks(2) {
                    append_escaped(&[hex(pair)?], out);
                }
                out.extend_from_slice(&[0, 0]);
            }
            Kind::Bytea | Kind::Text => {
                append_escaped(value, out);
                out.extend_from_slice(&[0, 0]);
            }
            Kind::Bpchar => {
                let blanks = value.iter().rev().take_while(|byte| **byte == b' ').count();
                append_escaped(&value[..value.len() - blanks], out);
                out.extend_from_slice(&[0, 0]);
            }
        }
        Some(())
    }

    fn int(self, value: &[u8]) -> Option<i64> {
        match (self.format, self.kind) {
            (Format::Text, _) => parse_int(value),
            (Format::Binary, Kind::Int2) => {
                Some(i64::from(i16::from_be_bytes(value.try_into().ok()?)))
            }
            (Format::Binary, Kind::Int8) => int8(value),
            (Format::Binary, Kind::Oid) => {
                Some(i64::from(u32::from_be_bytes(value.try_into().ok()?)))
            }
            (Format::Binary, _) => int4(value),
        }
    }

    fn float(self, value: &[u8]) -> Option<f64> {
        match (self.format, self.kind) {
            // A float4's text names its float only when it is read as one: 0.1 is not 0.1::float8.
            (Format::Text, Kind::Float4) => std::str::from_utf8(value)
                .ok()?
                .parse::<f32>()
                .ok()
                .map(f64::from),
            (Format::Text, _) => std::str::from_utf8(value).ok()?.parse().ok(),
            (Format::Binary, Kind::Float4) => {
                Some(f64::from(f32::from_be_bytes(value.try_into().ok()?)))
            }
            (Format::Binary, _) => Some(f64::from_be_bytes(value.try_into().ok()?)),
        }
    }

    fn type_name(self) -> &'static str {
        match self.kind {
            Kind::Bool => "boolean",
            Kind::Bytea => "bytea",
            Kind::Int2 => "smallint",
            Kind::Int4 => "integer",
            Kind::Int8 => "bigint",
            Kind::Oid => "oid",
            Kind::Float4 => "real",
            Kind::Float8 => "double precision",
            Kind::Numeric => "numeric",
            Kind::Date => "date",
            Kind::Time => "time",
            Kind::Timestamp => "timestamp",
            Kind::TimestampTz => "timestamp with time zone",
            Kind::Uuid => "uuid",
            Kind::Text => "text",
            Kind::Bpchar => "character",
        }
    }
}

/// The integer types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntType {
    /// smallint
    Int2,
    /// integer
    Int4,
    /// bigint
    Int8,
}

impl IntType {
    /// By its OID.
    #[must_use]
    pub fn from_oid(type_oid: Oid) -> Option<Self> {
        match type_oid {
            types::INT2 => Some(Self::Int2),
            types::INT4 => Some(Self::Int4),
            types::INT8 => Some(Self::Int8),
            _ => None,
        }
    }

    /// What PostgreSQL says of a value that does not fit.
    #[must_use]
    pub fn out_of_range(self) -> &'static str {
        match self {
            Self::Int2 => "smallint out of range",
            Self::Int4 => "integer out of range",
            Self::Int8 => "bigint out of range",
        }
    }

    /// Reads a value in either format.
    ///
    /// # Errors
    /// When it is not written as its type is.
    pub fn read(self, value: &[u8], format: Format) -> Result<i64, BadValue> {
        let kind = match self {
            Self::Int2 => Kind::Int2,
            Self::Int4 => Kind::Int4,
            Self::Int8 => Kind::Int8,
        };
        let comparer = Comparer { kind, format };
        comparer.int(value).ok_or(BadValue {
            type_name: comparer.type_name(),
        })
    }

    /// Appends a value in either format; `None` when it does not fit.
    #[must_use]
    pub fn write(self, value: i128, format: Format, out: &mut Vec<u8>) -> Option<()> {
        let bytes: SmallVec<[u8; 8]> = match self {
            Self::Int2 => SmallVec::from_slice(&i16::try_from(value).ok()?.to_be_bytes()),
            Self::Int4 => SmallVec::from_slice(&i32::try_from(value).ok()?.to_be_bytes()),
            Self::Int8 => SmallVec::from_slice(&i64::try_from(value).ok()?.to_be_bytes()),
        };
        match format {
            Format::Text => out.extend_from_slice(value.to_string().as_bytes()),
            Format::Binary => out.extend_from_slice(&bytes),
        }
        Some(())
    }
}

fn parse_int(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn int4(value: &[u8]) -> Option<i64> {
    Some(i64::from(i32::from_be_bytes(value.try_into().ok()?)))
}

fn int8(value: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(value.try_into().ok()?))
}

/// Big endian with the sign bit turned, so that bytes order as integers do.
fn append_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

/// PostgreSQL's float order: NaN equals itself and is greater than all; -0 equals 0.
fn append_float(value: f64, out: &mut Vec<u8>) {
    let bits = if value.is_nan() {
        f64::NAN.to_bits() & !(1 << 63)
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    let ordered = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    out.extend_from_slice(&ordered.to_be_bytes());
}

/// Bytes with 0 written as 0 255, so that 0 0 can end them below every continuation.
fn append_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(zero) = memchr::memchr(0, rest) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, 255]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
}

/// Two hexadecimal digits.
fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = hex(pair)?;
    }
    Some(bytes)
}
