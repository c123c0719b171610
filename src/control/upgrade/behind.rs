//! Who takes connections instead of a process that was replaced: the one that took over, and whoever took over from that one
//! since.
//!
//! The line to them ends when all have closed their ends of it; here is whether they have ended, too, and how.

use std::{
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::time::{Instant, sleep};

use crate::limits::{SUCCESSOR_END_PATIENCE, SUCCESSOR_POLL};

/// See the file's head.
#[derive(Debug)]
pub(super) struct Behind {
    child: Child,
    /// Of the one that is in the child's place now.
    pid: u32,
    /// That one's, if it is another and lived when it was heard of.
    heir: Option<OwnedFd>,
}

/// How the last of them ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It has not.
    Lives,
    /// Of a child.
    Status(ExitStatus),
    /// Only parents know.
    Unknown,
}

impl Behind {
    pub(super) fn new(child: Child) -> Self {
        Self { pid: child.id(), child, heir: None }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The one that is known has ended, says the one that took over from it. How it ended.
    pub(super) async fn is_succeeded_by(&mut self, pid: u32) -> End {
        let heir = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let end = self.end().await;
        // An error: it has ended by now, or the kernel does not say; then the line's end alone tells.
        self.heir = heir.and_then(Result::ok);
        self.pid = pid;
        end
    }

    /// To be asked once the line has ended.
    pub(super) async fn end(&mut self) -> End {
        let status = ended(&mut self.child).await;
        match status {
            None => End::Lives,
            Some(status) if self.pid == self.child.id() => End::Status(status),
            Some(_) => {
                let by = Instant::now() + SUCCESSOR_END_PATIENCE;
                while self.heir.as_ref().is_some_and(lives) {
                    if Instant::now() >= by {
                        return End::Lives;
                    }
                    sleep(SUCCESSOR_POLL).await;
                }
                End::Unknown
            }
        }
    }
}

fn lives(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec::default())) == Ok(0)
}

/// How a process ended, of one that has closed its end of the socket pair.
pub(super) async fn ended(child: &mut Child) -> Option<ExitStatus> {
    let by = Instant::now() + SUCCESSOR_END_PATIENCE;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < by => sleep(SUCCESSOR_POLL).await,
            status => return status.ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn process() -> Child {
        Command::new("sleep").arg("60").spawn().expect("sleep is on PATH")
    }

    fn kill(child: &mut Child) {
        child.kill().and_then(|()| child.wait()).expect("it lives");
    }

    #[tokio::test]
    async fn all_have_to_end() {
        let (mut middle, mut last) = (process(), process());
        let mut behind = Behind::new(middle);
        assert!(matches!(behind.end().await, End::Lives));
        kill(&mut behind.child);
        assert!(matches!(behind.is_succeeded_by(last.id()).await, End::Status(_)));
        assert_eq!(behind.pid(), last.id());
        assert!(matches!(behind.end().await, End::Lives));
        kill(&mut last);
        assert!(matches!(behind.end().await, End::Unknown));
        // One that has ended before it could be looked at.
        middle = process();
        kill(&mut middle);
        assert!(matches!(behind.is_succeeded_by(middle.id()).await, End::Unknown));
        assert!(matches!(behind.end().await, End::Unknown));
    }
}
