//! The head of a request to the admin listener, looked at as it comes in, before the HTTP library reads it.
//!
//! The library takes heads that others would take for something else: lines that end with a bare LF, and two lengths, by
//! Content-Length and by Transfer-Encoding. Such a head, or one of more than [`ADMIN_HEAD_BYTES_MAX`] bytes, is spoiled: a
//! byte that may not stand there makes the library answer 400. Each byte is looked at once.

use crate::limits::ADMIN_HEAD_BYTES_MAX;

/// The longest name of interest.
const NAME_BYTES: usize = b"transfer-encoding".len();

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: usize,
    /// Of the current line, without its end, and its beginning in small letters.
    line_bytes: usize,
    name: [u8; NAME_BYTES],
    /// The last byte was a CR.
    cr: bool,
    has_length: bool,
    has_coding: bool,
    /// A line that is not empty came: the library skips however many empty ones before it.
    begun: bool,
    /// The empty line came, or it is spoiled.
    done: bool,
}

impl Head {
    /// It is whole.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The next bytes that came. What is wrong with them becomes a NUL.
    pub(super) fn check(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.done {
                return;
            }
            if !self.takes(*byte) {
                *byte = 0;
                self.done = true;
            }
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.bytes += 1;
        let after_cr = std::mem::replace(&mut self.cr, byte == b'\r');
        match byte {
            b'\n' if !after_cr => return false,
            b'\n' => {
                self.done = self.line_bytes == 0 && self.begun;
                self.begun |= self.line_bytes > 0;
                self.line_bytes = 0;
            }
            b'\r' => {}
            b':' => {
                match self.name.get(..self.line_bytes) {
                    Some(b"content-length") => self.has_length = true,
                    Some(b"transfer-encoding") => self.has_coding = true,
                    _ => {}
                }
                self.line_bytes += 1;
            }
            byte => {
                if let Some(place) = self.name.get_mut(self.line_bytes) {
                    *place = byte.to_ascii_lowercase();
                }
                self.line_bytes += 1;
            }
        }
        self.bytes <= ADMIN_HEAD_BYTES_MAX && !(self.has_length && self.has_coding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a head that comes in pieces of `piece` bytes.
    fn spoiled(head: &str, piece: usize) -> bool {
        let mut checked = Head::default();
        let mut bytes = head.as_bytes().to_vec();
        bytes.chunks_mut(piece).for_each(|piece| checked.check(piece));
        bytes != head.as_bytes()
    }

    #[track_caller]
    fn assert_spoiled(head: &str, expected: bool) {
        for piece in 1..=head.len() {
            assert_eq!(spoiled(head, piece), expected, "in pieces of {piece}: {head:?}");
        }
    }

    #[test]
    fn an_ordinary_head_stays_as_it_is() {
        assert_spoiled("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false);
        assert_spoiled("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false);
        assert_spoiled("POST /x?a:b HTTP/1.1\r\nContent-Length: 3\r\nHost: [::1]:80\r\n\r\na\nb", false);
        assert_spoiled("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", false);
    }

    #[test]
    fn bare_line_ends_spoil_it() {
        assert_spoiled("GET / HTTP/1.1\nHost: a\r\n\r\n", true);
        assert_spoiled("GET / HTTP/1.1\r\nHost: a\n\r\n", true);
        assert_spoiled("GET / HTTP/1.1\r\nHost: a\r\n\n", true);
        assert_spoiled("\r\n\r\nGET / HTTP/1.1\nHost: a\r\n\r\n", true);
    }

    #[test]
    fn two_lengths_spoil_it() {
        let (length, coding) = ("CONTENT-length: 3\r\n", "Transfer-Encoding: chunked\r\n");
        for (first, second) in [(length, coding), (coding, length)] {
            assert_spoiled(&format!("POST / HTTP/1.1\r\n{first}X: y\r\n{second}\r\n"), true);
        }
        assert_spoiled("GET / HTTP/1.1\r\nX-Content-Length: 3\r\nTransfer-Encodings: chunked\r\n\r\n", false);
    }

    #[test]
    fn its_length_is_bounded() {
        let head = |bytes: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(bytes));
        let least = head(0).len();
        assert!(!spoiled(&head(ADMIN_HEAD_BYTES_MAX - least), 1_000));
        assert!(spoiled(&head(ADMIN_HEAD_BYTES_MAX - least + 1), 1_000));
    }
}
