use super::{Limits, MergeError, Merger, Setup, Step, client_description, server_formats};
use crate::route::merge::{DistinctRows, Finish, Fold, GroupKey, Groups, SortKey, Source, Window};
use crate::wire::backend;
use crate::wire::error::ClientError;
use crate::wire::frontend::Format::{self, Binary, Text};
use crate::wire::types as oid;
use crate::wire::value::TextStyle;
use crate::wire::value::numeric::Numeric;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::sync::Arc;

/// A row as text values, `None` for NULL.
type Texts = Vec<Option<String>>;

fn row(values: &[Option<&[u8]>]) -> Bytes {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        super::rows::append_value(*value, &mut body).unwrap();
    }
    body.into()
}

fn text_row(values: &Texts) -> Bytes {
    let values: Vec<Option<&[u8]>> = values
        .iter()
        .map(|value| value.as_ref().map(String::as_bytes))
        .collect();
    row(&values)
}

fn description(columns: &[(&str, u32)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (index, (name, type_oid)) in columns.iter().enumerate() {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&16_500_u32.to_be_bytes());
        body.extend_from_slice(&u16::try_from(index + 1).unwrap().to_be_bytes());
        body.extend_from_slice(&type_oid.to_be_bytes());
        body.extend_from_slice(&[0, 8, 255, 255, 255, 255, 0, 0]);
    }
    body
}

fn fields(columns: &[(&str, u32)]) -> Vec<backend::Field> {
    backend::read_row_description(&description(columns)).unwrap()
}

/// Values of DataRow messages.
fn read_rows(mut messages: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rows = Vec::new();
    while let Some((b'D', rest)) = messages.split_first() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let body = &rest[4..length];
        let count = u16::from_be_bytes(body[..2].try_into().unwrap());
        let values = super::rows::values(body, count.into()).unwrap();
        rows.push(
            values
                .map(|value| value.unwrap().map(<[u8]>::to_vec))
                .collect(),
        );
        messages = &rest[length..];
    }
    assert!(messages.is_empty());
    rows
}

fn read_texts(messages: &[u8]) -> Vec<Texts> {
    let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).unwrap());
    read_rows(messages)
        .into_iter()
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}

/// A merge under test.
struct Case<'a> {
    finish: Finish,
    window: Window,
    columns: &'a [(&'a str, u32)],
    formats: &'a [Format],
    limits: Limits,
}

impl<'a> Case<'a> {
    fn new(finish: Finish, columns: &'a [(&'a str, u32)]) -> Self {
        Self {
            finish,
            window: Window::default(),
            columns,
            formats: &[],
            limits: Limits::default(),
        }
    }

    fn merger(&self, inputs: usize) -> Result<Merger, MergeError> {
        let mut merger = Merger::new(Setup {
            finish: Arc::new(self.finish.clone()),
            window: self.window,
            inputs,
            result_formats: self.formats,
            style: TextStyle::default(),
            limits: self.limits,
        });
        for input in 0..inputs {
            merger.describe(input, &description(self.columns))?;
        }
        Ok(merger)
    }

    /// Feeds the inputs as they are asked for; any of them when any will do, as `any` says.
    fn run(
        &self,
        inputs: &[Vec<Bytes>],
        mut any: impl FnMut(usize) -> usize,
    ) -> Result<Vec<u8>, MergeError> {
        let mut merger = self.merger(inputs.len())?;
        let mut rests: Vec<_> = inputs.iter().map(|rows| rows.iter()).collect();
        let mut ended = vec![false; inputs.len()];
        let mut out = BytesMut::new();
        loop {
            let input = match merger.next(&mut out)? {
                Step::Done => break,
                Step::Row => continue,
                Step::Need(input) => {
                    assert!(merger.wants(input));
                    input
                }
                Step::NeedAny => {
                    let open: Vec<usize> =
                        (0..inputs.len()).filter(|input| !ended[*input]).collect();
                    open[any(open.len())]
                }
            };
            assert!(!ended[input], "asked for more of an input that has ended");
            match rests[input].next() {
                Some(row) => merger.push(input, row.clone())?,
                None => {
                    merger.end(input);
                    ended[input] = true;
                }
            }
        }
        assert_eq!(merger.rows(), read_rows(&out).len() as u64);
        Ok(out.to_vec())
    }

    fn texts(&self, inputs: &[Vec<Texts>]) -> Result<Vec<Texts>, MergeError> {
        let inputs: Vec<Vec<Bytes>> = inputs
            .iter()
            .map(|rows| rows.iter().map(text_row).collect())
            .collect();
        self.run(&inputs, |_| 0).map(|out| read_texts(&out))
    }
}

