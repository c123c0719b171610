//! What the two processes of an upgrade say to each other: JSON, one message in each packet, some with descriptors.
//!
//! Old to new: `hello`, any number of `listening`, `all`; then `yours` in answer to `ready`. New to old: `ready`, then any number
//! of `connection`. What neither knows is passed over, so that later releases can say more; what they could not do without
//! changes [`VERSION`], and a program that does not know it ends with one line.

use std::io;

use serde::{Deserialize, Serialize};

pub(super) const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Hello {
        version: u32,
        pid: u32,
    },
    /// Comes with sockets of one address. Several follow each other where there are more than one message takes.
    Listening {
        /// The flag it was for, without its dashes.
        role: String,
        /// The system chose the port.
        chosen: bool,
    },
    /// There are no more sockets.
    All,
    /// The new process listens.
    Ready,
    /// The old one does no more.
    Yours,
    /// Comes with a connection, to be served as if it had been accepted.
    Connection,
    #[serde(other)]
    Unknown,
}

impl Message {
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> io::Result<Self> {
        // `other` takes words alone: what has parts is found by its form.
        let known = serde_json::from_slice::<Self>(bytes);
        known.or_else(|why| match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(serde_json::Value::Object(parts))
                if parts.keys().all(|name| !matches!(name.as_str(), "hello" | "listening")) =>
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
        for message in [Message::Hello { version: 1, pid: 7 }, listening, Message::All, Message::Ready, Message::Yours]
        {
            assert_eq!(Message::read(&message.bytes()).expect("ours"), message);
        }
        assert_eq!(Message::read(CONNECTION).expect("the shards'"), Message::Connection);
    }

    #[test]
    fn later_releases_may_say_more() {
        assert_eq!(Message::read(b"\"goodbye\"").expect("a word"), Message::Unknown);
        assert_eq!(Message::read(br#"{"goodbye":{"at":1}}"#).expect("a word with parts"), Message::Unknown);
        let hello = br#"{"hello":{"version":1,"pid":7,"mood":"good"}}"#;
        assert_eq!(Message::read(hello).expect("a part more"), Message::Hello { version: 1, pid: 7 });
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
