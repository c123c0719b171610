//! How tasks that could go on at once let all others have their turn.
//!
//! monoio puts a task that wakes itself at the front of its queue, looks at timers only when no task can run, and of a ring whose
//! completions wait to be asked for hears only then, too. So no task may go on for long without waiting for something that the
//! runtime has to look for. With a ring every wait is for the kernel, and a task that needs none waits at the turnstile. With
//! epoll what is ready is so at once: those that loop over it wait for another task ([`Driver::keep_turns`]), which runs behind all
//! that were ready, and waits at the turnstile for all of them. Bound: each task waits here once.

use std::{
    future::{Future, poll_fn},
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use rustix::event::{EventfdFlags, eventfd};

use super::{Driver, line::Line};

pub(super) struct Turns {
    turnstile: Turnstile,
    waiting: Line<Waker>,
}

impl Turns {
    /// For the shard's thread, within its runtime. `by_epoll`: it has no ring.
    pub(super) fn new(by_epoll: bool) -> io::Result<Self> {
        let turnstile = Turnstile::new(by_epoll)?;
        Ok(Self { turnstile, waiting: Line::default() })
    }

    async fn stand_back(&self) {
        let mut stood_back = false;
        poll_fn(|context| {
            if std::mem::replace(&mut stood_back, true) {
                return Poll::Ready(());
            }
            self.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// An eventfd: waiting for it has the runtime look at all that is ready, complete or due.
struct Turnstile {
    /// Always ready with a ring, which looks at it when it is asked.
    event: OwnedFd,
    ready: monoio::net::UnixStream,
    by_epoll: bool,
}

impl Turnstile {
    fn new(by_epoll: bool) -> io::Result<Self> {
        let event = eventfd(u32::from(!by_epoll), EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // monoio waits for the readiness of sockets only by type; an eventfd does as well.
        let ready = monoio::net::UnixStream::from_std(UnixStream::from(event.try_clone()?))?;
        Ok(Self { event, ready, by_epoll })
    }

    async fn pass(&self) {
        let mut pass = pin!(self.ready.readable(false));
        if self.by_epoll {
            // It has to be found closed first: what is ready when it is asked for is not waited for.
            let is_open = poll_fn(|context| Poll::Ready(pass.as_mut().poll(context).is_ready())).await;
            if is_open {
                return;
            }
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
        let _ = pass.await;
        if self.by_epoll {
            let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        }
    }
}

impl Driver {
    /// For a task that loops over what is ready, or sends what is to be sent.
    pub(super) async fn let_others_run(&self) {
        if self.nonblocking {
            self.turns.stand_back().await;
        }
    }

    /// For a task that waits for nothing in between.
    pub(super) async fn let_all_run(&self) {
        if self.nonblocking {
            self.turns.stand_back().await;
        } else {
            self.turns.turnstile.pass().await;
        }
    }

    /// Wakes those that stand back.
    pub(super) async fn keep_turns(self: Rc<Self>) {
        loop {
            self.turns.waiting.filled().await;
            self.turns.turnstile.pass().await;
            // Not those that come meanwhile.
            let count = self.turns.waiting.len();
            (0..count).filter_map(|_| self.turns.waiting.pop()).for_each(Waker::wake);
        }
    }
}
