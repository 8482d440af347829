//! What a shard's transactions changed, and from when on everybody sees it. Pure.
//!
//! A commit is told when it is in the log, and PostgreSQL lets others see it a little later: with synchronous replication,
//! much later. A read between the two has the old rows and would be kept as true after the change. So the cells of a commit
//! stay marked until a snapshot of the shard shows that the transaction is over.

use crate::cache::results::cells::{Cell, Marks};
use crate::follow::board::Board;
use crate::follow::line::FollowError;
use crate::topology::TableName;
use crate::topology::reach::Family;
use crate::wire::replication::Said;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// The families of what is on a shard.
pub(super) type Families = HashMap<TableName, Family>;

/// Relations whose names are remembered. A change of any other may be one of anything on the shard.
const RELATIONS_MAX: usize = 65_536;

/// Relations of a transaction that are told apart; one that changes more may have changed anything on the shard.
const CHANGED_MAX: usize = 64;

/// Commits that are waited for with marks of their own; those beyond have one for the whole shard.
const WAITING_MAX: usize = 4_096;

/// Of those beyond, so many.
const BEYOND_MAX: usize = 1 << 20;

/// The schema of Keyway's own tables, of which no answer is made.
const OWN_SCHEMA: &str = "keyway";

/// What a shard's transactions change.
pub(super) struct Commits {
    /// The shard's stable id.
    shard: u16,
    board: Board,
    families: Arc<Families>,
    /// The names by their numbers in the stream; `None` is one that is not in UTF-8.
    relations: HashMap<u32, Option<TableName>>,
    xid: u32,
    changed: SmallVec<[u32; 8]>,
    /// The transaction changes more than is told apart.
    anything: bool,
    waiting: Vec<(u32, Marks)>,
    beyond: Vec<u32>,
    whole: Option<Marks>,
}

/// Did a transaction that changed something end?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Yes: its cells are marked.
    Change,
    /// No.
    Nothing,
}

impl Commits {
    /// Of a stream that begins now.
    pub(super) fn new(shard: u16, board: Board, families: Arc<Families>) -> Self {
        Self {
            shard,
            board,
            families,
            relations: HashMap::new(),
            xid: 0,
            changed: SmallVec::new(),
            anything: false,
            waiting: Vec::new(),
            beyond: Vec::new(),
            whole: None,
        }
    }

    /// Takes in what the shard says.
    ///
    /// # Errors
    /// When it says more than can be waited for.
    pub(super) fn hear(&mut self, said: &Said<'_>) -> Result<Heard, FollowError> {
        match said {
            Said::Begin { xid } => {
                self.xid = *xid;
                self.changed.clear();
                self.anything = false;
            }
            Said::Relation { id, schema, name } => self.learn(*id, schema, name),
            Said::Changed { relation } => self.note(*relation),
            Said::Truncated { relations } => {
                for relation in relations {
                    self.note(*relation);
                }
            }
            Said::Commit { .. } => return self.commit(),
            Said::Nothing => {}
        }
        Ok(Heard::Nothing)
    }

    fn learn(&mut self, id: u32, schema: &[u8], name: &[u8]) {
        if self.relations.len() >= RELATIONS_MAX && !self.relations.contains_key(&id) {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).ok();
        let name = text(schema).zip(text(name));
        let name = name.map(|(schema, name)| TableName { schema, name });
        self.relations.insert(id, name);
    }

    fn note(&mut self, relation: u32) {
        if self.anything || self.changed.contains(&relation) {
            return;
        }
        if self.changed.len() >= CHANGED_MAX {
            self.anything = true;
            return;
        }
        self.changed.push(relation);
    }

    /// The cells of what the transaction has changed.
    fn spoiled(&self) -> SmallVec<[Cell; 6]> {
        let whole = || SmallVec::from_slice(&[Cell::of_shard(self.shard)]);
        if self.anything {
            return whole();
        }
        let mut cells = SmallVec::new();
        for relation in &self.changed {
            let Some(Some(name)) = self.relations.get(relation) else {
                return whole();
            };
            if name.schema == OWN_SCHEMA {
                continue;
            }
            let Some(family) = self.families.get(name) else {
                return whole();
            };
            cells.push(Cell::of_table(self.shard, *family));
            // Whatever names a key depends on it too.
            cells.push(Cell::of_unpinned(self.shard, *family));
        }
        cells
    }

