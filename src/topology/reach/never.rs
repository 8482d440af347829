//! Answers that are not kept.

use crate::topology::reach::families::Families;
use crate::topology::reach::{FILLED_BY_KEYWAY, Never};
use crate::topology::schema::Relation;

/// By family: why answers made of rows of any of its tables are not kept.
pub(super) fn never_of_families(
    families: &Families<'_>,
    relations: &[&Relation],
) -> Vec<Option<Never>> {
    let mut never = vec![None; families.count()];
    for relation in relations {
        if let (Some(reason), Some(family)) = (reason_of(relation), families.of(&relation.name)) {
            let known = never[family].get_or_insert(reason);
            *known = reason.min(*known);
        }
    }
    never
}

fn reason_of(relation: &Relation) -> Option<Never> {
    if relation.row_security {
        return Some(Never::RowSecurity);
    }
    match (relation.kind, relation.persistence) {
        (_, 'u') => Some(Never::Unlogged),
        ('f', _) => Some(Never::Foreign),
        ('r' | 'p' | 'v' | 'm', 'p') if relation.name.name.ends_with(FILLED_BY_KEYWAY) => {
            Some(Never::Kind)
        }
        ('r' | 'p' | 'v' | 'm', 'p') => None,
        _ => Some(Never::Kind),
    }
}

/// What the shards have under one name is not one thing: a table here and a view there, or views of other tables; or a rule says what
/// reading it gives.
pub(super) fn is_doubtful(relations: &[&Relation]) -> bool {
    let is_like = |first: &Relation, other: &Relation| match first.kind {
        'r' | 'p' => matches!(other.kind, 'r' | 'p'),
        'v' => other.kind == 'v' && first.view.is_some() && other.view == first.view,
        kind => other.kind == kind,
    };
    let Some(first) = relations.first() else {
        return true;
    };
    let rewrites_reading = |relation: &&Relation| relation.rules.iter().any(|r| r.event == '1');
    !relations.iter().all(|other| is_like(first, other)) || relations.iter().any(rewrites_reading)
}
