//! A queue that one task of a shard waits for and others fill. Its bound is its users'.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
};

pub(super) struct Line<T> {
    queue: RefCell<VecDeque<T>>,
    /// The task that waits, while the queue is empty.
    task: RefCell<Option<Waker>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { queue: RefCell::default(), task: RefCell::default() }
    }
}

impl<T> Line<T> {
    pub(super) fn push(&self, item: T) {
        self.queue.borrow_mut().push_back(item);
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.queue.borrow_mut().pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Waits until there is something in it.
    pub(super) async fn filled(&self) {
        poll_fn(|context| {
            if !self.queue.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.task.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
