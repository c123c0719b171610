//! The new process: takes the sockets it was given, says when it listens, and hears when the old one has ended.

use std::{
    env,
    fs::File,
    io,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    VARIABLE,
    line::Line,
    message::{Message, VERSION},
};
use crate::{
    limits::SUCCESSOR_PATIENCE,
    shard::{
        fleet::Fleet,
        inherited::Inherited,
        passing::{Passed, Passing},
        predecessor::Predecessor,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What this process has from the one that it takes over from.
#[derive(Debug)]
pub(in crate::control) struct Heir {
    passing: Passing,
    /// The old process.
    pid: u32,
    predecessor: Arc<Predecessor>,
}

impl Heir {
    /// `None`: the process was started by somebody else. What it inherits goes to `inherited`. Errors are one line.
    pub(in crate::control) fn claim(inherited: &mut Inherited) -> Result<Option<Self>, String> {
        let Some(version) = env::var_os(VARIABLE) else { return Ok(None) };
        if version.to_str().and_then(|text| text.parse().ok()) != Some(VERSION) {
            return Err(format!(
                "{VARIABLE} {version:?}: this release knows version {VERSION} of the hand-over: stop the old process and \
                 start this one"
            ));
        }
        let end = io::stdin().as_fd().try_clone_to_owned().ok().and_then(Passing::new);
        let Some(passing) = end else {
            return Err(format!("{VARIABLE}: a process that is replaced sets it for its successor: unset it"));
        };
        let failed = |error: io::Error| format!("cannot take over from the process before: {error}");
        let nothing = File::open("/dev/null").map_err(failed)?;
        rustix::stdio::dup2_stdin(nothing).map_err(|errno| failed(errno.into()))?;
        let pid = receive_sockets(&passing, inherited).map_err(failed)?;
        let predecessor = Arc::new(Predecessor::new(passing.try_clone().map_err(failed)?));
        Ok(Some(Self { passing, pid, predecessor }))
    }

    pub(in crate::control) fn predecessor(&self) -> Arc<Predecessor> {
        Arc::clone(&self.predecessor)
    }

    /// Says that this process listens and has the old one leave, then waits for its end.
    pub(in crate::control) async fn take_over(self, fleet: Arc<Fleet>) {
        let Self { passing, pid, predecessor } = self;
        if let Err(error) = hand_over(passing, pid, &fleet).await {
            tracing::warn!(pid, "the process before this one cannot be heard: {error}");
        }
        predecessor.note_gone();
        tracing::info!(pid, "the process before this one has ended");
    }
}

async fn hand_over(passing: Passing, pid: u32, fleet: &Fleet) -> io::Result<()> {
    let line = Line::new(passing)?;
    // What fails here is that the old process has ended: then its sockets are ours all the same.
    let _ = line.send(&Message::Ready, &[]).await;
    while let Some((message, _)) = line.receive().await? {
        if message == Message::Yours {
            break;
        }
    }
    fleet.own_files();
    tracing::info!(pid, "took over: the process before this one serves those it has until they leave");
    while line.receive().await?.is_some() {}
    Ok(())
}

/// Everything up to `all`. Returns the old process's pid.
fn receive_sockets(passing: &Passing, inherited: &mut Inherited) -> io::Result<u32> {
    let by = Instant::now() + SUCCESSOR_PATIENCE;
    let mut pid = None;
    loop {
        let Passed { bytes, descriptors } = receive_by(passing, by)?;
        match Message::read(&bytes)? {
            Message::Hello { version: VERSION, pid: theirs } => pid = Some(theirs),
            Message::Hello { version, .. } => {
                return Err(io::Error::other(format!("it speaks version {version}, this release {VERSION}")));
            }
            Message::Listening { role, chosen } => {
                for socket in descriptors {
                    inherited.add(socket, chosen.then(|| role.clone()))?;
                }
            }
            Message::All => return pid.ok_or_else(|| io::Error::other("it did not say hello")),
            _ => {}
        }
    }
}

fn receive_by(passing: &Passing, by: Instant) -> io::Result<Passed> {
    loop {
        match passing.receive() {
            Ok(passed) if passed.bytes.is_empty() => return Err(io::Error::other("it has ended")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            passed => return passed,
        }
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other(format!("it did not hand its sockets over within {SUCCESSOR_PATIENCE:?}")));
        }
        wait_readable(passing, left)?;
    }
}

fn wait_readable(passing: &Passing, patience: Duration) -> io::Result<()> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(passing, PollFlags::IN)], Some(&patience)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn told(messages: &[&[u8]]) -> (io::Result<u32>, Inherited) {
        let (old, new) = Passing::pair().expect("descriptors");
        let listener = TcpListener::bind("127.0.0.1:0").expect("free");
        for message in messages {
            let brings = Message::read(message).is_ok_and(|message| matches!(message, Message::Listening { .. }));
            let sockets = [listener.as_fd()];
            old.send(message, if brings { &sockets } else { &[] }).expect("room");
        }
        drop(old);
        let mut inherited = Inherited::default();
        (receive_sockets(&new, &mut inherited), inherited)
    }

    #[test]
    fn sockets_come_until_there_are_no_more() {
        let hello = Message::Hello { version: VERSION, pid: 7 }.bytes();
        let listening = Message::Listening { role: "rtmp".to_owned(), chosen: true }.bytes();
        let all = Message::All.bytes();
        let (pid, inherited) = told(&[&hello, &listening, br#"{"more":{}}"#, &listening, &all]);
        assert_eq!(pid.expect("complete"), 7);
        assert_eq!(inherited.left().len(), 1, "two of one address");
        let fault = |messages: &[&[u8]]| told(messages).0.expect_err("incomplete").to_string();
        assert_eq!(fault(&[&hello, &listening]), "it has ended");
        assert_eq!(fault(&[&all]), "it did not say hello");
        assert!(fault(&[&Message::Hello { version: 99, pid: 7 }.bytes()]).contains("version 99"));
        assert!(fault(&[b"junk"]).contains("a message of the hand-over"));
    }
}