fn key(column: usize) -> SortKey {
    SortKey {
        source: Source::Visible(column),
        descending: false,
        nulls_first: false,
        text_is_c: false,
    }
}

fn texts(rows: &[&[Option<&str>]]) -> Vec<Texts> {
    rows.iter()
        .map(|row| row.iter().map(|value| value.map(str::to_owned)).collect())
        .collect()
}

fn one(value: &str) -> Texts {
    vec![Some(value.to_owned())]
}

#[test]
fn rows_are_concatenated_as_they_come() {
    let case = Case::new(Finish::default(), &[("a", 3802)]);
    let inputs = [vec![one("1"), one("2")], vec![], vec![one("3")]];
    let mut rows = case.texts(&inputs).unwrap();
    rows.sort();
    assert_eq!(rows, [one("1"), one("2"), one("3")]);
}

#[test]
fn a_concatenation_needs_no_description() {
    let finish = Arc::new(Finish::default());
    assert!(!Merger::needs_description(&finish));
    let mut merger = Merger::new(Setup {
        finish,
        window: Window {
            offset: 1,
            limit: Some(1),
        },
        inputs: 2,
        result_formats: &[Binary],
        style: TextStyle::default(),
        limits: Limits::default(),
    });
    let mut out = BytesMut::new();
    for value in [b"a", b"b"] {
        assert_eq!(merger.next(&mut out), Ok(Step::NeedAny));
        merger.push(1, row(&[Some(value)])).unwrap();
    }
    assert_eq!(merger.next(&mut out), Ok(Step::Row));
    // Complete although no input has ended.
    assert_eq!(merger.next(&mut out), Ok(Step::Done));
    assert!(!merger.wants(0));
    assert_eq!(read_rows(&out), [[Some(b"b".to_vec())]]);
}

#[test]
fn hidden_columns_are_dropped() {
    let order = vec![SortKey {
        source: Source::Hidden(1),
        ..key(0)
    }];
    let case = Case::new(
        Finish {
            hidden: 2,
            order,
            ..Finish::default()
        },
        &[("a", 25), ("h0", 25), ("h1", 23)],
    );
    let inputs = [
        texts(&[
            &[Some("x"), None, Some("2")],
            &[None, Some("?"), Some("10")],
        ]),
        texts(&[&[Some("y"), None, Some("3")]]),
    ];
    assert_eq!(
        case.texts(&inputs).unwrap(),
        texts(&[&[Some("x")], &[Some("y")], &[None]])
    );
    let merger = case.merger(1).unwrap();
    assert_eq!(merger.client_description().unwrap(), fields(&[("a", 25)]));
}

#[test]
fn nulls_and_directions_are_as_asked() {
    let rows = [
        texts(&[&[None], &[Some("9")], &[Some("10")]]),
        texts(&[&[Some("-1")], &[Some("9")]]),
    ];
    for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut inputs = rows.clone();
        for input in &mut inputs {
            input.sort_by_key(|row| row[0].as_ref().map(|value| value.parse::<i64>().unwrap()));
            if descending {
                input.reverse();
            }
            if let Some(null) = input.iter().position(|row| row[0].is_none()) {
                let null = input.remove(null);
                input.insert(if nulls_first { 0 } else { input.len() }, null);
            }
        }
        let order = vec![SortKey {
            descending,
            nulls_first,
            ..key(0)
        }];
        let merged = Case::new(
            Finish {
                order,
                ..Finish::default()
            },
            &[("n", 20)],
        )
        .texts(&inputs)
        .unwrap();
        let mut numbers = texts(&[&[Some("-1")], &[Some("9")], &[Some("9")], &[Some("10")]]);
        if descending {
            numbers.reverse();
        }
        numbers.insert(if nulls_first { 0 } else { 4 }, vec![None]);
        assert_eq!(
            merged, numbers,
            "descending {descending}, nulls first {nulls_first}"
        );
    }
}

