//! The monoio runtime of a shard: the best ring the kernel gives, or epoll.

use std::{future::Future, io};

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder, time::TimeDriver};

use super::config::DriverChoice;
use crate::limits::RING_ENTRIES;

/// A runtime, to be built and used on the shard's own thread.
pub(super) enum ShardRuntime {
    Uring(Runtime<TimeDriver<IoUringDriver>>),
    Legacy(Runtime<TimeDriver<LegacyDriver>>),
}

impl ShardRuntime {
    /// Tries a ring whose completions wait for the shard to ask (Linux 6.1), then a plain one, then epoll, as far as
    /// `choice` allows. With epoll, why io_uring is not used comes along.
    pub(super) fn build(choice: DriverChoice) -> io::Result<(Self, Option<io::Error>)> {
        if choice == DriverChoice::Legacy {
            return Ok((Self::legacy()?, None));
        }
        let mut deferred = io_uring::IoUring::builder();
        deferred.setup_single_issuer().setup_defer_taskrun();
        match Self::uring(deferred).or_else(|_| Self::uring(io_uring::IoUring::builder())) {
            Ok(runtime) => Ok((runtime, None)),
            Err(denied) if choice == DriverChoice::Uring => Err(denied),
            Err(denied) => Ok((Self::legacy()?, Some(denied))),
        }
    }

    fn uring(builder: io_uring::Builder) -> io::Result<Self> {
        let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(builder);
        builder.enable_timer().build().map(Self::Uring)
    }

    fn legacy() -> io::Result<Self> {
        RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().map(Self::Legacy)
    }

    /// For people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "io_uring",
            Self::Legacy(_) => "epoll",
        }
    }

    /// Whether sockets must not block: epoll retries by itself, a ring waits in the kernel.
    pub(super) fn wants_nonblocking(&self) -> bool {
        matches!(self, Self::Legacy(_))
    }

    pub(super) fn block_on<T>(&mut self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Legacy(runtime) => runtime.block_on(future),
        }
    }
}
