//! A core on a runtime: the tasks that accept ([`accepting`]), read ([`reading`]), send ([`serving`]), connect ([`dialling`]),
//! speak TLS ([`secure`]) and hear load balancers ([`proxied`]), the connections that are not read for a while ([`holding`]), who
//! goes first ([`turns`]), and the tasks here, which wait for mail, wake players and keep time.
//!
//! Bounds: a task and a [`Slot`] for each connection; reads and accepts go by budgets. No future that is sending or accepting is
//! ever dropped; deadlines end them by shutting the socket down.

mod accepting;
mod dialling;
mod holding;
mod line;
mod proxied;
mod reading;
mod secure;
mod serving;
#[cfg(all(test, not(loom)))]
mod tests;
mod turns;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::TcpListener,
    os::fd::OwnedFd,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(super) use self::accepting::Door;
use self::{accepting::Gate, dialling::Dials, proxied::Proxied, secure::Secure, turns::Turns};
use super::{
    bell::BellWaiter,
    close_log::LineBudget,
    conn::{ConnId, Standing},
    core::Core,
    dial::{DialDesk, Dialler},
    fleet::{Command, Mailbox},
    listen_addr::SUCCESSOR_SHOWN_AS,
    listener::Listener,
    load::LoadMeter,
    metrics::ShardMetrics,
    poller::Poller,
    questions::Desk,
    socket::Handle,
    socket_options::SocketOptions,
};
use crate::limits;

/// What the driver keeps of a connection.
struct Slot {
    handle: Handle,
    /// The connection's task, once it has waited.
    task: Option<Waker>,
    /// It is to ask for its next piece, or of [`Set::Secure`], stands in the queue of the task that does.
    woken: bool,
    reading: Reading,
    /// Where it is read from.
    set: Set,
    /// Small sends leave at once, until a player is in step: the handshake, the first answers and what it joins with.
    hurried: bool,
}

/// Whether a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Yes,
    /// Not until the core has heard a decision; only that its peer closes is looked for.
    Held,
    /// The peer has closed.
    Ended,
}

/// Connections that are read from by one task, in one epoll set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// Whoever does not publish.
    Players,
    /// Those that publish, or did: they need not be read from at once while messages are merged.
    Publishers,
    /// Those that speak TLS.
    Secure,
    /// Those whose load balancer has yet to say who they are.
    Proxied,
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

/// What a driver is made with, besides its core.
pub(super) struct Setting {
    /// The process's start.
    pub(super) start: Instant,
    pub(super) metrics: Arc<ShardMetrics>,
    /// Whether the runtime wants sockets that do not block.
    pub(super) nonblocking: bool,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) desk: DialDesk,
    /// For connections that are dialled.
    pub(super) sockets: SocketOptions,
    /// Who is asked about clients.
    pub(super) questions: Option<Desk>,
}

/// See the file's head.
pub(super) struct Driver {
    /// For tasks to own.
    me: Weak<Self>,
    core: RefCell<Core>,
    slots: RefCell<Vec<Option<Slot>>>,
    /// The process's start.
    start: Instant,
    metrics: Arc<ShardMetrics>,
    nonblocking: bool,
    turns: Turns,
    /// Of [`Set::Players`] and [`Set::Publishers`]; the other two have their own.
    poller: Poller,
    ingest: Poller,
    secure: Secure,
    proxied: Proxied,
    dialler: Dialler,
    dials: Dials,
    scratch: RefCell<Vec<u8>>,
    /// The task that wakes players.
    waking: RefCell<Option<Waker>>,
    /// The task that keeps time, and the process time it sleeps until.
    timer: RefCell<Option<Waker>>,
    sleeps_until: Cell<Duration>,
    questions: Option<Desk>,
    listeners: RefCell<Vec<Listener>>,
    /// Where tasks that accept hear that they are to stop.
    gate: Gate,
    mailbox: Arc<Mailbox>,
    /// A descriptor for the time when there are no others: see [`accepting`].
    reserve: RefCell<Option<OwnedFd>>,
    /// Of lines about accepts that failed.
    accept_lines: RefCell<LineBudget>,
}

impl Driver {
    pub(super) fn new(mut core: Core, setting: Setting) -> io::Result<Rc<Self>> {
        core.set_wall(unix_s());
        let Setting { start, metrics, nonblocking, mailbox, desk, sockets, questions } = setting;
        let mail = Arc::clone(&mailbox);
        let deliver = move |id, answer| mail.send(Command::Answered(id, answer));
        let dialler = Dialler::new(desk, Arc::new(deliver), sockets)?;
        let (poller, ingest, proxied) = (Poller::new()?, Poller::new()?, Proxied::new()?);
        let (secure, turns) = (Secure::new(Arc::clone(&metrics))?, Turns::new(nonblocking)?);
        Ok(Rc::new_cyclic(|me| Self {
            me: me.clone(),
            core: RefCell::new(core),
            slots: RefCell::new(Vec::new()),
            start,
            metrics,
            nonblocking,
            turns,
            poller,
            ingest,
            secure,
            proxied,
            dialler,
            dials: Dials::default(),
            scratch: RefCell::new(vec![0; limits::READ_BYTES]),
            waking: RefCell::new(None),
            timer: RefCell::new(None),
            sleeps_until: Cell::new(Duration::MAX),
            questions,
            listeners: RefCell::new(Vec::new()),
            gate: Gate::default(),
            mailbox,
            reserve: RefCell::new(accepting::reserve()),
            accept_lines: RefCell::default(),
        }))
    }