#[test]
fn keys_are_found_by_name_and_from_the_end() {
    let columns = [("a", 23), ("b", 23), ("__h", 23)];
    let inputs = [
        texts(&[&[Some("9"), Some("1"), Some("5")]]),
        texts(&[&[Some("1"), Some("2"), Some("4")]]),
    ];
    let first = |source: Source| {
        let order = vec![SortKey { source, ..key(0) }];
        let merged = Case::new(
            Finish {
                hidden: 1,
                order,
                ..Finish::default()
            },
            &columns,
        )
        .texts(&inputs);
        merged.map(|rows| rows[0][0].clone().unwrap())
    };
    assert_eq!(first(Source::Named("b".into())).unwrap(), "9");
    assert_eq!(first(Source::Named("a".into())).unwrap(), "1");
    assert_eq!(first(Source::VisibleFromEnd(0)).unwrap(), "9");
    assert_eq!(first(Source::VisibleFromEnd(1)).unwrap(), "1");
    assert_eq!(first(Source::NamedOrHidden("b".into(), 0)).unwrap(), "9");
    assert_eq!(first(Source::NamedOrHidden("c".into(), 0)).unwrap(), "1");
    // Hidden columns have no names that a client could mean.
    assert_eq!(
        first(Source::Named("__h".into())),
        Err(MergeError::UnknownKey { name: "__h".into() })
    );
    assert!(matches!(
        first(Source::VisibleFromEnd(2)),
        Err(MergeError::Malformed(_))
    ));
}

#[test]
fn what_cannot_be_ordered_exactly_is_refused_before_any_row() {
    let refusal = |type_oid, text_is_c| {
        let order = vec![SortKey {
            text_is_c,
            ..key(0)
        }];
        let case = Case::new(
            Finish {
                order,
                ..Finish::default()
            },
            &[],
        );
        let columns = [("a", type_oid)];
        Case {
            columns: &columns,
            ..case
        }
        .merger(2)
        .err()
    };
    assert_eq!(refusal(oid::TEXT, true), None);
    assert_eq!(refusal(oid::TEXT, false), Some(MergeError::Collation));
    assert_eq!(refusal(oid::BPCHAR, false), Some(MergeError::Collation));
    assert_eq!(refusal(oid::INT4, false), None);
    let jsonb = refusal(3802, true).unwrap();
    assert_eq!(
        jsonb,
        MergeError::Type {
            what: super::Purpose::Order,
            type_oid: 3802
        }
    );
    assert_eq!(jsonb.sqlstate().code(), "0A000");
    assert!(jsonb.hint().is_some());
}

#[test]
fn inputs_must_agree() {
    let finish = Finish {
        order: vec![key(0)],
        ..Finish::default()
    };
    let case = Case::new(finish, &[("a", 23), ("b", 16_400)]);
    let mut merger = case.merger(1).unwrap();
    assert_eq!(
        merger.describe(0, &description(&[("a", 23), ("b", 16_999)])),
        Ok(())
    );
    assert_eq!(
        merger.describe(0, &description(&[("a", 20), ("b", 16_400)])),
        Err(MergeError::Descriptions)
    );
    assert_eq!(
        merger.describe(0, &description(&[("a", 23), ("b", 25)])),
        Err(MergeError::Descriptions)
    );
    assert_eq!(
        merger.describe(0, &description(&[("a", 23)])),
        Err(MergeError::Descriptions)
    );
    assert!(matches!(
        merger.describe(0, b"\0\x01a"),
        Err(MergeError::Malformed(_))
    ));
}

