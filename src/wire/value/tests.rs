use super::numeric::Numeric;
use super::{BadValue, Comparer, TextStyle};
use crate::wire::frontend::Format;
use crate::wire::types as oid;
use proptest::prelude::*;
use std::cmp::Ordering;

/// What PostgreSQL 15 says: type|rank|text|binary in hexadecimal, where equal values have equal ranks.
const ORDER: &str = include_str!("order.txt");

fn type_oid(name: &str) -> u32 {
    match name {
        "bool" => oid::BOOL,
        "bpchar" => oid::BPCHAR,
        "bytea" => oid::BYTEA,
        "date" => oid::DATE,
        "float4" => oid::FLOAT4,
        "float8" => oid::FLOAT8,
        "int2" => oid::INT2,
        "int4" => oid::INT4,
        "int8" => oid::INT8,
        "numeric" => oid::NUMERIC,
        "oid" => oid::OID,
        "text" => oid::TEXT,
        "time" => oid::TIME,
        "timestamp" => oid::TIMESTAMP,
        "timestamptz" => oid::TIMESTAMPTZ,
        "uuid" => oid::UUID,
        other => panic!("no such type in order.txt: {other}"),
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn comparer(type_oid: u32, format: Format) -> Comparer {
    Comparer::for_type(type_oid, format, TextStyle::default()).unwrap()
}

#[test]
fn values_order_as_postgresql_orders_them() {
    let rows: Vec<(&str, u32, &str, Vec<u8>)> = ORDER
        .lines()
        .map(|line| {
            let parts: Vec<&str> = line.split('|').collect();
            (
                parts[0],
                parts[1].parse().unwrap(),
                parts[2],
                unhex(parts[3]),
            )
        })
        .collect();
    assert!(rows.len() > 100);
    for a in &rows {
        for b in rows.iter().filter(|b| b.0 == a.0) {
            let type_oid = type_oid(a.0.split(' ').next().unwrap());
            let text = comparer(type_oid, Format::Text).compare(a.2.as_bytes(), b.2.as_bytes());
            assert_eq!(
                text,
                Ok(a.1.cmp(&b.1)),
                "{} as text: {} and {}",
                a.0,
                a.2,
                b.2
            );
            let binary = comparer(type_oid, Format::Binary).compare(&a.3, &b.3);
            assert_eq!(
                binary,
                Ok(a.1.cmp(&b.1)),
                "{} in binary: {} and {}",
                a.0,
                a.2,
                b.2
            );
        }
    }
}

/// Both formats are decoded to the same thing, so the text forms mean what the binary ones say.
#[test]
fn text_and_binary_have_the_same_key() {
    for line in ORDER.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        let type_oid = type_oid(parts[0].split(' ').next().unwrap());
        let (mut text, mut binary) = (Vec::new(), Vec::new());
        comparer(type_oid, Format::Text)
            .append_key(parts[2].as_bytes(), &mut text)
            .unwrap();
        comparer(type_oid, Format::Binary)
            .append_key(&unhex(parts[3]), &mut binary)
            .unwrap();
        assert_eq!(text, binary, "{line}");
    }
}

#[test]
fn numerics_are_written_as_postgresql_writes_them() {
    for line in ORDER.lines().filter(|line| line.starts_with("numeric|")) {
        let parts: Vec<&str> = line.split('|').collect();
        for (format, form) in [
            (Format::Text, parts[2].as_bytes().to_vec()),
            (Format::Binary, unhex(parts[3])),
        ] {
            let value = Numeric::read(&form, format).unwrap();
            let (mut text, mut binary) = (Vec::new(), Vec::new());
            value.write(Format::Text, &mut text);
            value.write(Format::Binary, &mut binary);
            assert_eq!(String::from_utf8(text).unwrap(), parts[2]);
            assert_eq!(binary, unhex(parts[3]), "{line}");
        }
    }
}

#[test]
fn settings_decide_whether_text_can_be_read() {
    assert_eq!(TextStyle::new("'iso', 'DMY'", 3), TextStyle::default());
    assert_eq!(TextStyle::new("'ISO, DMY'", 1), TextStyle::default());
    let german = TextStyle::new("German, DMY", 1);
    let rounded = TextStyle::new("ISO, MDY", 0);
    for type_oid in [oid::DATE, oid::TIMESTAMP, oid::TIMESTAMPTZ] {
        assert_eq!(Comparer::for_type(type_oid, Format::Text, german), None);
        assert!(Comparer::for_type(type_oid, Format::Binary, german).is_some());
        assert!(Comparer::for_type(type_oid, Format::Text, rounded).is_some());
    }
    assert_eq!(Comparer::for_type(oid::FLOAT8, Format::Text, rounded), None);
    assert!(Comparer::for_type(oid::FLOAT8, Format::Binary, rounded).is_some());
    assert!(Comparer::for_type(oid::TIME, Format::Text, german).is_some());
}

#[test]
fn types_without_a_known_order_have_no_comparer() {
    // "char", name, json, timetz, interval, jsonb, int4[], money, inet, a user's type
    for type_oid in [18, 19, 114, 1266, 1186, 3802, 1007, 790, 869, 16_385] {
        assert_eq!(
            Comparer::for_type(type_oid, Format::Text, TextStyle::default()),
            None
        );
    }
}

#[test]
fn what_is_not_written_as_its_type_is_an_error() {
    let cases: &[(u32, Format, &[u8])] = &[
        (oid::BOOL, Format::Text, b"true"),
        (oid::BOOL, Format::Binary, b""),
        (oid::INT4, Format::Text, b""),
        (oid::INT4, Format::Text, b"1.0"),
        (oid::INT4, Format::Binary, b"\0\0\0"),
        (oid::INT8, Format::Text, b"9223372036854775808"),
        (oid::FLOAT8, Format::Text, b"x"),
        (oid::NUMERIC, Format::Text, b"1e5"),
        (oid::NUMERIC, Format::Text, b"."),
        (oid::NUMERIC, Format::Text, b"-"),
        (oid::NUMERIC, Format::Text, b""),
        (oid::NUMERIC, Format::Text, b"1."),
        (oid::NUMERIC, Format::Binary, b"\0\x01\0\0\0\0\0\0"),
        (oid::NUMERIC, Format::Binary, b"\0\x01\0\0\0\0\0\0\xff\xff"),
        (oid::NUMERIC, Format::Binary, b"\0\x01\x80\0\0\0\0\0\0\x01"),
        (oid::DATE, Format::Text, b"01/02/2024"),
        (oid::DATE, Format::Text, b"2024-13-01"),
        (oid::DATE, Format::Text, b"0000-01-01"),
        (oid::DATE, Format::Text, b"2024-01-01 AD"),
        (oid::TIMESTAMP, Format::Text, b"2024-01-01"),
        (oid::TIMESTAMP, Format::Text, b"2024-01-01 00:00:00+00"),
        (oid::TIMESTAMPTZ, Format::Text, b"2024-01-01 00:00:00"),
        (oid::TIMESTAMPTZ, Format::Text, b"2024-01-01 00:00:00 CET"),
        (oid::UUID, Format::Text, b"a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        (oid::UUID, Format::Binary, b"x"),
        // bytea_output = escape
        (oid::BYTEA, Format::Text, b""),
        (oid::BYTEA, Format::Text, b"abc"),
        (oid::BYTEA, Format::Text, b"\\000"),
        (oid::BYTEA, Format::Text, b"\\x0"),
    ];
    for (type_oid, format, value) in cases {
        let key = comparer(*type_oid, *format).append_key(value, &mut Vec::new());
        assert!(
            matches!(key, Err(BadValue { .. })),
            "{type_oid} {format:?} {value:?}"
        );
    }
}

#[test]
fn a_sum_that_no_numeric_can_hold_is_an_overflow() {
    let mut nines = vec![b'9'; 131_072];
    let largest = Numeric::read(&nines, Format::Text).unwrap();
    let one = Numeric::read(b"1", Format::Text).unwrap();
    assert!(largest.add(&one).is_err());
    nines.push(b'9');
    assert_eq!(Numeric::read(&nines, Format::Text), None);
}

/// A number and how it is written: -12345 with scale 2 is -123.45.
#[derive(Debug, Clone)]
struct Scaled {
    units: i128,
    scale: u32,
}

impl Scaled {
    fn text(&self) -> String {
        let sign = if self.units < 0 { "-" } else { "" };
        let power = 10_u128.pow(self.scale);
        let (whole, fraction) = (
            self.units.unsigned_abs() / power,
            self.units.unsigned_abs() % power,
        );
        match self.scale {
            0 => format!("{sign}{whole}"),
            scale => format!("{sign}{whole}.{fraction:0width$}", width = scale as usize),
        }
    }

    fn at(&self, scale: u32) -> i128 {
        self.units * 10_i128.pow(scale - self.scale)
    }

    fn numeric(&self) -> Numeric {
        Numeric::read(self.text().as_bytes(), Format::Text).unwrap()
    }
}

fn scaled() -> impl Strategy<Value = Scaled> {
    let units = prop_oneof![
        -1_000_000_000_000_000_000_000_i128..1_000_000_000_000_000_000_000,
        -20_000_i128..20_000,
        (0_u32..20, -1_i128..2).prop_map(|(power, near)| 10_i128.pow(power) + near),
    ];
    (units, 0_u32..12).prop_map(|(units, scale)| Scaled { units, scale })
}

fn written(value: &Numeric, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(format, &mut out);
    out
}

proptest! {
    #[test]
    fn numerics_compare_as_integers_do(a in scaled(), b in scaled()) {
        let expected = a.at(12).cmp(&b.at(12));
        let text = comparer(oid::NUMERIC, Format::Text).compare(a.text().as_bytes(), b.text().as_bytes());
        prop_assert_eq!(text, Ok(expected), "{} and {}", a.text(), b.text());
        let (left, right) = (written(&a.numeric(), Format::Binary), written(&b.numeric(), Format::Binary));
        let binary = comparer(oid::NUMERIC, Format::Binary).compare(&left, &right);
        prop_assert_eq!(binary, Ok(expected), "{} and {}", a.text(), b.text());
    }

    #[test]
    fn numerics_add_as_integers_do(a in scaled(), b in scaled()) {
        let scale = a.scale.max(b.scale);
        let expected = Scaled { units: a.at(scale) + b.at(scale), scale };
        let sum = a.numeric().add(&b.numeric()).unwrap();
        prop_assert_eq!(String::from_utf8(written(&sum, Format::Text)).unwrap(), expected.text());
        let expected = if expected.units == 0 { Scaled { units: 0, scale } } else { expected };
        prop_assert_eq!(&sum, &expected.numeric());
        let read = Numeric::read(&written(&sum, Format::Binary), Format::Binary);
        prop_assert_eq!(read, Some(sum));
    }

    #[test]
    fn floats_order_as_postgresql_orders_them(a in any::<f64>(), b in any::<f64>()) {
        let expected = match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => a.partial_cmp(&b).unwrap(),
        };
        let order = comparer(oid::FLOAT8, Format::Binary).compare(&a.to_be_bytes(), &b.to_be_bytes());
        prop_assert_eq!(order, Ok(expected));
    }

    #[test]
    fn byte_strings_order_by_bytes_also_behind_other_keys(
        a in proptest::collection::vec(0_u8..3, 0..5),
        b in proptest::collection::vec(0_u8..3, 0..5),
        c in any::<i16>(),
        d in any::<i16>(),
    ) {
        let key = |bytes: &[u8], number: i16| {
            let mut key = Vec::new();
            comparer(oid::BYTEA, Format::Binary).append_key(bytes, &mut key).unwrap();
            comparer(oid::INT2, Format::Binary).append_key(&number.to_be_bytes(), &mut key).unwrap();
            key
        };
        prop_assert_eq!(key(&a, c).cmp(&key(&b, d)), a.cmp(&b).then(c.cmp(&d)));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "[-+:. 0-9BCinfyNa\\\\x]{0,30}") {
        for type_oid in [16, 17, 20, 21, 23, 25, 26, 700, 701, 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950] {
            for format in [Format::Text, Format::Binary] {
                for value in [bytes.as_slice(), text.as_bytes()] {
                    let mut key = Vec::new();
                    if comparer(type_oid, format).append_key(value, &mut key).is_ok() && type_oid == oid::NUMERIC {
                        let numeric = Numeric::read(value, format).unwrap();
                        let sum = numeric.add(&numeric);
                        if let Ok(sum) = sum {
                            written(&sum, Format::Text);
                            written(&sum, Format::Binary);
                        }
                    }
                }
            }
        }
    }
}