    /// Begins to take connections that come by `door`. Errors: there is no descriptor for it.
    pub(super) fn listen(self: &Rc<Self>, listeners: Vec<Listener>, door: &Door) -> io::Result<()> {
        for listener in listeners {
            self.listeners.borrow_mut().push(listener.try_clone()?);
            // Whatever it listens on: to monoio it is a descriptor to wait for.
            let ready = monoio::net::TcpListener::from_std(TcpListener::from(listener.descriptor()?))?;
            monoio::spawn(self.clone().accept(listener, ready, door.clone()));
        }
        Ok(())
    }

    /// Runs the shard until it has ended in order.
    pub(super) async fn run(self: Rc<Self>, bell: BellWaiter) {
        monoio::spawn(self.clone().keep_time());
        monoio::spawn(self.clone().keep_turns());
        monoio::spawn(self.clone().wake_players());
        monoio::spawn(self.clone().read(false));
        monoio::spawn(self.clone().read(true));
        monoio::spawn(self.clone().read_secure());
        monoio::spawn(self.clone().send_secure());
        monoio::spawn(self.clone().read_headers());
        monoio::spawn(self.clone().watch_dials());
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
            Command::ReleaseListeners => self.release_listeners(),
            Command::Listen { plain, secure } => {
                if let Err(error) = self.listen_again(plain, secure) {
                    tracing::error!("cannot take connections again: {error}");
                }
            }
            Command::Adopt(socket) => {
                let Some(me) = self.me.upgrade() else { return };
                if let Err(error) = me.adopt(socket, Standing::Successor, SUCCESSOR_SHOWN_AS, &Door::default()) {
                    tracing::warn!("cannot serve the process that takes over: {error}");
                }
            }
            Command::Reconnect(request, answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.with_core(|core| core.request_reconnect(request)));
            }
            Command::Leave(departure, answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.with_core(|core| core.leave(departure)));
            }
            Command::Stay => self.with_core(Core::stay),
            Command::Report(answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.core.borrow().report());
            }
            Command::ReportRelays(answer) => {
                let _ = answer.send(self.core.borrow().relay_report());
            }
            Command::Decided(ticket, decision) => self.with_core(|core| core.decided(ticket, decision)),
            Command::Answered(id, answer) => self.dialler.answered(id, answer),
            #[cfg(test)]
            Command::Panic => panic!("asked to panic"),
            #[cfg(test)]
            Command::Act(act) => act.0(self),
        }
    }

    fn stop_accepting(&self) {
        for listener in self.listeners.borrow_mut().drain(..) {
            listener.shut();
        }
        self.gate.close();
    }

    /// Takes no more connections. The sockets are left as they are: others accept from them.
    fn release_listeners(&self) {
        self.listeners.borrow_mut().clear();
        self.gate.close();
    }

    /// Lets the core do something at the present time, then passes on what follows from it.
    fn with_core<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.borrow_mut();
        core.advance(self.start.elapsed());
        let result = act(&mut core);
        self.pass_on(&mut core);
        result
    }

    /// Asks, begins dials, wakes writers, shuts down what is to be aborted, has the rest of an audience woken, and the clock task
    /// look again if something is due sooner.
    fn pass_on(&self, core: &mut Core) {
        self.pass_on_questions(core);
        if !core.take_dials().is_empty() {
            for dial in core.take_dials().drain(..) {
                self.begin_dial(dial);
            }
        }
        if !core.take_wakes().is_empty() || !core.take_aborts().is_empty() {
            let mut slots = self.slots.borrow_mut();
            for id in core.take_wakes().drain(..) {
                if let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) {
                    self.wake(id, slot);
                }
            }
            for id in core.take_aborts().drain(..) {
                if let Some(slot) = slots.get(id).and_then(Option::as_ref) {
                    slot.handle.abort();
                }
                self.dials.give_up(id);
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
        if core.is_waking()
            && let Some(task) = self.waking.borrow_mut().take()
        {
            task.wake();
        }
        if core.due_at() < self.sleeps_until.get() {
            self.sleeps_until.set(Duration::ZERO);
            if let Some(timer) = self.timer.borrow().as_ref() {
                timer.wake_by_ref();
            }
        }
    }

    /// Has whoever sends to a connection look for what there is.
    fn wake(&self, id: ConnId, slot: &mut Slot) {
        match slot.set {
            Set::Secure => self.secure.due.add(id, slot),
            _ => slot.wake(),
        }
    }

    /// Wakes those of large audiences that were not woken with the first. However long all else takes, what these are sent may take
    /// as long: else a flood would have the last wait for a turn of it for each portion.
    async fn wake_players(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                if self.core.borrow().is_waking() {
                    return Poll::Ready(());
                }
                *self.waking.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            let began = self.start.elapsed();
            self.let_all_run().await;
            // The turn includes what those woken before it were sent, so half of it is what all else may be met with.
            let turn = self.start.elapsed().saturating_sub(began);
            let count = turn.as_nanos() / (2 * limits::MERGE_SEND_COST.as_nanos());
            self.with_core(|core| core.wake_more(count as usize));
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
                self.metrics.turns.add(1);
                if now.saturating_sub(next_tick) > limits::SLOW_TURN {
                    self.metrics.slow_turns.add(1);
                }
                next_tick = now + limits::TICK;
                self.end_late_handshakes();
                let (busy, elapsed) = meter.sample();
                self.with_core(|core| {
                    core.set_wall(unix_s());
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

/// To the tick: nothing that goes by it is finer than seconds.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