#[test]
fn a_shard_that_orders_otherwise_is_noticed() {
    let case = Case::new(
        Finish {
            order: vec![key(0)],
            ..Finish::default()
        },
        &[("a", 23)],
    );
    let inputs = [vec![one("2"), one("1")], vec![one("3")]];
    assert_eq!(case.texts(&inputs), Err(MergeError::OutOfOrder));
}

#[test]
fn malformed_rows_are_errors() {
    let case = Case::new(
        Finish {
            order: vec![key(0)],
            ..Finish::default()
        },
        &[("a", 23), ("b", 23)],
    );
    for body in [
        &b""[..],
        b"\0",
        b"\0\x01\0\0\0\x011",
        b"\0\x02\0\0\0\x091",
        b"\0\x02\xff\xff\xff\xfe",
        b"\0\x02\0\0\0\x01x\0\0\0\x011",
    ] {
        let mut merger = case.merger(1).unwrap();
        assert!(
            matches!(
                merger.push(0, Bytes::copy_from_slice(body)),
                Err(MergeError::Malformed(_))
            ),
            "{body:?}"
        );
    }
}

#[test]
fn equal_rows_are_returned_once() {
    let distinct = Some(DistinctRows {
        text_by_bytes: true,
    });
    let case = Case::new(
        Finish {
            distinct,
            ..Finish::default()
        },
        &[("a", 1700), ("b", 25)],
    );
    let inputs = [
        texts(&[&[Some("1.0"), Some("x")], &[None, None], &[Some("2"), None]]),
        texts(&[
            &[Some("1.00"), Some("x")],
            &[None, None],
            &[Some("1"), Some("y")],
        ]),
    ];
    assert_eq!(case.texts(&inputs).unwrap().len(), 4);
    let few = Case {
        limits: Limits {
            groups_max: 3,
            ..Limits::default()
        },
        ..case
    };
    let full = few.texts(&inputs).unwrap_err();
    assert_eq!(
        full,
        MergeError::Limit {
            bound: 3,
            unit: "distinct rows"
        }
    );
    assert_eq!(full.sqlstate().code(), "53400");
    let short = Case {
        limits: Limits {
            bytes_max: 20,
            ..Limits::default()
        },
        ..few
    };
    assert!(matches!(
        short.texts(&inputs),
        Err(MergeError::Limit { bound: 20, .. })
    ));
}

#[test]
fn ordered_distinct_rows_are_forgotten_when_the_key_moves_on() {
    let finish = Finish {
        distinct: Some(DistinctRows {
            text_by_bytes: true,
        }),
        order: vec![key(0)],
        ..Finish::default()
    };
    let case = Case::new(finish, &[("a", 23), ("b", 25)]);
    let case = Case {
        limits: Limits {
            groups_max: 2,
            ..Limits::default()
        },
        ..case
    };
    let input: Vec<Texts> = (0..50)
        .map(|n| vec![Some((n / 2).to_string()), Some((n % 2).to_string())])
        .collect();
    assert_eq!(
        case.texts(&[input.clone(), input.clone(), input.clone()])
            .unwrap(),
        input
    );
}

fn groups(keys: &[usize], columns: &[Fold]) -> Option<Groups> {
    let keys = keys
        .iter()
        .map(|column| GroupKey {
            column: *column,
            text_by_bytes: true,
        })
        .collect();
    Some(Groups {
        keys,
        columns: columns.to_vec(),
    })
}

#[test]
fn one_group_without_keys_exists_even_without_rows() {
    let columns = [("count", 20), ("sum", 20), ("max", 1082), ("one", 25)];
    let folds = [
        Fold::Count,
        Fold::Sum,
        Fold::Max { text_is_c: false },
        Fold::First,
    ];
    let case = Case::new(
        Finish {
            groups: groups(&[], &folds),
            ..Finish::default()
        },
        &columns,
    );
    let empty = texts(&[&[Some("0"), None, None, Some("k")]]);
    assert_eq!(case.texts(&[empty.clone(), empty.clone()]).unwrap(), empty);
    let inputs = [
        empty,
        texts(&[&[
            Some("2"),
            Some("9223372036854775807"),
            Some("2024-01-01"),
            Some("k"),
        ]]),
        texts(&[&[Some("3"), Some("-7"), Some("infinity"), Some("k")]]),
    ];
    let sum = texts(&[&[
        Some("5"),
        Some("9223372036854775800"),
        Some("infinity"),
        Some("k"),
    ]]);
    assert_eq!(case.texts(&inputs).unwrap(), sum);
    let none = Case {
        window: Window {
            offset: 1,
            limit: None,
        },
        ..case
    };
    assert_eq!(none.texts(&inputs).unwrap(), Vec::<Texts>::new());
}

