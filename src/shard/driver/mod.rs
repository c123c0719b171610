//! A core on a runtime: the tasks that accept and read ([`reading`]), those that send ([`serving`]), and the two here, which
//! wait for mail and keep time.
//!
//! Bounds: a task and a [`Slot`] for each connection; reads and accepts go by budgets. No future that is sending or accepting is ever dropped; deadlines end them by shutting
//! the socket down.

mod reading;
mod serving;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::{Shutdown, TcpListener},
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    bell::BellWaiter,
    core::Core,
    fleet::{Command, Mailbox},
    load::LoadMeter,
    metrics::ShardMetrics,
    poller::Poller,
    socket::Handle,
};
use crate::limits;

/// What the driver keeps of a connection.
struct Slot {
    handle: Handle,
    /// The connection's task, once it has waited.
    task: Option<Waker>,
    /// It is to ask for its next piece.
    woken: bool,
    /// The peer has not closed yet.
    reading: bool,
    /// It is in the set of publishers.
    ingest: bool,
    /// Small sends leave at once, until a player is in step: the handshake, the first answers and what it joins with.
    hurried: bool,
}

impl Slot {
    fn wake(&mut self) {
        self.woken = true;
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// Its player joins anew.
    fn hurry(&mut self) {
        if !std::mem::replace(&mut self.hurried, true) {
            self.handle.join_small_sends(false);
        }
    }
}

/// See the file's head.
pub(super) struct Driver {
    core: RefCell<Core>,
    slots: RefCell<Vec<Option<Slot>>>,
    /// The process's start.
    start: Instant,
    metrics: std::sync::Arc<ShardMetrics>,
    nonblocking: bool,
    poller: Poller,
    /// Of those that publish, or did: they need not be read from at once while messages are merged.
    ingest: Poller,
    scratch: RefCell<Vec<u8>>,
    /// The task that keeps time, and the process time it sleeps until.
    timer: RefCell<Option<Waker>>,
    sleeps_until: Cell<Duration>,
    listeners: RefCell<Vec<TcpListener>>,
    mailbox: std::sync::Arc<Mailbox>,
}

impl Driver {
    pub(super) fn new(
        core: Core,
        start: Instant,
        metrics: std::sync::Arc<ShardMetrics>,
        nonblocking: bool,
        mailbox: std::sync::Arc<Mailbox>,
    ) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            core: RefCell::new(core),
            slots: RefCell::new(Vec::new()),
            start,
            metrics,
            nonblocking,
            poller: Poller::new()?,
            ingest: Poller::new()?,
            scratch: RefCell::new(vec![0; limits::READ_BYTES]),
            timer: RefCell::new(None),
            sleeps_until: Cell::new(Duration::MAX),
            listeners: RefCell::new(Vec::new()),
            mailbox,
        }))
    }

    /// Begins to take connections. Errors: there is no descriptor for it.
    pub(super) fn listen(self: &Rc<Self>, listeners: Vec<TcpListener>) -> io::Result<()> {
        for listener in listeners {
            self.listeners.borrow_mut().push(listener.try_clone()?);
            let ready = monoio::net::TcpListener::from_std(listener.try_clone()?)?;
            monoio::spawn(self.clone().accept(listener, ready));
        }
        Ok(())
    }

    /// Runs the shard until it has ended in order.
    pub(super) async fn run(self: Rc<Self>, bell: BellWaiter) {
        monoio::spawn(self.clone().keep_time());
        monoio::spawn(self.clone().read(false));
        monoio::spawn(self.clone().read(true));
        let mut ends_by = None;
        loop {
            let awake = self.with_core(|core| !core.before_sleep());
            for command in self.mailbox.take() {
                self.obey(command);
            }
            if self.has_ended(&mut ends_by) {
                return;
            }
            if !awake {
                bell.wait().await;
            }
        }
    }

    /// Whether the shard is ending and has nothing left to do, or no time left to do it in.
    fn has_ended(&self, ends_by: &mut Option<Instant>) -> bool {
        let core = self.core.borrow();
        if !core.is_ending() {
            return false;
        }
        let by = *ends_by.get_or_insert_with(|| Instant::now() + limits::SHUTDOWN_GRACE);
        core.has_ended() || Instant::now() >= by
    }

    fn obey(&self, command: Command) {
        match command {
            Command::Shutdown => {
                self.stop_accepting();
                self.with_core(Core::shutdown);
            }
            Command::StopAccepting => self.stop_accepting(),
            Command::Reconnect(request, answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.with_core(|core| core.request_reconnect(request)));
            }
            Command::Report(answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.core.borrow().report());
            }
            Command::ReportRelays(answer) => {
                let _ = answer.send(self.core.borrow().relay_report());
            }
            #[cfg(test)]
            Command::Panic => panic!("asked to panic"),
        }
    }

    fn stop_accepting(&self) {
        for listener in self.listeners.borrow_mut().drain(..) {
            // Ends the accepting task's wait, too.
            let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
        }
    }

    /// Lets the core do something at the present time, then passes on what follows from it.
    fn with_core<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.borrow_mut();
        core.advance(self.start.elapsed());
        let result = act(&mut core);
        self.pass_on(&mut core);
        result
    }

    /// Wakes writers, shuts down what is to be aborted, and has the clock task look again if something is due sooner.
    fn pass_on(&self, core: &mut Core) {
        if !core.take_wakes().is_empty() || !core.take_aborts().is_empty() {
            let mut slots = self.slots.borrow_mut();
            for id in core.take_wakes().drain(..) {
                let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { continue };
                slot.wake();
            }
            for id in core.take_aborts().drain(..) {
                if let Some(slot) = slots.get(id).and_then(Option::as_ref) {
                    slot.handle.abort();
                }
            }
        }
        if !core.take_hurries().is_empty() {
            let mut slots = self.slots.borrow_mut();
            for id in core.take_hurries().drain(..) {
                if let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) {
                    slot.hurry();
                }
            }
        }
        if core.due_at() < self.sleeps_until.get() {
            self.sleeps_until.set(Duration::ZERO);
            if let Some(timer) = self.timer.borrow().as_ref() {
                timer.wake_by_ref();
            }
        }
    }

    /// With epoll, what is ready is so at once and a loop over it would starve the others; a ring lets them run anyway.
    async fn let_others_run(&self) {
        if self.nonblocking {
            yield_once().await;
        }
    }

    /// Calls the core when something is due: merges to the millisecond, all else at ticks.
    async fn keep_time(self: Rc<Self>) {
        let mut meter = LoadMeter::new();
        let mut next_tick = self.start.elapsed() + limits::TICK;
        loop {
            let due = self.core.borrow().due_at().min(next_tick);
            self.sleeps_until.set(due);
            let patience = due.saturating_sub(self.start.elapsed());
            if !patience.is_zero() {
                let mut sleep = std::pin::pin!(monoio::time::sleep(patience));
                poll_fn(|context| {
                    if self.sleeps_until.get() < due {
                        return Poll::Ready(());
                    }
                    let mut timer = self.timer.borrow_mut();
                    if timer.as_ref().is_none_or(|timer| !timer.will_wake(context.waker())) {
                        *timer = Some(context.waker().clone());
                    }
                    sleep.as_mut().poll(context)
                })
                .await;
            }
            let now = self.start.elapsed();
            self.with_core(Core::timers);
            if now >= next_tick {
                if now.saturating_sub(next_tick) > limits::SLOW_TURN {
                    self.metrics.slow_turns.add(1);
                }
                next_tick = now + limits::TICK;
                let (busy, elapsed) = meter.sample();
                self.with_core(|core| {
                    core.note_load(busy, elapsed);
                    core.tick();
                });
                if self.core.borrow().is_ending() {
                    // Whether the end has come is for the task that waits for the bell to see.
                    self.mailbox.ring();
                }
            }
        }
    }
}

/// Lets every other task that is ready run first.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
