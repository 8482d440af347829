//! Keys: from a literal, a parameter or a constant to canonical bytes, and from bytes to a bucket.
//!
//! DESIGN §5 is the law: the bytes are the same for text and binary, for `7`, `'7'` and `7.0`; what is not certainly
//! equal to one value of the key's type never pins ([`KeyValue::Unknown`]).

use crate::statement::scan::{Literal, LiteralKind, ScanSettings, Scanned, literal_text};
use crate::topology::{BUCKETS, Bucket, KeyFamily, KeyHash};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

/// Canonical bytes of one key column. Integers, uuids and dates never leave the stack.
pub type KeyBytes = SmallVec<[u8; 24]>;

/// The values one column is compared with.
pub type KeyValues = SmallVec<[KeyValue; 1]>;

/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;

/// Microseconds in a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// PostgreSQL's HASH_PARTITION_SEED.
const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// Marks a NULL part of a multi-column key.
const NULL_LENGTH: u32 = u32::MAX;

/// What a constant says about a key column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyValue {
    /// Exactly this value.
    Bytes(KeyBytes),
    /// NULL itself (`IS NULL`, or a NULL stored by INSERT).
    Null,
    /// Equal to no value of the type: selects nothing.
    Nothing,
    /// Not certain: never pins.
    Unknown,
}

/// Is the constant compared with the column or stored in it? Storing converts (1.5 becomes 2), comparing does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// `column = constant`
    Compare,
    /// `INSERT … VALUES (constant)`
    Store,
}

/// The type a constant was given in the text, or that its own form says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConstantType {
    /// None: PostgreSQL types it from the column.
    Context,
    /// A family's type.
    Family(KeyFamily),
    /// numeric without precision.
    Numeric,
    /// Anything else: never pins.
    Other,
}

/// A parameter's value as Bind sent it.
#[derive(Debug, Clone, Copy)]
pub struct Param<'a> {
    /// The type OID the client declared, 0 when it left it to the server.
    pub oid: u32,
    /// Binary format.
    pub binary: bool,
    /// The value, `None` for NULL.
    pub bytes: Option<&'a [u8]>,
}

/// One execution's parameters.
pub trait Params {
    /// Parameter `$number` (1-based), if Bind sent it.
    fn get(&self, number: u16) -> Option<Param<'_>>;
}

/// No parameters: the simple protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoParams;

impl Params for NoParams {
    fn get(&self, _number: u16) -> Option<Param<'_>> {
        None
    }
}

/// What one execution fills a recipe with.
pub struct Values<'a> {
    /// The message's text, which the statement's literals point into.
    pub text: &'a str,
    /// The statement.
    pub statement: &'a Scanned,
    /// The parameters.
    pub params: &'a dyn Params,
}

/// The bucket of a key: one part per key column, `None` for NULL.
#[must_use]
pub fn bucket(hash: KeyHash, parts: &[(KeyFamily, Option<&[u8]>)]) -> Bucket {
    match hash {
        KeyHash::Xxh3 => Bucket(remainder(xxh3_key(parts), BUCKETS as u64)),
        KeyHash::Postgres { modulus } => {
            Bucket(remainder(postgres_key(parts), u64::from(modulus.max(1))))
        }
    }
}

/// A hash of a key that is the same in every keyspace: one part per key column, `None` for NULL.
#[must_use]
pub(crate) fn hash_of(parts: &[(KeyFamily, Option<&[u8]>)]) -> u64 {
    xxh3_key(parts)
}

/// `hash mod modulus`, which fits because no modulus exceeds [`BUCKETS`].
fn remainder(hash: u64, modulus: u64) -> u16 {
    u16::try_from(hash % modulus).unwrap_or(0)
}

/// A single column's bare bytes, or length-prefixed parts; a single NULL is bucket 0 by definition.
fn xxh3_key(parts: &[(KeyFamily, Option<&[u8]>)]) -> u64 {
    match parts {
        [(_, None)] => 0,
        [(_, Some(bytes))] => xxh3_64(bytes),
        parts => {
            let mut whole: SmallVec<[u8; 64]> = SmallVec::new();
            for (_, part) in parts {
                match part {
                    Some(bytes) => {
                        let length = u32::try_from(bytes.len()).unwrap_or(NULL_LENGTH - 1);
                        whole.extend_from_slice(&length.to_le_bytes());
                        whole.extend_from_slice(bytes);
                    }
                    None => whole.extend_from_slice(&NULL_LENGTH.to_le_bytes()),
                }
            }
            xxh3_64(&whole)
        }
    }
}

