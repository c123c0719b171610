//! What AMF0 and AMF3 share: a bounded way through a message body, and what can be wrong with one.
//!
//! Whatever is read is charged to three bounds: values and names ([`AMF_ITEMS_MAX`]), bytes ([`AMF_BYTES_MAX`]), and text
//! made of them, which AMF3 may repeat by reference (as many bytes again). Announced counts are never allocated for.

use std::{borrow::Cow, ops::Range};

use crate::limits::{AMF_BYTES_MAX, AMF_DEPTH_MAX, AMF_ITEMS_MAX};

/// What is wrong with an AMF body; `at` is the byte offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    #[error("AMF ends at byte {at}, inside a value: the message is cut short or its length is wrong")]
    Truncated { at: usize },
    #[error("AMF marker {marker:#04x} at byte {at} is not one this server reads (AMF0 references are not)")]
    Marker { marker: u8, at: usize },
    #[error("AMF text at byte {at} is not UTF-8")]
    Utf8 { at: usize },
    #[error("AMF values nest deeper than {AMF_DEPTH_MAX} at byte {at}")]
    Depth { at: usize },
    #[error("AMF message has more than {AMF_ITEMS_MAX} values, counted up to byte {at}")]
    Items { at: usize },
    #[error("AMF message goes on at byte {at}, at most {AMF_BYTES_MAX} bytes are parsed")]
    Bytes { at: usize },
    #[error("AMF3 reference before byte {at} is to something that has not been read")]
    Reference { at: usize },
    #[error("AMF3 object before byte {at} is externalizable: only its own class knows how long it is")]
    Externalizable { at: usize },
}

/// A message body and how far it was read.
#[derive(Clone, Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
    text_bytes: usize,
    lossy: bool,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, items: 0, text_bytes: 0, lossy: false }
    }

    /// Text that is not UTF-8 is read with replacement characters (U+FFFD) instead of refused.
    pub(super) fn forgive_text(&mut self) {
        self.lossy = true;
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Charges a value or a name.
    pub(super) fn item(&mut self) -> Result<(), AmfError> {
        self.items += 1;
        if self.items > AMF_ITEMS_MAX { Err(AmfError::Items { at: self.at }) } else { Ok(()) }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let span = self.skip(N)?;
        let bytes = self.bytes.get(span).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or(AmfError::Truncated { at: self.at })
    }

    /// Passes over `count` bytes; where they are.
    pub(super) fn skip(&mut self, count: usize) -> Result<Range<usize>, AmfError> {
        let left = self.rest().len();
        if count > AMF_BYTES_MAX.saturating_sub(self.at) && count <= left {
            return Err(AmfError::Bytes { at: self.at });
        }
        if count > left {
            return Err(AmfError::Truncated { at: self.at });
        }
        let start = self.at;
        self.at += count;
        Ok(start..self.at)
    }

    /// The next byte, if it is `byte`, is passed over.
    pub(super) fn skip_if(&mut self, byte: u8) -> bool {
        let is_it = self.rest().first() == Some(&byte);
        self.at += usize::from(is_it);
        is_it
    }

    /// The next `length` bytes as text.
    pub(super) fn text(&mut self, length: usize) -> Result<String, AmfError> {
        let span = self.skip(length)?;
        self.text_at(&span)
    }

    /// The bytes of `span`, which were passed over, as text.
    pub(super) fn text_at(&mut self, span: &Range<usize>) -> Result<String, AmfError> {
        self.text_bytes += span.len();
        if self.text_bytes > AMF_BYTES_MAX {
            return Err(AmfError::Bytes { at: self.at });
        }
        match String::from_utf8_lossy(self.bytes.get(span.clone()).unwrap_or_default()) {
            Cow::Borrowed(text) => Ok(text.to_owned()),
            Cow::Owned(text) if self.lossy => Ok(text),
            Cow::Owned(_) => Err(AmfError::Utf8 { at: span.start }),
        }
    }
}
