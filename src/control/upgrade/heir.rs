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
    guards::{Guarding, Guards},
    line::Line,
    message::{Message, VERSION},
};
use crate::{
    control::{args::Drain, course::Mode, systemd::Manager},
    limits::SUCCESSOR_PATIENCE,
    shard::{
        fleet::Fleet,
        inherited::Inherited,
        passing::{Passed, Passing},
        predecessor::{Elder, Predecessor},
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What this process has from the one that it takes over from.
#[derive(Debug)]
pub(in crate::control) struct Heir {
    passing: Passing,
    /// The old process.
    pid: u32,
    /// The service manager opened some of the sockets, and goes on listening on them.
    pub(in crate::control) lasting: bool,
    predecessor: Arc<Predecessor>,
    /// Sockets that this process has no use for.
    unused: Inherited,
    /// Of the old process.
    guards: Guards,
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
        let Received { pid, generation, guards, elders, lasting } =
            receive_sockets(&passing, inherited).map_err(failed)?;
        let nearest = Elder { pid, passing: passing.try_clone().map_err(failed)? };
        let predecessor = Arc::new(Predecessor::new([nearest].into_iter().chain(elders), generation));
        Ok(Some(Self { passing, pid, lasting, predecessor, unused: Inherited::default(), guards }))
    }

    /// Errors: it would let everybody do what the old process does not. One line.
    pub(in crate::control) fn check(&self, guarding: &Guarding) -> Result<(), String> {
        self.guards.are_kept_by(guarding.now())
    }

    /// The process before has copies, too: that nobody listens there is for when it is agreed.
    pub(in crate::control) fn keep_unused(&mut self, unused: Inherited) {
        self.unused = unused;
    }

    pub(in crate::control) fn predecessor(&self) -> Arc<Predecessor> {
        Arc::clone(&self.predecessor)
    }

    /// Says that this process listens and has the old one leave, then waits for its end. The manager hears once it has agreed.
    pub(in crate::control) async fn take_over(self, fleet: Arc<Fleet>, manager: Option<Arc<Manager>>) {
        let Self { passing, pid, lasting, predecessor, unused, .. } = self;
        let agreed = agree(passing).await;
        // Also if the old process cannot be heard: then its sockets are ours all the same.
        manager.iter().for_each(|manager| manager.ready());
        fleet.own_files();
        if !lasting {
            unused.shut();
        }
        let heard = match agreed {
            Ok(line) => {
                tracing::info!(pid, "took over: the process before this one serves those it has until they leave");
                until_its_end(&line).await
            }
            Err(error) => Err(error),
        };
        note_end(pid, &heard);
        let succeeds = Message::Succeeds { pid: std::process::id() }.bytes();
        loop {
            match predecessor.note_gone(&succeeds) {
                Ok(None) => break,
                Ok(Some(Elder { pid, passing })) => {
                    tracing::info!(
                        pid,
                        "the one before it is the process before this one from now on, if it is still there"
                    );
                    let heard = match Line::new(passing) {
                        Ok(line) => until_its_end(&line).await,
                        Err(error) => Err(error),
                    };
                    note_end(pid, &heard);
                }
                // It is given up for the next one.
                Err(error) => tracing::warn!("the process before this one cannot be heard: {error}"),
            }
        }
    }
}

fn note_end(pid: u32, heard: &io::Result<()>) {
    if let Err(error) = heard {
        tracing::warn!(pid, "the process before this one cannot be heard: {error}");
    }
    tracing::info!(pid, "the process before this one has ended");
}

/// The process that was replaced is told to leave as this one is.
pub(in crate::control) fn pass_on(drain: &Drain, fleet: &Fleet) {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let message = Message::Drain {
        lb: drain.mode == Mode::Lb,
        url: drain.url.clone(),
        timeout_ms: ms(drain.timeout),
        window_ms: ms(drain.window),
        converge_ms: ms(drain.converge),
    };
    if let Some(Err(error)) = fleet.predecessor().map(|known| known.tell(&message.bytes())) {
        tracing::warn!("the process before this one was not told to leave: {error}");
    }
}

/// This process ends because it is to.
pub(in crate::control) fn say_goodbye(fleet: &Fleet) {
    if let Some(known) = fleet.predecessor() {
        let replaced = fleet.has_lent_listeners();
        let message = if replaced { Message::Ends { pid: std::process::id() } } else { Message::Goodbye };
        known.take_leave(&message.bytes());
    }
}

/// Says that this process listens, and waits until the old one takes no more connections, or has ended.
async fn agree(passing: Passing) -> io::Result<Line> {
    let line = Line::new(passing)?;
    // What fails here is that it has ended, which is heard next.
    let _ = line.send(&Message::Ready, &[]).await;
    while let Some((message, _)) = line.receive().await? {
        if message == Message::Yours {
            break;
        }
    }
    Ok(line)
}

async fn until_its_end(line: &Line) -> io::Result<()> {
    while line.receive().await?.is_some() {}
    Ok(())
}

/// What the old process says of itself and of its sockets.
#[derive(Debug)]
struct Received {
    pid: u32,
    generation: u8,
    guards: Guards,
    /// Those before it, the nearest first.
    elders: Vec<Elder>,
    lasting: bool,
}

/// Everything up to `all`.
fn receive_sockets(passing: &Passing, inherited: &mut Inherited) -> io::Result<Received> {
    let by = Instant::now() + SUCCESSOR_PATIENCE;
    let mut hello = None;
    let (mut elders, mut lasting) = (Vec::new(), false);
    loop {
        let Passed { bytes, descriptors } = receive_by(passing, by)?;
        match Message::read(&bytes)? {
            Message::Hello { version: VERSION, pid, generation, guards } => hello = Some((pid, generation, guards)),
            Message::Hello { version, .. } => {
                return Err(io::Error::other(format!("it speaks version {version}, this release {VERSION}")));
            }
            Message::Elder { pid } => {
                let lines = descriptors.into_iter().filter_map(Passing::new);
                elders.extend(lines.map(|passing| Elder { pid, passing }));
            }
            Message::Listening { role, chosen } => {
                for socket in descriptors {
                    inherited.add(socket, chosen.then(|| role.clone()))?;
                }
            }
            Message::Lasting => lasting = true,
            Message::All => {
                let (pid, generation, guards) = hello.ok_or_else(|| io::Error::other("it did not say hello"))?;
                return Ok(Received { pid, generation, guards, elders, lasting });
            }
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

    fn told(messages: &[&[u8]]) -> (io::Result<Received>, Inherited) {
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
        let hello = |version| Message::Hello { version, pid: 7, generation: 0, guards: Guards::default() }.bytes();
        let (hello, other) = (hello(VERSION), hello(99));
        let listening = Message::Listening { role: "rtmp".to_owned(), chosen: true }.bytes();
        let all = Message::All.bytes();
        let (received, inherited) = told(&[&hello, &listening, br#"{"more":{}}"#, &listening, &all]);
        let received = received.expect("complete");
        assert_eq!((received.pid, received.lasting), (7, false));
        assert!(told(&[&hello, &Message::Lasting.bytes(), &all]).0.expect("complete").lasting);
        assert_eq!(inherited.left().len(), 1, "two of one address");
        let fault = |messages: &[&[u8]]| told(messages).0.expect_err("incomplete").to_string();
        assert_eq!(fault(&[&hello, &listening]), "it has ended");
        assert_eq!(fault(&[&all]), "it did not say hello");
        assert!(fault(&[&other]).contains("version 99"));
        assert!(fault(&[b"junk"]).contains("a message of the hand-over"));
    }
}