/// PostgreSQL's `compute_partition_hash_value`: NULL parts add nothing.
fn postgres_key(parts: &[(KeyFamily, Option<&[u8]>)]) -> u64 {
    let mut hash = 0u64;
    for (family, part) in parts {
        if let Some(bytes) = part {
            hash = combine(hash, postgres_part(*family, bytes));
        }
    }
    hash
}

/// `hash_combine64`.
fn combine(a: u64, b: u64) -> u64 {
    a ^ b
        .wrapping_add(0x49a0_f4dd_15e5_a8e3)
        .wrapping_add(a << 54)
        .wrapping_add(a >> 7)
}

/// The type's extended hash function with the partition seed.
fn postgres_part(family: KeyFamily, bytes: &[u8]) -> u64 {
    let wide = || i64::from_le_bytes(bytes.try_into().unwrap_or([0; 8]));
    match family {
        KeyFamily::Int | KeyFamily::Timestamp | KeyFamily::TimestampTz => hash_u32(fold64(wide())),
        KeyFamily::Date => hash_u32(low32(wide().cast_unsigned())),
        KeyFamily::Bool => hash_u32(u32::from(bytes.first().copied().unwrap_or(0))),
        KeyFamily::Text | KeyFamily::Bpchar | KeyFamily::Uuid | KeyFamily::Bytea => {
            hash_bytes(bytes)
        }
    }
}

/// `hashint8extended`'s fold, which makes int2, int4 and int8 hash alike.
fn fold64(value: i64) -> u32 {
    let bits = value.cast_unsigned();
    let (low, high) = (low32(bits), low32(bits >> 32));
    low ^ if value >= 0 { high } else { !high }
}

/// The low half.
fn low32(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

/// The three words of Jenkins' lookup3, as PostgreSQL starts them.
struct Lookup3 {
    a: u32,
    b: u32,
    c: u32,
}

impl Lookup3 {
    fn new(length: u32) -> Self {
        let start = 0x9e37_79b9_u32.wrapping_add(length).wrapping_add(3_923_095);
        let mut words = Self {
            a: start,
            b: start,
            c: start,
        };
        words.a = words.a.wrapping_add(low32(PARTITION_SEED >> 32));
        words.b = words.b.wrapping_add(low32(PARTITION_SEED));
        words.mix();
        words
    }

    fn mix(&mut self) {
        let Self {
            mut a,
            mut b,
            mut c,
        } = *self;
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        *self = Self { a, b, c };
    }

    fn finish(self) -> u64 {
        let Self {
            mut a,
            mut b,
            mut c,
        } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        (u64::from(b) << 32) | u64::from(c)
    }
}

/// `hash_bytes_uint32_extended` with the partition seed.
fn hash_u32(value: u32) -> u64 {
    let mut words = Lookup3::new(4);
    words.a = words.a.wrapping_add(value);
    words.finish()
}

/// `hash_bytes_extended` with the partition seed.
fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut words = Lookup3::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        words.a = words.a.wrapping_add(little(&chunk[0..4]));
        words.b = words.b.wrapping_add(little(&chunk[4..8]));
        words.c = words.c.wrapping_add(little(&chunk[8..12]));
        words.mix();
    }
    let rest = chunks.remainder();
    words.a = words.a.wrapping_add(little(&rest[..rest.len().min(4)]));
    if rest.len() > 4 {
        words.b = words.b.wrapping_add(little(&rest[4..rest.len().min(8)]));
    }
    if rest.len() > 8 {
        // The lowest byte of c is reserved for the length.
        words.c = words.c.wrapping_add(little(&rest[8..]) << 8);
    }
    words.finish()
}

/// Up to four bytes as a little-endian word.
fn little(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| (word << 8) | u32::from(*byte))
}

/// A literal of the client's text as a key value.
#[must_use]
pub fn from_literal(
    text: &str,
    literal: &Literal,
    settings: ScanSettings,
    negative: bool,
    column: (KeyFamily, ConstantType, Use),
) -> KeyValue {
    let (family, given, usage) = column;
    let Ok(value) = literal_text(text, literal, settings) else {
        return KeyValue::Unknown;
    };
    match literal.kind {
        LiteralKind::Integer | LiteralKind::Decimal => {
            from_number(&value, negative, family, given, usage)
        }
        LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString if negative => {
            KeyValue::Unknown
        }
        LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => {
            from_string(value.as_bytes(), family, given, usage)
        }
    }
}