#[test]
fn a_sum_out_of_range_is_postgresqls_error() {
    let case = Case::new(
        Finish {
            groups: groups(&[], &[Fold::Sum]),
            ..Finish::default()
        },
        &[("sum", 20)],
    );
    let overflow = case
        .texts(&[vec![one("9223372036854775807")], vec![one("1")]])
        .unwrap_err();
    assert_eq!(overflow, MergeError::Overflow("bigint out of range"));
    assert_eq!(overflow.sqlstate().code(), "22003");
}

#[test]
fn a_count_may_be_of_a_smaller_type() {
    for (type_oid, most, error) in [
        (oid::INT2, "32767", "smallint out of range"),
        (oid::INT4, "2147483647", "integer out of range"),
    ] {
        let columns = [("count", type_oid)];
        let case = Case::new(
            Finish {
                groups: groups(&[], &[Fold::Count]),
                ..Finish::default()
            },
            &columns,
        );
        assert_eq!(
            case.texts(&[vec![one(most)], vec![one("0")]]).unwrap(),
            [one(most)]
        );
        assert_eq!(
            case.texts(&[vec![one(most)], vec![one("1")]]),
            Err(MergeError::Overflow(error))
        );
    }
    let case = Case::new(
        Finish {
            groups: groups(&[], &[Fold::Count]),
            ..Finish::default()
        },
        &[("count", oid::INT4)],
    );
    let case = Case {
        formats: &[Binary],
        ..case
    };
    let out = case.run(
        &[
            vec![row(&[Some(&[0, 0, 0, 200])])],
            vec![row(&[Some(&[0, 0, 0, 100])])],
        ],
        |_| 0,
    );
    assert_eq!(out.unwrap()[5..], row(&[Some(&[0, 0, 1, 44])]));
}

#[test]
fn settings_that_are_in_the_way_are_named() {
    let finish = Arc::new(Finish {
        order: vec![key(0)],
        ..Finish::default()
    });
    for (type_oid, style) in [
        (oid::DATE, TextStyle::new("SQL, DMY", 1)),
        (oid::FLOAT8, TextStyle::new("ISO, MDY", 0)),
    ] {
        for (formats, refused) in [
            (&[][..], Some(MergeError::Settings { type_oid })),
            (&[Binary], None),
        ] {
            let mut merger = Merger::new(Setup {
                finish: finish.clone(),
                window: Window::default(),
                inputs: 1,
                result_formats: formats,
                style,
                limits: Limits::default(),
            });
            assert_eq!(
                merger.describe(0, &description(&[("a", type_oid)])).err(),
                refused
            );
        }
    }
}

#[test]
fn an_escaped_bytea_is_a_matter_of_settings() {
    let case = Case::new(
        Finish {
            order: vec![key(0)],
            ..Finish::default()
        },
        &[("a", oid::BYTEA)],
    );
    let escaped = case.texts(&[vec![one("abc")]]);
    assert_eq!(
        escaped,
        Err(MergeError::Settings {
            type_oid: oid::BYTEA
        })
    );
}

#[test]
fn errors_name_the_type() {
    let refused = |type_oid| {
        MergeError::Type {
            what: super::Purpose::Order,
            type_oid,
        }
        .to_string()
    };
    assert_eq!(
        refused(oid::JSONB),
        "cannot order values of type jsonb from several shards"
    );
    assert_eq!(
        refused(16_400),
        "cannot order values of type number 16400 from several shards"
    );
}

