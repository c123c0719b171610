//! The thread of a shard: pinned to its CPU, given its runtime and listeners, and watched.

use std::{
    io,
    mem::ManuallyDrop,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Instant,
};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::{
    ends::{Ends, PanicWatch},
    mailbox::Mailbox,
};
use crate::shard::{
    core::{Core, Shared},
    dial::DialDesk,
    driver::{Door, Driver, Setting},
    listener::Listener,
    mesh::Port,
    metrics::ShardMetrics,
    runtime::ShardRuntime,
};

#[derive(Clone, Copy, Debug)]
pub struct ShardFacts {
    pub shard: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// "io_uring" or "epoll".
    pub driver: &'static str,
}

/// What a shard's thread is started with.
pub(super) struct Seat {
    pub(super) shard: usize,
    pub(super) cpu: Option<usize>,
    pub(super) shared: Shared,
    pub(super) port: Port,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) listeners: Vec<Listener>,
    /// Those for TLS.
    pub(super) secure: Vec<Listener>,
    pub(super) desk: DialDesk,
    pub(super) start: Instant,
    pub(super) ends: Arc<Ends>,
}

/// What a shard's thread says once it runs, or cannot.
pub(super) type Started = Result<(ShardFacts, Option<io::Error>), io::Error>;

impl Seat {
    /// Starts the shard's thread and waits until it listens.
    pub(super) fn start(self) -> Started {
        let (say, hear) = mpsc::channel();
        let name = format!("shard-{}", self.shard);
        thread::Builder::new().name(name).spawn(move || self.run(&say))?;
        hear.recv().unwrap_or_else(|_| Err(io::Error::other("the shard's thread ended before it listened")))
    }

    fn run(self, say: &Sender<Started>) {
        let watch = PanicWatch { shard: self.shard, ends: self.ends.clone() };
        if let Some(cpu) = self.cpu {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            if let Err(error) = sched_setaffinity(None, &cpus) {
                let _ = say.send(Err(error.into()));
                return;
            }
        }
        // Never torn down: sends may be in flight when the thread ends, and their buffers stay until the process does.
        let (mut runtime, denied) = match ShardRuntime::build(self.shared.config.driver) {
            Ok((runtime, denied)) => (ManuallyDrop::new(runtime), denied),
            Err(error) => {
                let _ = say.send(Err(error));
                return;
            }
        };
        let facts = ShardFacts { shard: self.shard, cpu: self.cpu, driver: runtime.name() };
        let nonblocking = runtime.wants_nonblocking();
        // Handshakes need bytes that differ, not secrets.
        let nonce = nonce(self.shard);
        let core = Core::new(&self.shared, self.port, self.metrics.clone(), nonce);
        let result = runtime.block_on(async {
            let bell = self.mailbox.bell().waiter()?;
            let driver = Driver::new(
                core,
                Setting {
                    start: self.start,
                    metrics: self.metrics,
                    nonblocking,
                    mailbox: self.mailbox,
                    desk: self.desk,
                    sockets: self.shared.config.sockets.clone(),
                    questions: self.shared.config.callbacks.desk.clone(),
                },
            )?;
            let (plain, secure) = Door::both(&self.shared.config);
            driver.listen(self.listeners, &plain)?;
            driver.listen(self.secure, &secure)?;
            let _ = say.send(Ok((facts, denied)));
            driver.run(bell).await;
            Ok(())
        });
        match result {
            Ok(()) => watch.ended(),
            Err(error) => drop(say.send(Err(error))),
        }
    }
}

fn nonce(shard: usize) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_usize(shard);
    hasher.finish()
}
