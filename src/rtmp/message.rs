//! RTMP messages: their types and headers, as the chunk layer delivers them (RTMP 1.0, sections 5.4, 6 and 7.1).

/// Message type ids (RTMP 1.0, 5.4 and 7.1).
pub mod type_id {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const SHARED_OBJECT_AMF3: u8 = 16;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const SHARED_OBJECT_AMF0: u8 = 19;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;

    /// Audio, video, data, or several of them.
    pub const fn is_media(type_id: u8) -> bool {
        matches!(type_id, AUDIO | VIDEO | DATA_AMF3 | DATA_AMF0 | AGGREGATE)
    }
}

/// Chunk stream ids the program writes on. Media csids follow from the message stream id ([`media_csid`]).
pub mod csid {
    /// Protocol control (RTMP 1.0, 5.4).
    pub const CONTROL: u32 = 2;
    /// The session's own commands.
    pub const COMMAND: u32 = 3;
}

/// What a message carries for a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Audio,
    Video,
    Data,
}

impl Kind {
    /// The message type this kind is written as.
    pub const fn type_id(self) -> u8 {
        match self {
            Kind::Audio => type_id::AUDIO,
            Kind::Video => type_id::VIDEO,
            Kind::Data => type_id::DATA_AMF0,
        }
    }
}

/// The csid media of `kind` is written on for message stream `stream_id`: 4, 5, 6 for stream 1, 7, 8, 9 for stream 2 and
/// so on, so no two message streams of a connection share one, nor do they meet the session's own 2 and 3.
pub const fn media_csid(kind: Kind, stream_id: u32) -> u32 {
    let base = 4 + 3 * stream_id.saturating_sub(1);
    match kind {
        Kind::Data => base,
        Kind::Audio => base + 1,
        Kind::Video => base + 2,
    }
}

/// A message's header, free of chunking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chunk stream it came, or goes, on.
    pub csid: u32,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// Payload bytes, at most 0xFFFFFF.
    pub length: u32,
    pub type_id: u8,
    /// Message stream id; 0 is the connection itself.
    pub stream_id: u32,
}

/// A whole message, its payload borrowed from the input or from the reader's assembly buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub header: Header,
    pub payload: &'a [u8],
}