/// An unquoted number as a key value.
#[must_use]
pub fn from_number(
    source: &str,
    negative: bool,
    family: KeyFamily,
    given: ConstantType,
    usage: Use,
) -> KeyValue {
    if family != KeyFamily::Int {
        return KeyValue::Unknown;
    }
    let value = exact_integer(source, negative);
    match (given, usage) {
        (ConstantType::Context | ConstantType::Numeric, Use::Compare) => match value {
            Exact::Integer(value) => int(value),
            Exact::None => KeyValue::Nothing,
            Exact::Unknown => KeyValue::Unknown,
        },
        // A cast to an integer type, or storing, rounds: only what is an integer already is certain.
        (ConstantType::Context | ConstantType::Numeric, Use::Store)
        | (ConstantType::Family(KeyFamily::Int), _) => match value {
            Exact::Integer(value) => int(value),
            Exact::None | Exact::Unknown => KeyValue::Unknown,
        },
        _ => KeyValue::Unknown,
    }
}

/// A quoted string's value as a key value.
#[must_use]
pub fn from_string(value: &[u8], family: KeyFamily, given: ConstantType, usage: Use) -> KeyValue {
    match given {
        ConstantType::Context => from_text(value, family),
        ConstantType::Family(KeyFamily::Bpchar) if family == KeyFamily::Text => KeyValue::Unknown,
        ConstantType::Family(KeyFamily::Text) if family == KeyFamily::Bpchar => {
            text_as_bpchar(value)
        }
        ConstantType::Family(given) if given == family => from_text(value, family),
        ConstantType::Numeric if family == KeyFamily::Int => std::str::from_utf8(value)
            .map_or(KeyValue::Unknown, |number| {
                signed_number(number.trim_matches(is_space), family, usage)
            }),
        ConstantType::Family(_) | ConstantType::Numeric | ConstantType::Other => KeyValue::Unknown,
    }
}

/// A parameter as a key value. `typed_by_context` says that every use of it makes PostgreSQL give it a type of the
/// key's family, so an undeclared type is that type.
#[must_use]
pub fn from_param(
    param: Param<'_>,
    typed_by_context: bool,
    family: KeyFamily,
    given: ConstantType,
    usage: Use,
) -> KeyValue {
    let Some(bytes) = param.bytes else {
        return match usage {
            Use::Compare => KeyValue::Nothing,
            Use::Store => KeyValue::Null,
        };
    };
    let declared = match type_of(param.oid) {
        ConstantType::Context if typed_by_context => given,
        ConstantType::Context => return KeyValue::Unknown,
        declared => match given {
            // A cast between types of one family keeps the value; another conversion is not followed.
            ConstantType::Context => declared,
            given if given == declared => declared,
            _ => return KeyValue::Unknown,
        },
    };
    if !param.binary {
        return from_string(bytes, family, declared, usage);
    }
    match declared {
        ConstantType::Context => from_binary(bytes, family),
        ConstantType::Family(given) if given == family => from_binary(bytes, family),
        ConstantType::Family(KeyFamily::Text) if family == KeyFamily::Bpchar => {
            text_as_bpchar(bytes)
        }
        ConstantType::Family(_) | ConstantType::Numeric | ConstantType::Other => KeyValue::Unknown,
    }
}

/// The elements of an array literal `{…}`; `None` when it cannot be read for certain.
#[must_use]
pub fn array_from_string(
    value: &[u8],
    family: KeyFamily,
    element: ConstantType,
) -> Option<Vec<KeyValue>> {
    let mut values = Vec::new();
    for part in array_parts(value)? {
        values.push(match part {
            None => KeyValue::Nothing,
            Some(part) => from_string(&part, family, element, Use::Compare),
        });
    }
    Some(values)
}

/// The elements of an array parameter; `None` when it cannot be read for certain.
#[must_use]
pub fn array_from_param(
    param: Param<'_>,
    typed_by_context: bool,
    family: KeyFamily,
    given: ConstantType,
) -> Option<Vec<KeyValue>> {
    let Some(bytes) = param.bytes else {
        return Some(Vec::new());
    };
    let element = match element_type_of(param.oid) {
        ConstantType::Context if typed_by_context => given,
        ConstantType::Context => return None,
        declared => match given {
            ConstantType::Context => declared,
            given if given == declared => declared,
            _ => return None,
        },
    };
    if param.binary {
        array_from_binary(bytes, family, element)
    } else {
        array_from_string(bytes, family, element)
    }
}

