//! The chunk stream (RTMP 1.0, section 5.3): [`reader`] turns bytes into messages, [`writer`] messages into bytes,
//! [`header`] holds the layout both share.

mod carry;
mod error;
pub mod header;
pub mod reader;
pub mod writer;

pub use error::ChunkError;
pub use reader::{ChunkReader, Delivered};
pub use writer::ChunkWriter;
pub(super) use writer::write_standing_alone;
