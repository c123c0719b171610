//! A core on a runtime: the tasks that accept, read, write, wait for mail and keep time.
//!
//! One task reads from whichever connections have something to say; each connection has a task that asks the core for the
//! next piece, sends it and reports. No future that is sending or accepting is ever dropped; deadlines end them by shutting
//! the socket down.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::{Shutdown, SocketAddr, TcpListener},
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    bell::BellWaiter,
    close::CloseReason,
    conn::ConnId,
    core::{Core, Transmit},
    fleet::{Command, Mailbox},
    load::LoadMeter,
    metrics::ShardMetrics,
    poller::Poller,
    socket::{Handle, SendBuffer, Sent, Socket},
};
use crate::{egress::Piece, limits};

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
    /// Small sends leave at once, until a player is in step for the first time: the handshake, the first answers and what it
    /// joins with.
    hurried: bool,
}

impl Slot {
    fn wake(&mut self) {
        self.woken = true;
        if let Some(task) = &self.task {
            task.wake_by_ref();
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
                for listener in self.listeners.borrow_mut().drain(..) {
                    // Ends the accepting task's wait, too.
                    let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
                }
                self.with_core(Core::shutdown);
            }
            Command::Report(answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.core.borrow().report());
            }
            #[cfg(test)]
            Command::Panic => panic!("asked to panic"),
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
                    slot.handle.shutdown(Shutdown::Both);
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

