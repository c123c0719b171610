//! One direction's keys of a session, and the records they protect (RFC 8446, 5.2; RFC 5246, 6.2.3.3; RFC 7905).
//!
//! Two write with the same keys: rustls what TLS says by itself (alerts, new keys), and [`Tls::seal`](super::Tls::seal) what the
//! connection is sent, which rustls would copy, queue and allocate for. The number of a record, of which its nonce is made, is
//! counted here for both, so none is used twice whoever writes; both have to send in the order in which they wrote.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ring::aead::{Aad, Algorithm, LessSafeKey, NONCE_LEN, UnboundKey};
use rustls::{
    ContentType, Error, ProtocolVersion,
    crypto::cipher::{
        AeadKey, Iv, MessageEncrypter, Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload,
        make_tls12_aad, make_tls13_aad,
    },
};

/// Copied at a time. From 8 KiB on, glibc 2.36 has the CPU copy (`rep movsb`), which took five times as long on the virtual machines
/// that were measured.
const COPY_BYTES: usize = 2 * 1024;
/// Type, version and length.
const HEADER_BYTES: usize = 5;
/// Of the nonce of AES-GCM in TLS 1.2, what is sent with each record.
const EXPLICIT_NONCE_BYTES: usize = 8;

/// How a version and cipher shape a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Tls13,
    Tls12Gcm,
    Tls12ChaCha20,
}

/// See the file's head.
pub(super) struct Sealer {
    key: LessSafeKey,
    iv: Iv,
    form: Form,
    /// Records written.
    written: AtomicU64,
    /// How many the keys are good for.
    limit: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("form", &self.form).field("written", &self.written).finish_non_exhaustive()
    }
}

impl Sealer {
    /// `key` has the length that `algorithm` asks for.
    pub(super) fn new(algorithm: &'static Algorithm, key: &AeadKey, iv: Iv, form: Form, limit: u64) -> Self {
        let key = UnboundKey::new(algorithm, key.as_ref()).expect("rustls derives keys of the length it was told");
        Self { key: LessSafeKey::new(key), iv, form, written: AtomicU64::new(0), limit }
    }

    /// Whether other keys have to take over. The last record is left to rustls, which says so by it, or ends the session.
    pub(super) fn is_spent(&self) -> bool {
        self.written.load(Ordering::Relaxed).saturating_add(1) >= self.limit
    }

    /// Appends a record with `plain`, at most 16 KiB, to `out`.
    pub(super) fn seal(&self, kind: ContentType, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        // Nobody else gets this number, whatever the thread.
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let nonce = Nonce::new(&self.iv, number).0;
        let tag_bytes = self.key.algorithm().tag_len();
        let (explicit, hidden): (&[u8], &[u8]) = match self.form {
            Form::Tls13 => (&[], &[u8::from(kind)]),
            Form::Tls12Gcm => (&nonce[NONCE_LEN - EXPLICIT_NONCE_BYTES..], &[]),
            Form::Tls12ChaCha20 => (&[], &[]),
        };
        let body_bytes = explicit.len() + plain.len() + hidden.len() + tag_bytes;
        let shown = if self.form == Form::Tls13 { ContentType::ApplicationData } else { kind };
        out.reserve(HEADER_BYTES + body_bytes);
        out.push(shown.into());
        out.extend_from_slice(&u16::from(ProtocolVersion::TLSv1_2).to_be_bytes());
        out.extend_from_slice(&u16::try_from(body_bytes).map_err(|_| Error::EncryptError)?.to_be_bytes());
        out.extend_from_slice(explicit);
        let begin = out.len();
        plain.chunks(COPY_BYTES).for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(hidden);
        let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
        let secret = &mut out[begin..];
        let tag = match self.form {
            Form::Tls13 => self.key.seal_in_place_separate_tag(nonce, Aad::from(make_tls13_aad(body_bytes)), secret),
            Form::Tls12Gcm | Form::Tls12ChaCha20 => {
                let aad = make_tls12_aad(number, kind, ProtocolVersion::TLSv1_2, plain.len());
                self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), secret)
            }
        };
        out.extend_from_slice(tag.map_err(|_| Error::EncryptError)?.as_ref());
        Ok(())
    }
}

/// A [`Sealer`] for what rustls writes.
pub(super) struct Shared(pub(super) Arc<Sealer>);

impl MessageEncrypter for Shared {
    /// By the sealer's count, not by rustls'.
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, _: u64) -> Result<OutboundOpaqueMessage, Error> {
        let mut record = Vec::new();
        self.0.seal(message.typ, &message.payload.to_vec(), &mut record)?;
        let [kind, ..] = record[..] else { return Err(Error::EncryptError) };
        let body = PrefixedPayload::from(record.get(HEADER_BYTES..).unwrap_or_default());
        Ok(OutboundOpaqueMessage::new(kind.into(), ProtocolVersion::TLSv1_2, body))
    }

    fn encrypted_payload_len(&self, plain_bytes: usize) -> usize {
        let more = match self.0.form {
            Form::Tls13 => size_of::<u8>(),
            Form::Tls12Gcm => EXPLICIT_NONCE_BYTES,
            Form::Tls12ChaCha20 => 0,
        };
        plain_bytes + more + self.0.key.algorithm().tag_len()
    }
}