/// The array wire format: dimensions, a NULL flag, the element type, (length, lower bound) per dimension, elements.
fn array_from_binary(
    bytes: &[u8],
    family: KeyFamily,
    element: ConstantType,
) -> Option<Vec<KeyValue>> {
    let mut rest = bytes;
    let dimensions = take_i32(&mut rest)?;
    let _has_null = take_i32(&mut rest)?;
    let inner = type_of(take_i32(&mut rest)?.cast_unsigned());
    if !(0..=6).contains(&dimensions) || (element != ConstantType::Context && inner != element) {
        return None;
    }
    if inner == ConstantType::Context {
        return None;
    }
    let mut count = i64::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(i64::from(take_i32(&mut rest)?))?;
        let _lower_bound = take_i32(&mut rest)?;
    }
    let mut values = Vec::new();
    for _ in 0..count {
        let length = take_i32(&mut rest)?;
        if length < 0 {
            values.push(KeyValue::Nothing);
            continue;
        }
        let length = usize::try_from(length).ok()?;
        let part = rest.get(..length)?;
        rest = &rest[length..];
        values.push(match inner {
            ConstantType::Family(inner) if inner == family => from_binary(part, family),
            ConstantType::Family(KeyFamily::Text) if family == KeyFamily::Bpchar => {
                text_as_bpchar(part)
            }
            _ => KeyValue::Unknown,
        });
    }
    rest.is_empty().then_some(values)
}

/// A big-endian i32 off the front.
fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}

/// The parts of `{a,"b c",NULL}`. Nested arrays and explicit bounds are not read.
fn array_parts(value: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let body = value.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut parts = Vec::new();
    if body.trim_ascii().is_empty() {
        return Some(parts);
    }
    let mut bytes = body.iter().copied().peekable();
    loop {
        while bytes.next_if(|b| is_space(char::from(*b))).is_some() {}
        if bytes.next_if_eq(&b'"').is_some() {
            let mut part = Vec::new();
            loop {
                match bytes.next()? {
                    b'"' => break,
                    b'\\' => part.push(bytes.next()?),
                    other => part.push(other),
                }
            }
            parts.push(Some(part));
            while bytes.next_if(|b| is_space(char::from(*b))).is_some() {}
        } else {
            let mut part = Vec::new();
            while let Some(byte) = bytes.next_if(|b| *b != b',') {
                if matches!(byte, b'{' | b'}' | b'"' | b'\\') {
                    return None;
                }
                part.push(byte);
            }
            // array_isspace() knows \v, which is no white space of Rust's.
            while part.last().is_some_and(|b| is_space(char::from(*b))) {
                part.pop();
            }
            if part.is_empty() {
                return None;
            }
            parts.push((!part.eq_ignore_ascii_case(b"null")).then_some(part));
        }
        match bytes.next() {
            None => return Some(parts),
            Some(b',') => {}
            Some(_) => return None,
        }
    }
}

/// The type input function of the family, for the forms that are certain.
fn from_text(value: &[u8], family: KeyFamily) -> KeyValue {
    let Ok(text) = std::str::from_utf8(value) else {
        return KeyValue::Unknown;
    };
    let bytes = match family {
        KeyFamily::Int => return parse_int(text).map_or(KeyValue::Unknown, int),
        KeyFamily::Text => Some(KeyBytes::from_slice(value)),
        KeyFamily::Bpchar => Some(KeyBytes::from_slice(trim_blanks(value))),
        KeyFamily::Uuid => parse_uuid(value).map(|uuid| KeyBytes::from_slice(&uuid)),
        KeyFamily::Bool => parse_bool(text).map(|value| KeyBytes::from_slice(&[u8::from(value)])),
        KeyFamily::Date => parse_date(text).map(|days| KeyBytes::from_slice(&days.to_le_bytes())),
        KeyFamily::Timestamp => match parse_timestamp(text) {
            Some((micros, None)) => Some(KeyBytes::from_slice(&micros.to_le_bytes())),
            _ => None,
        },
        KeyFamily::TimestampTz => match parse_timestamp(text) {
            Some((micros, Some(offset))) => {
                Some(KeyBytes::from_slice(&(micros - offset).to_le_bytes()))
            }
            _ => None,
        },
        KeyFamily::Bytea => parse_bytea(value),
    };
    bytes.map_or(KeyValue::Unknown, KeyValue::Bytes)
}

