//! A chunk stream's grammar, written apart from the code under test and without its leniences: a message must be finished
//! before another begins on its csid, and every message of a log begins with a full header (RTMP 1.0, 5.3.1).

use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct ChunkStream {
    length: usize,
    /// Payload bytes still to come of the message that has begun.
    left: usize,
    extended: bool,
    type_id: u8,
}

pub(crate) struct Grammar {
    chunk_bytes: usize,
    streams: BTreeMap<u32, ChunkStream>,
    /// What has come of a header, or of a Set Chunk Size message.
    pending: Vec<u8>,
    /// The csid of the chunk whose payload comes, and how much of it is left.
    open: Option<(u32, usize)>,
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

impl Grammar {
    pub(crate) fn new() -> Self {
        Self { chunk_bytes: 128, streams: BTreeMap::new(), pending: Vec::new(), open: None }
    }

    /// Takes in what comes; what is wrong with it, if anything is.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.open {
                Some((csid, left)) => {
                    let taken = left.min(bytes.len());
                    self.payload(csid, left, &bytes[..taken]);
                    bytes = &bytes[taken..];
                }
                None => {
                    self.pending.push(bytes[0]);
                    bytes = &bytes[1..];
                    self.header()?;
                }
            }
        }
        Ok(())
    }

    fn payload(&mut self, csid: u32, left: usize, bytes: &[u8]) {
        let stream = self.streams.get_mut(&csid).expect("its chunk is open");
        stream.left -= bytes.len();
        if stream.type_id == 1 {
            self.pending.extend_from_slice(bytes);
            if stream.left == 0 {
                self.chunk_bytes = number(&self.pending);
                self.pending.clear();
            }
        }
        self.open = Some((csid, left - bytes.len())).filter(|(_, left)| *left > 0);
    }

    /// Reads the header in `pending`, once it is whole.
    fn header(&mut self) -> Result<(), String> {
        let (fmt, csid) = (self.pending[0] >> 6, u32::from(self.pending[0] & 63));
        if csid < 2 {
            return Err(format!("a long basic header, {csid}: the server needs none"));
        }
        let fields = [11, 7, 3, 0][usize::from(fmt)];
        let stream = self.streams.entry(csid).or_default();
        if self.pending.len() < 1 + fields {
            return Ok(());
        }
        let has_time = fields >= 3;
        let extended = if has_time { number(&self.pending[1..4]) == 0xFF_FFFF } else { stream.extended };
        if self.pending.len() < 1 + fields + if extended { 4 } else { 0 } {
            return Ok(());
        }
        if fmt < 3 && stream.left > 0 {
            return Err(format!("a message begins on csid {csid} while {} bytes of another are missing", stream.left));
        }
        if fmt > 0 && csid > 3 && stream.left == 0 {
            return Err(format!("a message of a log begins with fmt {fmt} on csid {csid}"));
        }
        stream.extended = extended;
        if fields >= 7 {
            stream.length = number(&self.pending[4..7]);
            stream.type_id = self.pending[7];
        }
        if stream.left == 0 {
            stream.left = stream.length;
        }
        let chunk = stream.left.min(self.chunk_bytes);
        self.pending.clear();
        self.open = Some((csid, chunk)).filter(|(_, left)| *left > 0);
        Ok(())
    }
}