    fn commit(&mut self) -> Result<Heard, FollowError> {
        let cells = self.spoiled();
        if cells.is_empty() {
            return Ok(Heard::Nothing);
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((self.xid, self.board.mark(cells)));
            return Ok(Heard::Change);
        }
        if self.beyond.len() >= BEYOND_MAX {
            return Err(FollowError::TooMany);
        }
        let whole = || self.board.mark([Cell::of_shard(self.shard)]);
        self.whole.get_or_insert_with(whole);
        self.beyond.push(self.xid);
        Ok(Heard::Change)
    }

    /// Is there a commit that some may not see yet?
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A snapshot of the shard: what is over in it, everybody sees.
    pub(super) fn settle(&mut self, snapshot: &Snapshot) {
        self.waiting.retain(|(xid, _)| !snapshot.is_over(*xid));
        self.beyond.retain(|xid| !snapshot.is_over(*xid));
        if self.beyond.is_empty() {
            self.whole = None;
        }
    }

    /// Goes by these families. What is waited for was marked by others.
    pub(super) fn adopt(&mut self, families: Arc<Families>) {
        self.families = families;
        for (_, marks) in &mut self.waiting {
            *marks = self.board.mark([Cell::of_shard(self.shard)]);
        }
    }
}

/// Which transactions are over for whoever looks: PostgreSQL's `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// All below are over.
    min: u64,
    /// None from here on is.
    max: u64,
    /// Those between that are not.
    running: Vec<u64>,
}

