//! Canonical bytes and buckets. The PostgreSQL vectors come from `satisfies_hash_partition` on PostgreSQL 15.

use super::*;
use KeyFamily::{Bool, Bpchar, Bytea, Date, Int, Text, Timestamp, TimestampTz, Uuid};

/// `postgres` modulus 16384 bucket of a text value.
fn postgres(family: KeyFamily, text: &str) -> u16 {
    let KeyValue::Bytes(bytes) = from_text(text.as_bytes(), family) else {
        panic!("{text} is a {family:?}")
    };
    bucket(
        KeyHash::Postgres { modulus: 16_384 },
        &[(family, Some(&bytes))],
    )
    .0
}

#[test]
fn postgres_hash_is_postgres() {
    for (family, text, expected) in [
        (Int, "1", 4024),
        (Int, "4294967296", 4024),
        (Int, "0", 6576),
        (Int, "42", 6754),
        (Int, "-9223372036854775808", 8575),
        (Int, "-1", 12197),
        (Int, "9223372036854775807", 14966),
        (Int, "7", 1303),
        (Int, "-7", 3290),
        (Text, "a", 3934),
        (Text, "hello world!", 4316),
        (Text, "", 10406),
        (Text, "hello world", 11656),
        (Text, "thirteen bytes and more, über 24", 14822),
        (Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", 9680),
        (Bool, "t", 4024),
        (Bool, "f", 6576),
        (Date, "2024-01-31", 6970),
        (Date, "1999-12-31", 12197),
        (Timestamp, "2024-01-31 10:00:00.5", 15740),
        (TimestampTz, "2024-01-31 08:00:00+00", 445),
        (TimestampTz, "2024-01-31T10:00:00+02:00", 445),
        (Bytea, "\\x00ff", 11081),
        (Bpchar, "ab   ", 7200),
    ] {
        assert_eq!(postgres(family, text), expected, "{family:?} {text}");
    }
    let hash = KeyHash::Postgres { modulus: 16_384 };
    let one = 1i64.to_le_bytes();
    assert_eq!(
        bucket(hash, &[(Int, Some(&one)), (Text, Some(b"x"))]).0,
        14902
    );
    assert_eq!(bucket(hash, &[(Int, Some(&one)), (Text, None)]).0, 4024);
    assert_eq!(bucket(hash, &[(Int, None)]).0, 0);
    let seven = KeyHash::Postgres { modulus: 7 };
    assert_eq!(bucket(seven, &[(Int, Some(&42i64.to_le_bytes()))]).0, 0);
    assert_eq!(bucket(seven, &[(Int, Some(&43i64.to_le_bytes()))]).0, 1);
}

#[test]
fn xxh3_buckets_are_fixed() {
    let one = 1i64.to_le_bytes();
    assert_eq!(
        u64::from(bucket(KeyHash::Xxh3, &[(Int, Some(&one))]).0),
        xxh3_64(&one) % 16_384
    );
    assert_eq!(bucket(KeyHash::Xxh3, &[(Int, None)]).0, 0);
    let whole = [8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(
        u64::from(bucket(KeyHash::Xxh3, &[(Int, Some(&one)), (Text, None)]).0),
        xxh3_64(&whole) % 16_384
    );
}

fn compare(source: &str, family: KeyFamily, given: ConstantType) -> KeyValue {
    let kind = if source.starts_with('\'') {
        LiteralKind::String
    } else if source.starts_with(['E', 'e']) {
        LiteralKind::EscapeString
    } else if source.starts_with('$') {
        LiteralKind::DollarString
    } else if source.contains(['.', 'e']) {
        LiteralKind::Decimal
    } else {
        LiteralKind::Integer
    };
    let end = u32::try_from(source.len()).unwrap();
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    from_literal(
        source,
        &Literal {
            start: 0,
            end,
            kind,
        },
        settings,
        false,
        (family, given, Use::Compare),
    )
}

#[test]
fn constants_pin_only_when_certain() {
    let context = ConstantType::Context;
    let seven = int(7);
    for source in [
        "7", "7.0", "7.", "0.7e1", "70e-1", "'7'", "' 7 '", "'+7'", "$$7$$", "$a$7$a$", "E'\\x37'",
    ] {
        assert_eq!(compare(source, Int, context), seven, "{source}");
    }
    for source in ["7.5", "9223372036854775808", "1e30", "1e-3"] {
        assert_eq!(compare(source, Int, context), KeyValue::Nothing, "{source}");
    }
    for source in [
        "'x'",
        "'7.0'",
        "''",
        "'0x7'",
        "'1_000'",
        "'9223372036854775808'",
    ] {
        assert_eq!(compare(source, Int, context), KeyValue::Unknown, "{source}");
    }
    assert_eq!(compare("7", Int, ConstantType::Other), KeyValue::Unknown);
    assert_eq!(compare("7", Text, context), KeyValue::Unknown);
    assert_eq!(
        compare("7.5", Int, ConstantType::Family(Int)),
        KeyValue::Unknown
    );
    assert_eq!(
        compare("'7.5'", Int, ConstantType::Numeric),
        KeyValue::Nothing
    );
    assert_eq!(
        compare("'it''s'", Text, context),
        KeyValue::Bytes(KeyBytes::from_slice(b"it's"))
    );
    assert_eq!(
        compare("E'it\\'s\\n\\101'", Text, context),
        KeyValue::Bytes(KeyBytes::from_slice(b"it's\nA"))
    );
    assert_eq!(
        compare("'a'\n'b'", Text, context),
        KeyValue::Bytes(KeyBytes::from_slice(b"ab"))
    );
    assert_eq!(
        compare("'a  '", Bpchar, context),
        KeyValue::Bytes(KeyBytes::from_slice(b"a"))
    );
    assert_eq!(
        compare("'a  '", Bpchar, ConstantType::Family(Text)),
        KeyValue::Unknown
    );
    assert_eq!(
        compare("'a'", Text, ConstantType::Family(Bpchar)),
        KeyValue::Unknown
    );
    let uuid = compare("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", Uuid, context);
    for source in [
        "'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'",
        "'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
        "'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'",
    ] {
        assert_eq!(compare(source, Uuid, context), uuid, "{source}");
    }
    for source in [
        "'a0eebc99-'",
        "' a0eebc999c0b4ef8bb6d6bb9bd380a11'",
        "'a0e-ebc999c0b4ef8bb6d6bb9bd380a11'",
    ] {
        assert_eq!(
            compare(source, Uuid, context),
            KeyValue::Unknown,
            "{source}"
        );
    }
    for (source, truth) in [
        ("'t'", 1),
        ("'TRU'", 1),
        ("'y'", 1),
        ("'on'", 1),
        ("' 1 '", 1),
        ("'f'", 0),
        ("'no'", 0),
        ("'of'", 0),
        ("'0'", 0),
    ] {
        assert_eq!(
            compare(source, Bool, context),
            KeyValue::Bytes(KeyBytes::from_slice(&[truth])),
            "{source}"
        );
    }
    for source in ["'o'", "''", "'truex'", "'2'"] {
        assert_eq!(
            compare(source, Bool, context),
            KeyValue::Unknown,
            "{source}"
        );
    }
    for source in [
        "'2024-1-31'",
        "'2024-02-30'",
        "'01/02/2024'",
        "'today'",
        "'2024-01-31 BC'",
        "'0000-01-01'",
    ] {
        assert_eq!(
            compare(source, Date, context),
            KeyValue::Unknown,
            "{source}"
        );
    }
    assert_eq!(compare("'2000-01-01'", Date, context), int(0));
    assert_eq!(compare("'2000-03-01'", Date, context), int(60));
    assert_eq!(compare("'2000-01-01'", Timestamp, context), int(0));
    assert_eq!(
        compare("'2000-01-01 00:00:01.25'", Timestamp, context),
        int(1_250_000)
    );
    assert_eq!(
        compare("'2000-01-01 00:00:01+01'", Timestamp, context),
        KeyValue::Unknown
    );
    assert_eq!(
        compare("'2000-01-01 00:00:01'", TimestampTz, context),
        KeyValue::Unknown
    );
    assert_eq!(
        compare("'2000-01-01 01:00:00+01'", TimestampTz, context),
        int(0)
    );
    assert_eq!(
        compare("'a\\\\b\\001'", Bytea, context),
        KeyValue::Bytes(KeyBytes::from_slice(b"a\\b\x01"))
    );
    assert_eq!(
        compare("'\\xdeAD'", Bytea, context),
        KeyValue::Bytes(KeyBytes::from_slice(&[0xde, 0xad]))
    );
}

fn param(oid: u32, binary: bool, bytes: &[u8], family: KeyFamily) -> KeyValue {
    from_param(
        Param {
            oid,
            binary,
            bytes: Some(bytes),
        },
        true,
        family,
        ConstantType::Context,
        Use::Compare,
    )
}

#[test]
fn text_and_binary_parameters_agree() {
    for (oid, binary, bytes) in [
        (0, false, &b"7"[..]),
        (20, false, b"7"),
        (1700, false, b"7.00"),
        (21, true, &[0, 7]),
        (23, true, &[0, 0, 0, 7]),
        (20, true, &[0, 0, 0, 0, 0, 0, 0, 7]),
        (0, true, &[0, 0, 0, 7]),
    ] {
        assert_eq!(param(oid, binary, bytes, Int), int(7), "{oid} {binary}");
    }
    assert_eq!(param(701, false, b"7", Int), KeyValue::Unknown);
    assert_eq!(param(25, false, b"7", Int), KeyValue::Unknown);
    assert_eq!(
        param(1700, true, &[0, 0, 0, 0, 0, 0, 0, 0], Int),
        KeyValue::Unknown
    );
    assert_eq!(param(1043, false, b"x", Text), param(0, true, b"x", Text));
    assert_eq!(
        param(1082, true, &[0, 0, 0, 60], Date),
        compare("'2000-03-01'", Date, ConstantType::Context)
    );
    let null = Param {
        oid: 20,
        binary: false,
        bytes: None,
    };
    assert_eq!(
        from_param(null, true, Int, ConstantType::Context, Use::Compare),
        KeyValue::Nothing
    );
    assert_eq!(
        from_param(null, true, Int, ConstantType::Context, Use::Store),
        KeyValue::Null
    );
    let shared = Param {
        oid: 0,
        binary: false,
        bytes: Some(b"7"),
    };
    assert_eq!(
        from_param(shared, false, Int, ConstantType::Context, Use::Compare),
        KeyValue::Unknown
    );
}

#[test]
fn arrays() {
    let text = |value: &str| array_from_string(value.as_bytes(), Int, ConstantType::Context);
    assert_eq!(
        text("{1, 2 ,NULL}"),
        Some(vec![int(1), int(2), KeyValue::Nothing])
    );
    assert_eq!(text("{}"), Some(vec![]));
    assert_eq!(text("{\"3\"}"), Some(vec![int(3)]));
    for broken in ["{1,}", "{{1}}", "[1:1]={1}", "1,2", "{1", "{\"1}"] {
        assert_eq!(text(broken), None, "{broken}");
    }
    let mut binary = Vec::new();
    for word in [1i32, 1, 23, 3, 1, 4, 1, 4, 2, -1] {
        binary.extend_from_slice(&word.to_be_bytes());
    }
    let param = Param {
        oid: 1007,
        binary: true,
        bytes: Some(&binary),
    };
    let values = array_from_param(param, true, Int, ConstantType::Context);
    assert_eq!(values, Some(vec![int(1), int(2), KeyValue::Nothing]));
    let cut = Param {
        bytes: Some(&binary[..binary.len() - 2]),
        ..param
    };
    assert_eq!(
        array_from_param(cut, true, Int, ConstantType::Context),
        None
    );
}

#[test]
fn storing_is_not_comparing() {
    let store = |source: &str| from_number(source, false, Int, ConstantType::Context, Use::Store);
    assert_eq!(store("7.0"), int(7));
    assert_eq!(store("7.5"), KeyValue::Unknown);
}
