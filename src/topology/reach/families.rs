//! Tables that belong together by partitioning or inheritance.

use crate::topology::TableName;
use crate::topology::reach::Family;
use crate::topology::schema::Relation;
use std::collections::HashMap;

/// The families of some relations, counted in the order of the names they are called by: the least name in each.
pub(super) struct Families<'s> {
    by_name: HashMap<&'s TableName, usize>,
    numbers: Vec<Family>,
}

impl<'s> Families<'s> {
    /// A relation may be there more than once, as several shards have it: what one connects is connected.
    pub(super) fn new(relations: &[&'s Relation]) -> Self {
        let mut names: Vec<&TableName> = Vec::new();
        let mut links: Vec<(&TableName, &TableName)> = Vec::new();
        for relation in relations {
            names.push(&relation.name);
            for parent in &relation.parents {
                names.push(parent);
                links.push((&relation.name, parent));
            }
        }
        names.sort_unstable();
        names.dedup();
        let mut first: Vec<usize> = (0..names.len()).collect();
        for (child, parent) in links {
            if let (Ok(child), Ok(parent)) =
                (names.binary_search(&child), names.binary_search(&parent))
            {
                let (one, other) = (root(&mut first, child), root(&mut first, parent));
                // The lesser leads, so in the end the least does.
                first[one.max(other)] = one.min(other);
            }
        }
        let mut families = Self {
            by_name: HashMap::with_capacity(names.len()),
            numbers: Vec::new(),
        };
        for (place, name) in names.iter().enumerate() {
            let family = match root(&mut first, place) {
                first if first == place => {
                    families.numbers.push(Family::named(name));
                    families.numbers.len() - 1
                }
                // It was met before: it is less.
                first => families.by_name[names[first]],
            };
            families.by_name.insert(name, family);
        }
        families
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The family of the table of this name.
    pub(super) fn of(&self, name: &TableName) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The number that others know the family by.
    pub(super) fn number(&self, family: usize) -> Family {
        self.numbers[family]
    }
}

/// Where the chain from `place` ends. What is on the chain is then led there directly.
fn root(first: &mut [usize], place: usize) -> usize {
    let mut end = place;
    while first[end] != end {
        end = first[end];
    }
    let mut next = place;
    while first[next] != end {
        next = std::mem::replace(&mut first[next], end);
    }
    end
}
