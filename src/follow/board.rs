//! Where changes are marked: on this Keyway's cells, and, where answers are shared, in Redis when they are over. Another
//! Keyway hears of a change by itself; an answer in Redis does not.

use crate::cache::remote::Remote;
use crate::cache::results::cells::{Cell, Cells, Held, Marks};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// Where.
#[derive(Clone)]
pub(super) struct Board {
    cells: Arc<Cells>,
    remote: Option<Arc<Remote>>,
}

/// Cells whose marks in this process are about to go.
struct Retold {
    remote: Arc<Remote>,
    cells: SmallVec<[Cell; 6]>,
}

impl fmt::Debug for Retold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retold").field(&self.cells).finish()
    }
}

impl Held for Retold {
    fn is_sure(&self) -> bool {
        true
    }
}

impl Drop for Retold {
    fn drop(&mut self) {
        self.remote.change(self.cells.iter().copied());
    }
}

impl Board {
    pub(super) fn new(cells: Arc<Cells>, remote: Option<Arc<Remote>>) -> Self {
        Self { cells, remote }
    }

    /// Marks these. When the marks go they are said to have changed.
    #[must_use]
    pub(super) fn mark(&self, cells: impl IntoIterator<Item = Cell>) -> Marks {
        let cells: SmallVec<[Cell; 6]> = cells.into_iter().collect();
        let retold = self.remote.as_ref().map(|remote| Retold {
            remote: Arc::clone(remote),
            cells: cells.clone(),
        });
        let held = retold.map(|retold| Box::new(retold) as Box<dyn Held>);
        self.cells.mark(cells).with(held)
    }
}
