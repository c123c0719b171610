//! Command messages (RTMP 1.0, 7.2): a name, a transaction id, and arguments read only as far as somebody asks.

use super::{
    amf0::{AmfError, Decoder, Value},
    message::{Message, type_id},
};

/// A command as a peer sent it.
#[derive(Debug)]
pub(super) struct Command<'a> {
    /// Empty if it was missing or not a string.
    pub(super) name: String,
    /// 0, which asks for no reply, if it was missing, negative or not a finite number.
    pub(super) transaction: f64,
    arguments: Decoder<'a>,
}

impl<'a> Command<'a> {
    /// Reads name and transaction of a message of type 20 or 17.
    pub(super) fn parse(message: &Message<'a>) -> Result<Self, AmfError> {
        let body = amf0_body(message);
        let mut arguments =
            if is_all_amf3(message.header.type_id, body) { Decoder::all_amf3(body) } else { Decoder::new(body) };
        let name = match arguments.next_value()? {
            Some(Value::String(name) | Value::LongString(name)) => name,
            _ => String::new(),
        };
        let transaction = arguments.next_value()?.and_then(|value| value.as_finite());
        if name == "connect" {
            arguments = arguments.legacy_text();
        }
        Ok(Self { name, transaction: transaction.filter(|id| *id >= 0.0).unwrap_or(0.0), arguments })
    }

    /// The next argument; `Undefined` if there are no more.
    pub(super) fn argument(&mut self) -> Result<Value, AmfError> {
        Ok(self.arguments.next_value()?.unwrap_or(Value::Undefined))
    }

    /// The argument behind the command object, which is skipped: where most commands have their first own one.
    pub(super) fn own_argument(&mut self) -> Result<Value, AmfError> {
        self.argument()?;
        self.argument()
    }
}

/// Whether a command is AMF3 from its name on. HaishinKit reads and writes type 17 so, as RTMP 1.0, 7.1.1 can be understood;
/// in AMF0 no name begins with AMF3's marker of a string.
fn is_all_amf3(type_id: u8, body: &[u8]) -> bool {
    const AMF3_STRING: u8 = 6;
    type_id == type_id::COMMAND_AMF3 && body.first() == Some(&AMF3_STRING)
}

/// The AMF0 part of a command or data message: types 17 and 15 put a zero byte before it, the only format there is (RTMP
/// errata and addenda, 6.2). A body without that byte is taken as it is: some encoders leave it out.
pub(super) fn amf0_body<'a>(message: &Message<'a>) -> &'a [u8] {
    match (message.header.type_id, message.payload) {
        (type_id::COMMAND_AMF3 | type_id::DATA_AMF3, [0, body @ ..]) => body,
        (_, body) => body,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::rtmp::{amf0::Encoder, message::Header};

    fn parse(type_id: u8, payload: &[u8]) -> Result<(String, f64, Value), AmfError> {
        let header = Header { csid: 3, timestamp: 0, length: payload.len() as u32, type_id, stream_id: 0 };
        let mut command = Command::parse(&Message { header, payload })?;
        let argument = command.argument()?;
        Ok((command.name, command.transaction, argument))
    }

    #[test]
    fn amf3_commands_are_amf0_behind_one_byte() {
        let mut body = BytesMut::new();
        Encoder::new(&mut body).string("play").number(4.0).null();
        let expected = Ok(("play".to_owned(), 4.0, Value::Null));
        assert_eq!(parse(type_id::COMMAND_AMF0, &body), expected);
        assert_eq!(parse(type_id::COMMAND_AMF3, &[&[0], &body[..]].concat()), expected);
        assert_eq!(parse(type_id::COMMAND_AMF3, &body), expected);
    }

    #[test]
    fn commands_may_hold_amf3_values_or_nothing_else() {
        let play = b"\x06\x09play";
        let number = b"\x04\x04";
        let expected = Ok(("play".to_owned(), 4.0, Value::String("play".into())));
        let mixed = [&b"\x02\0\x04play\x11"[..], number, b"\x11", play].concat();
        assert_eq!(parse(type_id::COMMAND_AMF0, &mixed), expected);
        assert_eq!(parse(type_id::COMMAND_AMF3, &[b"\0", &mixed[..]].concat()), expected);
        // The last string refers to the first.
        let all = [&play[..], number, b"\x06\0"].concat();
        assert_eq!(parse(type_id::COMMAND_AMF3, &all), expected);
        assert_eq!(parse(type_id::COMMAND_AMF3, &[b"\0", &all[..]].concat()), expected);
        assert_eq!(parse(type_id::COMMAND_AMF0, &all), Err(AmfError::Marker { marker: 9, at: 1 }));
    }

    #[test]
    fn odd_names_and_transactions_become_empty_and_zero() {
        for transaction in [f64::NAN, f64::INFINITY, -1.0] {
            let mut body = BytesMut::new();
            Encoder::new(&mut body).null().number(transaction);
            assert_eq!(parse(type_id::COMMAND_AMF0, &body), Ok((String::new(), 0.0, Value::Undefined)));
        }
        assert_eq!(parse(type_id::COMMAND_AMF0, &[]), Ok((String::new(), 0.0, Value::Undefined)));
    }

    #[test]
    fn arguments_nobody_asks_for_are_not_read() {
        let mut body = BytesMut::new();
        Encoder::new(&mut body).string("x").number(0.0).null();
        body.extend_from_slice(&[0xFF]);
        assert!(parse(type_id::COMMAND_AMF0, &body).is_ok());
    }
}