#[test]
fn sums_of_floats_are_refused() {
    let case = Case::new(
        Finish {
            groups: groups(&[], &[Fold::Sum]),
            ..Finish::default()
        },
        &[("sum", oid::FLOAT8)],
    );
    assert!(matches!(
        case.texts(&[vec![]]),
        Err(MergeError::Type {
            what: super::Purpose::Sum,
            ..
        })
    ));
}

#[test]
fn groups_are_put_together_and_ordered() {
    let columns = [("g", 25), ("count", 20), ("min", 23), ("h", 1700)];
    let folds = [
        Fold::First,
        Fold::Count,
        Fold::Min { text_is_c: false },
        Fold::Sum,
    ];
    let order = vec![
        SortKey {
            source: Source::Visible(1),
            descending: true,
            nulls_first: true,
            text_is_c: false,
        },
        SortKey {
            text_is_c: true,
            ..key(0)
        },
    ];
    let finish = Finish {
        hidden: 1,
        groups: groups(&[0], &folds),
        order,
        ..Finish::default()
    };
    let case = Case::new(finish, &columns);
    let inputs = [
        texts(&[
            &[Some("b"), Some("1"), Some("10"), Some("1.5")],
            &[None, Some("2"), None, None],
            &[Some("a"), Some("1"), Some("9"), None],
        ]),
        texts(&[
            &[Some("c"), Some("3"), Some("1"), Some("0")],
            &[Some("b"), Some("1"), Some("9"), Some("2")],
        ]),
    ];
    let expected = texts(&[
        &[Some("c"), Some("3"), Some("1")],
        &[Some("b"), Some("2"), Some("9")],
        &[None, Some("2"), None],
        &[Some("a"), Some("1"), Some("9")],
    ]);
    assert_eq!(case.texts(&inputs).unwrap(), expected);
    let window = Case {
        window: Window {
            offset: 1,
            limit: Some(2),
        },
        ..case
    };
    assert_eq!(window.texts(&inputs).unwrap(), expected[1..3]);
    let few = Case {
        limits: Limits {
            groups_max: 3,
            ..Limits::default()
        },
        ..window
    };
    assert_eq!(
        few.texts(&inputs),
        Err(MergeError::Limit {
            bound: 3,
            unit: "groups"
        })
    );
}

#[test]
fn formats_are_those_of_the_client() {
    assert_eq!(server_formats(&[], 2), []);
    assert_eq!(server_formats(&[Binary], 2), [Binary]);
    assert_eq!(
        server_formats(&[Text, Binary], 2),
        [Text, Binary, Binary, Binary]
    );
    let body = description(&[("a", 23), ("b", 25), ("h", 25)]);
    let client = client_description(&body, 1, &[Text, Binary]).unwrap();
    let mut expected = fields(&[("a", 23), ("b", 25)]);
    expected[1].format = Binary;
    assert_eq!(client, expected);
    assert!(client_description(&body, 4, &[]).is_err());
    assert!(client_description(&body, 0, &[Text, Binary]).is_err());
}

#[test]
fn binary_sums_are_binary() {
    let columns = [("count", 20), ("sum", 1700)];
    let case = Case::new(
        Finish {
            groups: groups(&[], &[Fold::Count, Fold::Sum]),
            ..Finish::default()
        },
        &columns,
    );
    let case = Case {
        formats: &[Binary],
        ..case
    };
    let partial = |count: i64, sum: &str| {
        let mut numeric = Vec::new();
        Numeric::read(sum.as_bytes(), Format::Text)
            .unwrap()
            .write(Format::Binary, &mut numeric);
        row(&[Some(&count.to_be_bytes()), Some(&numeric)])
    };
    let out = case
        .run(
            &[vec![partial(2, "0.5")], vec![partial(3, "99999.50")]],
            |_| 0,
        )
        .unwrap();
    assert_eq!(out[5..], partial(5, "100000.00"));
}