/// The type's binary form.
fn from_binary(bytes: &[u8], family: KeyFamily) -> KeyValue {
    let known = match family {
        KeyFamily::Int => match *bytes {
            [a, b] => return int(i64::from(i16::from_be_bytes([a, b]))),
            [a, b, c, d] => return int(i64::from(i32::from_be_bytes([a, b, c, d]))),
            [a, b, c, d, e, f, g, h] => return int(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => None,
        },
        KeyFamily::Text => std::str::from_utf8(bytes)
            .ok()
            .map(|_| KeyBytes::from_slice(bytes)),
        KeyFamily::Bpchar => std::str::from_utf8(bytes)
            .ok()
            .map(|_| KeyBytes::from_slice(trim_blanks(bytes))),
        KeyFamily::Uuid => (bytes.len() == 16).then(|| KeyBytes::from_slice(bytes)),
        KeyFamily::Bool => match *bytes {
            [value] => Some(KeyBytes::from_slice(&[u8::from(value != 0)])),
            _ => None,
        },
        KeyFamily::Date => match *bytes {
            [a, b, c, d] => Some(KeyBytes::from_slice(
                &i64::from(i32::from_be_bytes([a, b, c, d])).to_le_bytes(),
            )),
            _ => None,
        },
        KeyFamily::Timestamp | KeyFamily::TimestampTz => match *bytes {
            [a, b, c, d, e, f, g, h] => Some(KeyBytes::from_slice(
                &i64::from_be_bytes([a, b, c, d, e, f, g, h]).to_le_bytes(),
            )),
            _ => None,
        },
        KeyFamily::Bytea => Some(KeyBytes::from_slice(bytes)),
    };
    known.map_or(KeyValue::Unknown, KeyValue::Bytes)
}

/// An integer's canonical bytes.
fn int(value: i64) -> KeyValue {
    KeyValue::Bytes(KeyBytes::from_slice(&value.to_le_bytes()))
}

/// `bpchar_column = text_value` compares as text: the column without its blanks, the value with them.
fn text_as_bpchar(value: &[u8]) -> KeyValue {
    if trim_blanks(value).len() == value.len() {
        from_text(value, KeyFamily::Bpchar)
    } else {
        KeyValue::Unknown
    }
}

/// Without trailing blanks.
fn trim_blanks(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .rposition(|byte| *byte != b' ')
        .map_or(0, |last| last + 1);
    &value[..end]
}

/// A built-in scalar type by OID.
#[must_use]
pub fn type_of(oid: u32) -> ConstantType {
    match oid {
        0 | 705 => ConstantType::Context,
        20 | 21 | 23 => ConstantType::Family(KeyFamily::Int),
        25 | 1043 => ConstantType::Family(KeyFamily::Text),
        1042 => ConstantType::Family(KeyFamily::Bpchar),
        2950 => ConstantType::Family(KeyFamily::Uuid),
        16 => ConstantType::Family(KeyFamily::Bool),
        1082 => ConstantType::Family(KeyFamily::Date),
        1114 => ConstantType::Family(KeyFamily::Timestamp),
        1184 => ConstantType::Family(KeyFamily::TimestampTz),
        17 => ConstantType::Family(KeyFamily::Bytea),
        1700 => ConstantType::Numeric,
        _ => ConstantType::Other,
    }
}

/// The element type of a built-in array type by OID.
fn element_type_of(oid: u32) -> ConstantType {
    match oid {
        0 | 705 => ConstantType::Context,
        1005 | 1007 | 1016 => ConstantType::Family(KeyFamily::Int),
        1009 | 1015 => ConstantType::Family(KeyFamily::Text),
        1014 => ConstantType::Family(KeyFamily::Bpchar),
        2951 => ConstantType::Family(KeyFamily::Uuid),
        1000 => ConstantType::Family(KeyFamily::Bool),
        1182 => ConstantType::Family(KeyFamily::Date),
        1115 => ConstantType::Family(KeyFamily::Timestamp),
        1185 => ConstantType::Family(KeyFamily::TimestampTz),
        1001 => ConstantType::Family(KeyFamily::Bytea),
        1231 => ConstantType::Numeric,
        _ => ConstantType::Other,
    }
}

/// The type a cast names, as written. A length or precision may change the value, so `varchar(3)` is not `Text`.
#[must_use]
pub fn type_named(written: &str) -> ConstantType {
    let name = written.strip_prefix("pg_catalog.").unwrap_or(written);
    match name {
        "int" | "int2" | "int4" | "int8" | "integer" | "smallint" | "bigint" => {
            ConstantType::Family(KeyFamily::Int)
        }
        "text" | "varchar" | "character varying" => ConstantType::Family(KeyFamily::Text),
        "bpchar" => ConstantType::Family(KeyFamily::Bpchar),
        "uuid" => ConstantType::Family(KeyFamily::Uuid),
        "bool" | "boolean" => ConstantType::Family(KeyFamily::Bool),
        "date" => ConstantType::Family(KeyFamily::Date),
        "timestamp" | "timestamp without time zone" => ConstantType::Family(KeyFamily::Timestamp),
        "timestamptz" | "timestamp with time zone" => ConstantType::Family(KeyFamily::TimestampTz),
        "bytea" => ConstantType::Family(KeyFamily::Bytea),
        "numeric" | "decimal" | "dec" => ConstantType::Numeric,
        _ => ConstantType::Other,
    }
}

/// Does a type's name mean PostgreSQL's own whatever the `search_path` is? So do those that are words of its grammar
/// (gram.y, `GenericType` is the rest), and names with their schema.
#[must_use]
pub fn is_certain_type(written: &str) -> bool {
    let mut name = written.trim_end_matches("[]").trim_end().to_owned();
    if let (Some(open), Some(close)) = (name.find('('), name.rfind(')'))
        && open < close
    {
        name.replace_range(open..=close, "");
    }
    let words: Vec<&str> = name.split_whitespace().collect();
    match words.as_slice() {
        [
            "int" | "integer" | "smallint" | "bigint" | "real" | "float" | "decimal" | "dec"
            | "numeric",
        ] => true,
        ["boolean" | "bit" | "character" | "char" | "varchar" | "nchar" | "interval"] => true,
        ["double", "precision"] | ["bit" | "character" | "char", "varying"] => true,
        ["timestamp" | "time", zone @ ..] => {
            matches!(zone, [] | ["with" | "without", "time", "zone"])
        }
        ["national" | "interval", ..] => true,
        [name] => name.contains('.'),
        _ => false,
    }
}

/// The element type of the array type a cast names.
#[must_use]
pub fn element_type_named(written: &str) -> ConstantType {
    match written.strip_suffix("[]").map(str::trim_end) {
        Some(element) => type_named(element),
        None => ConstantType::Other,
    }
}

/// A hexadecimal digit.
fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// C's isspace.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// int8's input as of PostgreSQL 15: blanks, a sign, digits, blanks. (Newer forms are left to the server.)
fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// What a number is as an integer.
enum Exact {
    Integer(i64),
    /// A number that no int8 equals.
    None,
    Unknown,
}

/// A quoted numeric.
fn signed_number(text: &str, family: KeyFamily, usage: Use) -> KeyValue {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    from_number(digits, negative, family, ConstantType::Numeric, usage)
}

/// `7`, `7.0`, `.7e1` → 7; `7.5` and what exceeds int8 → none.
fn exact_integer(source: &str, negative: bool) -> Exact {
    let (mantissa, exponent) = match source.find(['e', 'E']) {
        Some(at) => match source[at + 1..].parse::<i32>() {
            Ok(exponent) => (&source[..at], exponent),
            Err(_) => return Exact::Unknown,
        },
        None => (source, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Exact::Unknown;
    }
    let Ok(fraction_digits) = i32::try_from(fraction.len()) else {
        return Exact::Unknown;
    };
    let mut scale = exponent.saturating_sub(fraction_digits);
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
        scale = scale.saturating_add(1);
    }
    let mut value: i128 = 0;
    for digit in digits {
        value = value * 10 + i128::from(digit - b'0');
        if value > 1 << 96 {
            return Exact::None;
        }
    }
    if value == 0 {
        return Exact::Integer(0);
    }
    if scale < 0 {
        return Exact::None;
    }
    for _ in 0..scale {
        value *= 10;
        if value > 1 << 96 {
            return Exact::None;
        }
    }
    i64::try_from(if negative { -value } else { value }).map_or(Exact::None, Exact::Integer)
}

/// uuid's input: optional braces, a hyphen allowed after each group of four digits.
fn parse_uuid(value: &[u8]) -> Option<[u8; 16]> {
    let body = match value.strip_prefix(b"{") {
        Some(inner) => inner.strip_suffix(b"}")?,
        None => value,
    };
    let mut uuid = [0u8; 16];
    let mut at = 0;
    for (index, slot) in uuid.iter_mut().enumerate() {
        *slot = hex(*body.get(at)?)? * 16 + hex(*body.get(at + 1)?)?;
        at += 2;
        if index % 2 == 1 && index < 15 && body.get(at) == Some(&b'-') {
            at += 1;
        }
    }
    (at == body.len()).then_some(uuid)
}

/// bool's input: unique prefixes of true, false, yes, no; on, off (two letters at least); 1, 0.
fn parse_bool(text: &str) -> Option<bool> {
    let word = text.trim_matches(is_space).to_ascii_lowercase();
    if word.is_empty() {
        return None;
    }
    let prefix_of = |whole: &str| whole.starts_with(&word);
    if word == "1" || prefix_of("true") || prefix_of("yes") || word == "on" {
        Some(true)
    } else if word == "0"
        || prefix_of("false")
        || prefix_of("no")
        || (word.len() > 1 && prefix_of("off"))
    {
        Some(false)
    } else {
        None
    }
}

/// `2024-01-31` as days since 2000-01-01.
fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (
        digits(&bytes[..4])?,
        digits(&bytes[5..7])?,
        digits(&bytes[8..])?,
    );
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || !(1..=longest).contains(&day) {
        return None;
    }
    // Days from civil: years start in March, eras are 400 years.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted / 400;
    let year_of_era = shifted % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468 - EPOCH_DAYS)
}

