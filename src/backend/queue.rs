//! A queue of waiting tasks of one thread, served in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Tasks that wait for a `T` each.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: RefCell<VecDeque<Rc<Waiter<T>>>>,
    deserted: Notify,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: RefCell::default(),
            deserted: Notify::new(),
        }
    }
}

/// One place in a queue.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    slot: RefCell<Slot<T>>,
}

#[derive(Debug)]
enum Slot<T> {
    Waiting(Option<Waker>),
    Served(T),
    Gone,
}

impl<T> Queue<T> {
    /// Nobody waits?
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// A place at the end.
    pub(super) fn join_last(&self) -> Rc<Waiter<T>> {
        let waiter = Waiter::new();
        self.waiting.borrow_mut().push_back(Rc::clone(&waiter));
        waiter
    }

    /// A place in front, for who was served what did not fit.
    pub(super) fn join_first(&self) -> Rc<Waiter<T>> {
        let waiter = Waiter::new();
        self.waiting.borrow_mut().push_front(Rc::clone(&waiter));
        waiter
    }

    /// Serves who waits longest; gives back what nobody waits for.
    pub(super) fn serve(&self, value: T) -> Option<T> {
        let Some(first) = self.waiting.borrow_mut().pop_front() else {
            return Some(value);
        };
        if let Slot::Waiting(Some(waker)) = first.slot.replace(Slot::Served(value)) {
            waker.wake();
        }
        self.tell_if_deserted();
        None
    }

    /// Gives up a place; returns what it was served and has not taken.
    pub(super) fn leave(&self, waiter: &Rc<Waiter<T>>) -> Option<T> {
        match waiter.slot.replace(Slot::Gone) {
            Slot::Waiting(_) => {
                self.waiting.borrow_mut().retain(|w| !Rc::ptr_eq(w, waiter));
                self.tell_if_deserted();
                None
            }
            Slot::Served(value) => Some(value),
            Slot::Gone => None,
        }
    }

    /// Comes when nobody waits any more.
    pub(super) fn deserted(&self) -> Notified<'_> {
        self.deserted.notified()
    }

    fn tell_if_deserted(&self) {
        if self.is_empty() {
            self.deserted.notify_waiters();
        }
    }
}

impl<T> Waiter<T> {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            slot: RefCell::new(Slot::Waiting(None)),
        })
    }

    /// Waits to be served.
    ///
    /// Cancel safe: what was served stays until [`Queue::leave`] takes it.
    pub(super) async fn wait(&self) -> T {
        poll_fn(|context| {
            let mut slot = self.slot.borrow_mut();
            match std::mem::replace(&mut *slot, Slot::Gone) {
                Slot::Served(value) => Poll::Ready(value),
                Slot::Waiting(_) => {
                    *slot = Slot::Waiting(Some(context.waker().clone()));
                    Poll::Pending
                }
                // Nobody waits at a place that was given up.
                Slot::Gone => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn who_waits_longest_is_served_first() {
        let queue = Queue::default();
        let (a, b, c) = (queue.join_last(), queue.join_last(), queue.join_last());
        let early = queue.join_first();
        assert_eq!(queue.len(), 4);
        assert_eq!(queue.serve(1), None);
        assert_eq!(queue.leave(&b), None);
        assert_eq!(queue.serve(2), None);
        assert_eq!(queue.serve(3), None);
        assert_eq!(queue.serve(4), Some(4), "nobody waits");
        assert_eq!((early.wait().await, a.wait().await), (1, 2));
        // Served, and gone before it was taken.
        assert_eq!(queue.leave(&c), Some(3));
        assert_eq!(queue.leave(&a), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_one_to_leave_is_told_of() {
        let queue: Queue<u8> = Queue::default();
        let (a, b) = (queue.join_last(), queue.join_last());
        let deserted = queue.deserted();
        tokio::pin!(deserted);
        deserted.as_mut().enable();
        queue.leave(&a);
        let told = poll_fn(|context| Poll::Ready(deserted.as_mut().poll(context).is_ready())).await;
        assert!(!told);
        queue.leave(&b);
        deserted.await;
        assert!(queue.is_empty());
    }
}