/// Columns: a bigint, a float, a text, each perhaps NULL; small domains, so that there are ties.
fn any_row() -> impl Strategy<Value = Texts> {
    let int = proptest::option::of((-3_i64..4).prop_map(|n| n.to_string()));
    let float = proptest::option::of(proptest::sample::select(vec![
        "NaN",
        "-0",
        "0",
        "1.5",
        "-Infinity",
        "1e+20",
    ]));
    let text = proptest::option::of("[ab]{0,2}");
    (int, float, text).prop_map(|(int, float, text)| vec![int, float.map(str::to_owned), text])
}

/// How one column's values compare, without the code under test.
fn compare_texts(column: usize, a: &str, b: &str) -> std::cmp::Ordering {
    match column {
        0 => a.parse::<i64>().unwrap().cmp(&b.parse().unwrap()),
        1 => {
            let (a, b): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
            a.partial_cmp(&b)
                .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
        _ => a.cmp(b),
    }
}

fn compare_rows(keys: &[(usize, bool, bool)], a: &Texts, b: &Texts) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    keys.iter().fold(
        Ordering::Equal,
        |so_far, (column, descending, nulls_first)| {
            so_far.then_with(|| match (&a[*column], &b[*column]) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) if *nulls_first => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) if *nulls_first => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) if *descending => compare_texts(*column, b, a),
                (Some(a), Some(b)) => compare_texts(*column, a, b),
            })
        },
    )
}

const ALL: [(usize, bool, bool); 3] = [(0, false, false), (1, false, false), (2, false, false)];