/// `2024-01-31[ 10:00:00[.ffffff][+02[:00]|Z]]` as microseconds since 2000-01-01 and the offset in microseconds.
fn parse_timestamp(text: &str) -> Option<(i64, Option<i64>)> {
    let days = parse_date(text.get(..10)?)?;
    let rest = &text.as_bytes()[10..];
    if rest.is_empty() {
        return Some((days * DAY_MICROS, None));
    }
    if rest.len() < 9 || !matches!(rest[0], b' ' | b'T') || rest[3] != b':' || rest[6] != b':' {
        return None;
    }
    let (hour, minute, second) = (
        digits(&rest[1..3])?,
        digits(&rest[4..6])?,
        digits(&rest[7..9])?,
    );
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = ((hour * 60 + minute) * 60 + second) * 1_000_000;
    let mut rest = &rest[9..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(1..=6).contains(&length) {
            return None;
        }
        micros += digits(&fraction[..length])? * 10_i64.pow(6 - u32::try_from(length).ok()?);
        rest = &fraction[length..];
    }
    let offset = match *rest {
        [] => None,
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), ref zone @ ..] => {
            let (hours, minutes) = match zone.len() {
                2 => (digits(zone)?, 0),
                5 if zone[2] == b':' => (digits(&zone[..2])?, digits(&zone[3..])?),
                _ => return None,
            };
            if hours > 14 || minutes > 59 {
                return None;
            }
            let size = (hours * 60 + minutes) * 60_000_000;
            Some(if sign == b'-' { -size } else { size })
        }
        _ => return None,
    };
    Some((days * DAY_MICROS + micros, offset))
}

/// Decimal digits only.
fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// bytea's input: `\x` and hexadecimal pairs, or the escape form.
fn parse_bytea(value: &[u8]) -> Option<KeyBytes> {
    let mut bytes = KeyBytes::new();
    if let Some(pairs) = value.strip_prefix(b"\\x") {
        for pair in pairs.chunks(2) {
            let [high, low] = *pair else { return None };
            bytes.push(hex(high)? * 16 + hex(low)?);
        }
        return Some(bytes);
    }
    let mut rest = value;
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = tail;
        } else if tail.first() == Some(&b'\\') {
            bytes.push(b'\\');
            rest = &tail[1..];
        } else {
            let code = tail.get(..3)?;
            if !code.iter().all(|byte| (b'0'..=b'7').contains(byte)) {
                return None;
            }
            let code = code
                .iter()
                .fold(0u32, |sum, byte| sum * 8 + u32::from(byte - b'0'));
            bytes.push(u8::try_from(code).ok()?);
            rest = &tail[3..];
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
