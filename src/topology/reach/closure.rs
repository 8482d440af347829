//! All that can be come to from each node of a graph.

use std::collections::BTreeSet;

/// What it means to come to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing by itself.
    Nothing,
    /// This is met.
    One(usize),
    /// Anything may be met.
    Anything,
}

/// What is met on the ways from each node, the node itself apart unless a way leads back to it.
#[derive(Debug)]
pub(super) struct Closures {
    /// By node.
    circles: Vec<usize>,
    /// By circle. `None`: anything, or more than was asked for.
    met: Vec<Option<BTreeSet<usize>>>,
}

impl Closures {
    /// What is met on the ways from `node`; `None`: anything.
    pub(super) fn of(&self, node: usize) -> Option<&BTreeSet<usize>> {
        self.met.get(*self.circles.get(node)?)?.as_ref()
    }
}

/// Not walked to yet, or not yet in a circle.
const NONE: usize = usize::MAX;

/// `next` has, for each node, those that it leads to at once. Of what meets more than `most`, anything is said. Nodes that lead to each
/// other are a circle and meet the same; circles are found by Tarjan's algorithm, each after all that it leads to, in time that grows
/// with the number of steps in `next`, times `most`.
pub(super) fn closures(next: &[Vec<usize>], mark: impl Fn(usize) -> Mark, most: usize) -> Closures {
    let mut walk = Walk {
        next,
        order: vec![NONE; next.len()],
        lowest: vec![NONE; next.len()],
        open: Vec::new(),
        found: Closures {
            circles: vec![NONE; next.len()],
            met: Vec::new(),
        },
        walked: 0,
    };
    for node in 0..next.len() {
        if walk.order[node] == NONE {
            walk.from(node, &mark, most);
        }
    }
    walk.found
}

struct Walk<'n> {
    next: &'n [Vec<usize>],
    /// By node: when it was walked to.
    order: Vec<usize>,
    /// By node: the earliest open node that it is known to lead to.
    lowest: Vec<usize>,
    /// Walked to, and not yet in a circle.
    open: Vec<usize>,
    found: Closures,
    walked: usize,
}

impl Walk<'_> {
    /// Walks everywhere that `start` leads to. A chain may be as long as there are tables: no recursion.
    fn from(&mut self, start: usize, mark: &impl Fn(usize) -> Mark, most: usize) {
        self.enter(start);
        let mut path = vec![(start, 0)];
        while let Some((node, step)) = path.last_mut() {
            let node = *node;
            if let Some(to) = self.next[node].get(*step).copied() {
                *step += 1;
                if self.order[to] == NONE {
                    self.enter(to);
                    path.push((to, 0));
                } else if self.found.circles[to] == NONE {
                    self.lowest[node] = self.lowest[node].min(self.order[to]);
                }
                continue;
            }
            path.pop();
            if let Some((before, _)) = path.last() {
                self.lowest[*before] = self.lowest[*before].min(self.lowest[node]);
            }
            if self.lowest[node] == self.order[node] {
                self.close(node, mark, most);
            }
        }
    }

    fn enter(&mut self, node: usize) {
        self.order[node] = self.walked;
        self.lowest[node] = self.walked;
        self.walked += 1;
        self.open.push(node);
    }

    /// The circle of the nodes that are open since `node`.
    fn close(&mut self, node: usize, mark: &impl Fn(usize) -> Mark, most: usize) {
        let since = self.open.iter().rposition(|open| *open == node);
        let circle = self.open.split_off(since.unwrap_or(self.open.len()));
        let number = self.found.met.len();
        for member in &circle {
            self.found.circles[*member] = number;
        }
        let met = self.met(&circle, mark, most);
        self.found.met.push(met);
    }

    fn met(
        &self,
        circle: &[usize],
        mark: &impl Fn(usize) -> Mark,
        most: usize,
    ) -> Option<BTreeSet<usize>> {
        let mut met = BTreeSet::new();
        let own = self.found.met.len();
        for to in circle.iter().flat_map(|member| &self.next[*member]) {
            match mark(*to) {
                Mark::Nothing => {}
                Mark::One(one) => {
                    met.insert(one);
                }
                Mark::Anything => return None,
            }
            if self.found.circles[*to] != own {
                met.extend(self.found.of(*to)?);
            }
            if met.len() > most {
                return None;
            }
        }
        Some(met)
    }
}
