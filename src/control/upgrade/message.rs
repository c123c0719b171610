//! What the two processes of an upgrade say to each other: JSON, one message in each packet, some with descriptors.
//!
//! Old to new: `hello`, an `elder` for each process before it that still serves, any number of `listening`, `lasting` if it is
//! so, `all`; then `yours` in answer to `ready`. New to old: `ready`, then any number of `connection`, and `drain` if it is asked
//! to. When the old one has ended, the one before it hears `succeeds` and is in its place. To all before it: `goodbye`, or `ends`
//! if it was replaced itself.
//!
//! What one of them does not know is passed over, so that later releases can say more; what they could not do without changes
//! [`VERSION`], and a program that does not know it ends with one line.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};

use super::guards::Guards;
use crate::{
    control::{args::Drain, course::Mode},
    limits::FLAG_SECONDS_MAX,
};

pub(super) const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Hello {
        version: u32,
        pid: u32,
        /// What is not known of it counts as the first.
        #[serde(default)]
        generation: u8,
        #[serde(default)]
        guards: Guards,
    },
    /// Comes with the line to a process that is still there, the nearest first.
    Elder { pid: u32 },
    /// Comes with sockets of one address. Several follow each other where there are more than one message takes.
    Listening {
        /// The flag it was for, without its dashes.
        role: String,
        /// The system chose the port.
        chosen: bool,
    },
    /// The service manager opened some of them: they are to listen beyond the new process's end.
    Lasting,
    /// There are no more sockets.
    All,
    /// The new process listens.
    Ready,
    /// The old one does no more.
    Yours,
    /// Comes with a connection, to be served as if it had been accepted.
    Connection,
    /// The new process has been told to leave service, and so is the old one.
    Drain { lb: bool, url: Option<String>, timeout_ms: u64, window_ms: u64, converge_ms: u64 },
    /// The newest process ends because it is to: what it has is nobody's.
    Goodbye,
    /// One that was replaced ends because it is to: it says nothing of the newest.
    Ends { pid: u32 },
    /// The process between the two has ended, and the one that says this serves on.
    Succeeds { pid: u32 },
    #[serde(other)]
    Unknown,
}

impl Message {
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What the old process is asked to do, if it is that.
    pub(super) fn drain(self) -> Option<Drain> {
        let Self::Drain { lb, url, timeout_ms, window_ms, converge_ms } = self else { return None };
        let time = |ms: u64| Duration::from_millis(ms).min(Duration::from_secs(FLAG_SECONDS_MAX));
        let (timeout, window, converge) = (time(timeout_ms), time(window_ms), time(converge_ms));
        Some(Drain { mode: if lb { Mode::Lb } else { Mode::Anycast }, url, timeout, window, converge })
    }

    pub(super) fn read(bytes: &[u8]) -> io::Result<Self> {
        // `other` takes words alone: what has parts is found by its form.
        let known = serde_json::from_slice::<Self>(bytes);
        known.or_else(|why| match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(serde_json::Value::Object(parts))
                if parts.keys().all(|name| {
                    !matches!(name.as_str(), "hello" | "elder" | "listening" | "drain" | "ends" | "succeeds")
                }) =>
            {
                Ok(Self::Unknown)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of the hand-over: {why}"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::predecessor::CONNECTION;

    #[test]
    fn every_message_is_read_as_it_was_written() {
        let listening = Message::Listening { role: "rtmp".to_owned(), chosen: true };
        let hello = Message::Hello { version: 1, pid: 7, generation: 3, guards: Guards { publish: true, play: false } };
        let url = Some("//b/live".to_owned());
        let drain = Message::Drain { lb: true, url, timeout_ms: 1, window_ms: 2, converge_ms: 3 };
        let (elder, succeeds) = (Message::Elder { pid: 7 }, Message::Succeeds { pid: 8 });
        let ends = Message::Ends { pid: 9 };
        let words = [Message::Lasting, Message::All, Message::Ready, Message::Yours, Message::Goodbye];
        for message in [hello, elder, listening, drain, ends, succeeds].into_iter().chain(words) {
            assert_eq!(Message::read(&message.bytes()).expect("ours"), message);
        }
        assert_eq!(Message::read(CONNECTION).expect("the shards'"), Message::Connection);
    }

    #[test]
    fn later_releases_may_say_more() {
        assert_eq!(Message::read(b"\"farewell\"").expect("a word"), Message::Unknown);
        assert_eq!(Message::read(br#"{"farewell":{"at":1}}"#).expect("a word with parts"), Message::Unknown);
        let hello = br#"{"hello":{"version":1,"pid":7,"mood":"good","guards":{"play":true,"mood":true}}}"#;
        let guards = Guards { publish: false, play: true };
        let read = Message::Hello { version: 1, pid: 7, generation: 0, guards };
        assert_eq!(Message::read(hello).expect("parts more"), read);
    }

    #[test]
    fn earlier_releases_said_less() {
        let hello = br#"{"hello":{"version":1,"pid":7}}"#;
        let read = Message::Hello { version: 1, pid: 7, generation: 0, guards: Guards::default() };
        assert_eq!(Message::read(hello).expect("parts less"), read);
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = Message::Listening { role: "rtmp".to_owned(), chosen: false }.bytes();
        for end in 0..whole.len() {
            assert!(Message::read(&whole[..end]).is_err(), "{end}");
        }
        assert!(Message::read(br#"{"hello":{"version":1}}"#).is_err());
        assert!(Message::read(b"\xff").is_err());
    }
}