proptest! {
    /// Merging a partition of some rows is sorting the whole.
    #[test]
    fn merging_parts_is_sorting_the_whole(
        rows in proptest::collection::vec((any_row(), 0_usize..4), 0..40),
        keys in proptest::collection::vec((0_usize..3, any::<bool>(), any::<bool>()), 0..4),
        distinct in any::<bool>(),
        offset in 0_usize..6,
        limit in proptest::option::of(0_usize..30),
        any_order in proptest::collection::vec(0_usize..4, 1..10),
    ) {
        let mut parts: Vec<Vec<Texts>> = vec![Vec::new(); 4];
        for (row, part) in &rows {
            parts[*part].push(row.clone());
        }
        // What the shards do.
        for part in &mut parts {
            part.sort_by(|a, b| compare_rows(&keys, a, b));
            part.truncate(limit.filter(|_| !distinct).map_or(usize::MAX, |limit| offset + limit));
        }
        let order = keys.iter().map(|(column, descending, nulls_first)| SortKey {
            source: Source::Visible(*column), descending: *descending, nulls_first: *nulls_first, text_is_c: true,
        }).collect();
        let finish = Finish {
            order,
            distinct: distinct.then_some(DistinctRows { text_by_bytes: true }),
            ..Finish::default()
        };
        let case = Case::new(finish, &[("i", oid::INT8), ("f", oid::FLOAT8), ("t", oid::TEXT)]);
        let window = Window { offset: offset as u64, limit: limit.map(|limit| limit as u64) };
        let case = Case { window, ..case };
        let inputs: Vec<Vec<Bytes>> = parts.iter().map(|rows| rows.iter().map(text_row).collect()).collect();
        let mut turn = 0;
        let merged = case.run(&inputs, |open| { turn += 1; any_order[turn % any_order.len()] % open });
        let merged = read_texts(&merged.unwrap());

        // The model: everything sorted, without equal rows if asked.
        let mut whole: Vec<Texts> = rows.iter().map(|(row, _)| row.clone()).collect();
        if distinct {
            whole.sort_by(|a, b| compare_rows(&ALL, a, b));
            whole.dedup_by(|a, b| compare_rows(&ALL, a, b).is_eq());
        }
        whole.sort_by(|a, b| compare_rows(&keys, a, b));
        let expected: Vec<&Texts> = whole.iter().skip(offset).take(limit.unwrap_or(usize::MAX)).collect();
        prop_assert_eq!(merged.len(), expected.len());
        for (a, b) in merged.iter().zip(&expected) {
            prop_assert!(compare_rows(&keys, a, b).is_eq(), "{:?} stands where {:?} should", a, b);
        }
        // Ties may be cut anywhere, but nothing appears more often than it is there.
        for row in &merged {
            let count = |rows: &mut dyn Iterator<Item = &Texts>| {
                rows.filter(|other| compare_rows(&ALL, row, other).is_eq()).count()
            };
            prop_assert!(count(&mut merged.iter()) <= count(&mut whole.iter()));
        }
    }

    /// Partial counts, sums, least and greatest values per group are those of the whole.
    #[test]
    fn merging_partial_groups_is_grouping_the_whole(
        rows in proptest::collection::vec((any_row(), 0_usize..3), 0..40),
        any_order in proptest::collection::vec(0_usize..4, 1..10),
    ) {
        // SELECT f, count(i), sum(i), min(t), max(i) GROUP BY f ORDER BY f
        let group = |rows: &[&Texts]| -> Vec<Texts> {
            let mut keys: Vec<Option<String>> = rows.iter().map(|row| row[1].clone()).collect();
            let key = [(1, false, false)];
            let as_row = |value: &Option<String>| vec![None, value.clone(), None];
            keys.sort_by(|a, b| compare_rows(&key, &as_row(a), &as_row(b)));
            keys.dedup_by(|a, b| compare_rows(&key, &as_row(a), &as_row(b)).is_eq());
            keys.iter().map(|value| {
                let members: Vec<&&Texts> = rows.iter().filter(|row| compare_rows(&key, &as_row(value), row).is_eq()).collect();
                let ints: Vec<i64> = members.iter().filter_map(|row| row[0].as_ref()).map(|n| n.parse().unwrap()).collect();
                vec![
                    value.clone().map(|value| if value == "-0" { "0".to_owned() } else { value }),
                    Some(ints.len().to_string()),
                    (!ints.is_empty()).then(|| ints.iter().sum::<i64>().to_string()),
                    members.iter().filter_map(|row| row[2].clone()).min(),
                    ints.iter().max().map(i64::to_string),
                ]
            }).collect()
        };
        let whole: Vec<&Texts> = rows.iter().map(|(row, _)| row).collect();
        let inputs: Vec<Vec<Bytes>> = (0..3).map(|part| {
            let part: Vec<&Texts> = rows.iter().filter(|(_, at)| *at == part).map(|(row, _)| row).collect();
            group(&part).iter().map(text_row).collect()
        }).collect();
        let folds = [Fold::First, Fold::Count, Fold::Sum, Fold::Min { text_is_c: true }, Fold::Max { text_is_c: false }];
        let finish = Finish { groups: groups(&[0], &folds), order: vec![key(0)], ..Finish::default() };
        let columns = [("f", oid::FLOAT8), ("count", oid::INT8), ("sum", oid::INT8), ("min", oid::TEXT), ("max", oid::INT8)];
        let mut turn = 0;
        let merged = Case::new(finish, &columns).run(&inputs, |open| { turn += 1; any_order[turn % any_order.len()] % open });
        prop_assert_eq!(read_texts(&merged.unwrap()), group(&whole));
    }

    /// Arbitrary bytes as descriptions and rows end in errors, not panics.
    #[test]
    fn any_bytes_are_merged_without_panic(
        body in proptest::collection::vec(any::<u8>(), 0..60),
        rows in proptest::collection::vec((0_usize..2, proptest::collection::vec(0_u8..3, 0..20)), 0..10),
        hidden in 0_usize..3,
    ) {
        for finish in [
            Finish { hidden, ..Finish::default() },
            Finish { hidden, order: vec![key(0)], ..Finish::default() },
            Finish { groups: groups(&[0], &[Fold::First, Fold::Count]), hidden, ..Finish::default() },
        ] {
            let case = Case::new(finish.clone(), &[("a", 25), ("b", 20), ("c", 20)]);
            if let Ok(mut merger) = case.merger(2) {
                let _ = merger.describe(0, &body);
                let mut out = BytesMut::new();
                for (input, row) in &rows {
                    if merger.push(*input, Bytes::copy_from_slice(row)).is_err() || merger.next(&mut out).is_err() {
                        break;
                    }
                }
            }
            let mut merger = Case::new(finish, &[]).merger(0).unwrap();
            let _ = merger.describe(0, &body);
        }
    }
}
