//! How tasks that could go on at once let all others have their turn.
//!
//! monoio puts a task that wakes itself at the front of its queue, looks at timers only when no task can run, and of a ring whose
//! completions wait to be asked for hears only then, too. With epoll, where what is ready is so at once, a task that is to stand
//! back is therefore woken by another, which runs behind all that were ready and looks at what is due. With a ring every wait is for
//! the kernel; a task that waits for nothing waits for something always ready. Bound: each task waits here once.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    os::unix::net::UnixStream,
    rc::Rc,
    task::{Poll, Waker},
};

use rustix::event::{EventfdFlags, eventfd};

use super::Driver;

pub(super) struct Turns {
    /// Always ready. None: sockets do not block, and what is ready is so at once.
    turnstile: Option<monoio::net::UnixStream>,
    waiting: RefCell<Vec<Waker>>,
    /// The task that wakes them, while it has none to.
    waker: RefCell<Option<Waker>>,
}

impl Turns {
    /// For the shard's thread, within its runtime.
    pub(super) fn new(nonblocking: bool) -> io::Result<Self> {
        let turnstile = if nonblocking {
            None
        } else {
            let open = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            // monoio waits for the readiness of sockets only by type; an eventfd does as well.
            Some(monoio::net::UnixStream::from_std(UnixStream::from(open))?)
        };
        Ok(Self { turnstile, waiting: RefCell::default(), waker: RefCell::default() })
    }

    async fn stand_back(&self) {
        let mut stood_back = false;
        poll_fn(|context| {
            if std::mem::replace(&mut stood_back, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
            Poll::Pending
        })
        .await;
    }

    async fn filled(&self) {
        poll_fn(|context| {
            if !self.waiting.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Driver {
    /// For a task that loops over what is ready, or sends what is to be sent.
    pub(super) async fn let_others_run(&self) {
        if self.turns.turnstile.is_none() {
            self.turns.stand_back().await;
        }
    }

    /// For a task that waits for nothing in between.
    pub(super) async fn let_all_run(&self) {
        match &self.turns.turnstile {
            // If it fails, it has waited all the same.
            Some(open) => drop(open.readable(false).await),
            None => self.turns.stand_back().await,
        }
    }

    /// Wakes those that stand back.
    pub(super) async fn keep_turns(self: Rc<Self>) {
        loop {
            self.turns.filled().await;
            if self.start.elapsed() >= self.sleeps_until.get() {
                self.wake_timer();
            }
            self.turns.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}