    /// Takes connections as they come, a budget at a time.
    async fn accept(self: Rc<Self>, listener: TcpListener, ready: monoio::net::TcpListener) {
        while ready.readable(false).await.is_ok() && !self.core.borrow().is_ending() {
            for _ in 0..limits::ACCEPT_BUDGET {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        if let Err(error) = self.clone().adopt(stream, peer) {
                            self.cannot_accept(&error).await;
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) if self.core.borrow().is_ending() => {
                        tracing::debug!("stopped accepting: {error}");
                        return;
                    }
                    Err(error) => {
                        self.cannot_accept(&error).await;
                        break;
                    }
                }
            }
            self.let_others_run().await;
        }
    }

    async fn cannot_accept(&self, error: &io::Error) {
        self.metrics.accept_failures.add(1);
        tracing::warn!(
            "cannot accept: {error}; raise the limit of open files (or fs.epoll.max_user_watches) or end connections"
        );
        monoio::time::sleep(limits::ACCEPT_PAUSE).await;
    }

    /// Takes in an accepted connection. Errors: the runtime or the epoll set has no room for it, and it was closed.
    fn adopt(self: Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr) -> io::Result<()> {
        // An IPv4 peer of a dual-stack listener is shown as what it is.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        stream.set_nonblocking(self.nonblocking)?;
        let socket = Socket::new(stream)?;
        let handle = socket.handle();
        let id = self.with_core(|core| core.connect(peer));
        if let Err(error) = self.poller.add(handle.fd(), id) {
            self.with_core(|core| core.remove(id));
            return Err(error);
        }
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= id {
            slots.resize_with(id + 1, || None);
        }
        slots[id] = Some(Slot { handle, task: None, woken: false, reading: true, ingest: false, hurried: true });
        drop(slots);
        monoio::spawn(self.clone().serve(socket, id));
        Ok(())
    }

    fn poller(&self, ingest: bool) -> &Poller {
        if ingest { &self.ingest } else { &self.poller }
    }

    /// Reads from those publishers (`ingest`), or others, that have something to say, a batch at a time.
    async fn read(self: Rc<Self>, ingest: bool) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        loop {
            if let Err(error) = self.poller(ingest).wait(&mut ready, &mut events).await {
                tracing::error!("cannot wait for connections to become readable: {error}");
                monoio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
            let mut all_read = ready.len() < limits::READY_BUDGET;
            for id in ready.drain(..) {
                match self.read_some(id) {
                    Ok(all) => all_read &= all,
                    Err(reason) => {
                        self.stop_reading(id);
                        self.core.borrow_mut().peer_closed(id, reason);
                    }
                }
                if !ingest && self.core.borrow().publishes(id) {
                    self.move_to_ingest(id);
                }
            }
            // Once for all: what several publishers sent leaves in one pass.
            self.pass_on(&mut self.core.borrow_mut());
            let pause = self.core.borrow().read_pause();
            if ingest && all_read && !pause.is_zero() {
                monoio::time::sleep(pause).await;
            } else {
                self.let_others_run().await;
            }
        }
    }

    /// Reads up to a budget. True if that was all there is; errors: the peer has closed.
    fn read_some(&self, id: ConnId) -> Result<bool, CloseReason> {
        let slots = self.slots.borrow();
        let Some(slot) = slots.get(id).and_then(Option::as_ref) else { return Ok(true) };
        let mut scratch = self.scratch.borrow_mut();
        let mut core = self.core.borrow_mut();
        core.advance(self.start.elapsed());
        let mut budget = limits::READ_BUDGET_BYTES;
        while budget > 0 {
            match slot.handle.receive(&mut scratch) {
                Ok([]) => return Err(CloseReason::PeerClosed),
                Ok(bytes) => {
                    core.receive(id, bytes);
                    budget = budget.saturating_sub(bytes.len());
                    if bytes.len() < limits::READ_BYTES {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(CloseReason::PeerReset),
            }
        }
        Ok(false)
    }

    /// With epoll, what is ready is so at once and a loop over it would starve the others; a ring lets them run anyway.
    async fn let_others_run(&self) {
        if self.nonblocking {
            yield_once().await;
        }
    }

    fn move_to_ingest(&self, id: ConnId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return };
        // Where there is no room for it, it is read from as before.
        if self.ingest.add(slot.handle.fd(), id).is_ok() {
            self.poller.remove(slot.handle.fd());
            slot.ingest = true;
        }
    }

    fn stop_reading(&self, id: ConnId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return };
        self.poller(slot.ingest).remove(slot.handle.fd());
        slot.reading = false;
        slot.wake();
    }

    /// A connection's task: sends what the core has for it, and once that has ended waits for the peer to close.
    ///
    /// There is one for each player, so what it holds while it waits counts: a block with what it captures, because a
    /// function keeps its arguments twice, and little besides the send while one is in flight.
    #[allow(clippy::manual_async_fn, reason = "see above")]
    fn serve(self: Rc<Self>, mut socket: Socket, id: ConnId) -> impl Future<Output = ()> {
        async move {
            while let Some(piece) = self.next_piece(id).await {
                let sent = socket.send(piece).await;
                if self.note_sent(id, sent) {
                    self.woken(id).await;
                }
            }
            socket.handle().shutdown(Shutdown::Write);
            while self.is_reading(id) {
                self.woken(id).await;
            }
            self.forget(id);
            drop(socket);
            self.with_core(|core| core.remove(id));
        }
    }

    /// Waits for the next piece of a connection; `None` once it has had its last.
    async fn next_piece(&self, id: ConnId) -> Option<Piece> {
        loop {
            match self.transmit(id) {
                Transmit::Send(piece) => return Some(piece),
                Transmit::Close => return None,
                Transmit::Park => self.woken(id).await,
            }
        }
    }

    fn transmit(&self, id: ConnId) -> Transmit {
        let mut core = self.core.borrow_mut();
        let next = core.transmit(id);
        self.pass_on(&mut core);
        if matches!(next, Transmit::Park) {
            self.calm_down(&core, id);
        }
        next
    }

    /// True if the connection is to wait until it is woken.
    fn note_sent(&self, id: ConnId, (result, SendBuffer(piece)): Sent) -> bool {
        let mut core = self.core.borrow_mut();
        let Ok(count) = result else {
            core.peer_closed(id, CloseReason::PeerReset);
            self.pass_on(&mut core);
            return false;
        };
        let parks = core.sent(id, piece, count);
        if parks {
            self.calm_down(&core, id);
        }
        parks
    }

    fn is_reading(&self, id: ConnId) -> bool {
        self.slots.borrow().get(id).and_then(Option::as_ref).is_some_and(|slot| slot.reading)
    }

    fn forget(&self, id: ConnId) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(id) {
            *slot = None;
        }
    }

    /// A player that is in step no longer needs each message by itself at once, unless the operator says so.
    fn calm_down(&self, core: &Core, id: ConnId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut).filter(|slot| slot.hurried) else { return };
        if core.may_join_small_sends(id) {
            slot.hurried = false;
            slot.handle.join_small_sends();
        }
    }

    /// Waits until the connection's task is woken.
    async fn woken(&self, id: ConnId) {
        poll_fn(|context| {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return Poll::Ready(()) };
            if std::mem::take(&mut slot.woken) {
                return Poll::Ready(());
            }
            if slot.task.as_ref().is_none_or(|task| !task.will_wake(context.waker())) {
                slot.task = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
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