impl Snapshot {
    /// As PostgreSQL prints it: `10:20:10,14,15`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let (min, max) = (number()?, number()?);
        let running = parts.next()?;
        let running = running.split(',').filter(|xid| !xid.is_empty());
        Some(Self {
            min,
            max,
            running: running.map(|xid| xid.parse().ok()).collect::<Option<_>>()?,
        })
    }

    /// Are all transactions over, up to and with this one?
    pub(super) fn is_beyond(&self, xid: u64) -> bool {
        self.min > xid
    }

    /// Is a recent transaction over, of whose number the epoch is not known?
    fn is_over(&self, xid: u32) -> bool {
        // The number next to `max` that ends so: two that are at work at once are less than 2^31 apart.
        #[expect(clippy::cast_possible_truncation, reason = "without the epoch")]
        let ahead = xid.wrapping_sub(self.max as u32);
        let xid = if ahead < 1 << 31 {
            self.max.wrapping_add(u64::from(ahead))
        } else {
            self.max.wrapping_sub(u64::from(ahead.wrapping_neg()))
        };
        xid < self.min || xid < self.max && !self.running.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::results::cells::Cells;

    const SHARD: u16 = 3;

    fn named(schema: &str, name: &str) -> TableName {
        TableName {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    /// `users` and its partition `users_1`, and `orders`.
    fn families() -> Arc<Families> {
        let users = Family::named(&named("public", "users"));
        Arc::new(Families::from([
            (named("public", "users"), users),
            (named("public", "users_1"), users),
            (
                named("public", "orders"),
                Family::named(&named("public", "orders")),
            ),
        ]))
    }

    fn commits(cells: &Arc<Cells>) -> Commits {
        let mut commits = Commits::new(SHARD, Board::new(Arc::clone(cells), None), families());
        let tables = [
            (1, "public", "users"),
            (2, "public", "users_1"),
            (3, "public", "orders"),
            (4, "public", "made_since"),
            (5, "keyway", "leases"),
        ];
        for (id, schema, name) in tables {
            let (schema, name) = (schema.as_bytes(), name.as_bytes());
            commits.hear(&Said::Relation { id, schema, name }).unwrap();
        }
        commits
    }

    fn run(commits: &mut Commits, xid: u32, relations: &[u32]) -> Heard {
        commits.hear(&Said::Begin { xid }).unwrap();
        for relation in relations {
            let relation = *relation;
            commits.hear(&Said::Changed { relation }).unwrap();
        }
        let end = Default::default();
        commits.hear(&Said::Commit { end }).unwrap()
    }

    fn of(name: &str) -> [Cell; 2] {
        let family = Family::named(&named("public", name));
        [
            Cell::of_table(SHARD, family),
            Cell::of_unpinned(SHARD, family),
        ]
    }

    fn marked(cells: &Arc<Cells>, of: impl IntoIterator<Item = Cell>) -> Vec<bool> {
        of.into_iter()
            .map(|cell| cells.look([cell]).is_none())
            .collect()
    }

    #[test]
    fn a_commit_is_marked_until_everybody_sees_it() {
        let cells = Arc::<Cells>::default();
        let mut commits = commits(&cells);
        let before = cells.look(of("users")).unwrap();
        commits.hear(&Said::Begin { xid: 70 }).unwrap();
        commits.hear(&Said::Changed { relation: 2 }).unwrap();
        assert!(cells.holds(&before), "not committed");
        assert_eq!(run(&mut commits, 70, &[2, 2]), Heard::Change);
        assert_eq!(marked(&cells, of("users")), [true, true]);
        assert_eq!(marked(&cells, of("orders")), [false, false]);
        assert_eq!(run(&mut commits, 71, &[3]), Heard::Change);
        for running in ["70:72:70", "70:71:70", "69:70:"] {
            commits.settle(&Snapshot::parse(running).unwrap());
            assert_eq!(marked(&cells, of("users")), [true, true], "{running}");
        }
        assert_eq!(marked(&cells, of("orders")), [false, false], "70:72:70");
        assert!(commits.are_waiting());
        commits.settle(&Snapshot::parse("68:72:68").unwrap());
        assert_eq!(marked(&cells, of("users")), [false, false]);
        assert!(!cells.holds(&before));
        assert!(!commits.are_waiting());
    }

    #[test]
    fn what_is_not_known_may_be_anything() {
        for relations in [vec![4], vec![9], vec![1, 9], (100..200).collect()] {
            let cells = Arc::<Cells>::default();
            let mut commits = commits(&cells);
            run(&mut commits, 7, &relations);
            assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [true]);
        }
        let cells = Arc::<Cells>::default();
        let mut commits = commits(&cells);
        // Keyway's own, and nothing at all.
        assert_eq!(run(&mut commits, 7, &[5]), Heard::Nothing);
        assert_eq!(run(&mut commits, 8, &[]), Heard::Nothing);
        assert!(!commits.are_waiting());
    }

    #[test]
    fn more_commits_than_are_told_apart_have_one_mark() {
        let cells = Arc::<Cells>::default();
        let mut commits = commits(&cells);
        let count = u32::try_from(WAITING_MAX).unwrap();
        for xid in 0..count {
            run(&mut commits, xid, &[1]);
        }
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [false]);
        run(&mut commits, count, &[1]);
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [true]);
        let all_but_one = format!("{count}:{}:{count}", count + 1);
        commits.settle(&Snapshot::parse(&all_but_one).unwrap());
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [true]);
        let all = format!("{0}:{0}:", count + 1);
        commits.settle(&Snapshot::parse(&all).unwrap());
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [false]);
        assert_eq!(marked(&cells, of("users")), [false, false]);
    }

    #[test]
    fn other_families_hold_for_what_is_waited_for() {
        let cells = Arc::<Cells>::default();
        let mut commits = commits(&cells);
        run(&mut commits, 7, &[1]);
        commits.adopt(Arc::default());
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [true]);
        commits.settle(&Snapshot::parse("8:8:").unwrap());
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [false]);
        run(&mut commits, 8, &[1]);
        assert_eq!(marked(&cells, [Cell::of_shard(SHARD)]), [true]);
    }

    #[test]
    fn a_snapshot_tells_who_is_over() {
        let check = |text: &str, xid: u32, over: bool| {
            let snapshot = Snapshot::parse(text).unwrap();
            assert_eq!(snapshot.is_over(xid), over, "{xid} in {text}");
        };
        check("10:20:10,14", 9, true);
        check("10:20:10,14", 10, false);
        check("10:20:10,14", 11, true);
        check("10:20:10,14", 14, false);
        check("10:20:10,14", 20, false);
        check("10:20:10,14", 21, false);
        // Behind a wrap: 4294967300 is 4 in epoch 1.
        check("4294967300:4294967310:4294967300", 4, false);
        check("4294967300:4294967310:4294967300", 5, true);
        check("4294967300:4294967310:4294967300", 14, false);
        check("4294967300:4294967310:4294967300", u32::MAX, true);
        check("4294967290:4294967290:", 4, false);
        let snapshot = Snapshot::parse("10:20:10,14").unwrap();
        assert!(snapshot.is_beyond(9) && !snapshot.is_beyond(10));
        for text in ["", "1", "1:2", "a:2:", "1:2:x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }
}
