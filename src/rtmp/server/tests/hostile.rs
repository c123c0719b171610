//! Hostile inputs, by the rows of what is promised for them.

use super::*;

#[test]
fn what_is_not_rtmp_is_closed() {
    let cases: [(&[u8], HandshakeError); 3] = [
        (&[6, 0, 0, 0, 0, 0], HandshakeError::Version { version: 6 }),
        (&[0x16, 3, 1, 2, 0, 1], HandshakeError::Tls),
        (b"GET / HTTP/1.1\r\n", HandshakeError::Http),
    ];
    for (bytes, expected) in cases {
        let mut session = ServerSession::new(ServerConfig::new(CHUNK_BYTES), 7, T0);
        assert_eq!(session.receive(&mut &bytes[..], T0), Err(SessionError::Handshake(expected)));
    }
}

#[test]
fn silence_ends_at_one_total_deadline_each() {
    let check = |session: &ServerSession, after: Duration, error: SessionError| {
        assert_eq!(session.deadline(), Some(T0 + after));
        assert_eq!(session.timeout(T0 + after - Duration::from_millis(1)), Ok(()));
        assert_eq!(session.timeout(T0 + after), Err(error));
    };
    let mut session = ServerSession::new(ServerConfig::new(CHUNK_BYTES), 7, T0);
    for second in 0..5 {
        session.receive(&mut &[3][..], T0 + Duration::from_secs(second)).unwrap();
    }
    check(&session, HANDSHAKE_DEADLINE, SessionError::HandshakeTimeout);
    check(&Peer::shaken_hands().session, CONNECT_DEADLINE, SessionError::ConnectTimeout);
    check(&Peer::with_stream().session, REQUEST_DEADLINE, SessionError::RequestTimeout);
    assert_eq!(Peer::publishing().session.deadline(), None);
    assert_eq!(Peer::playing().session.deadline(), None);
}

#[test]
fn a_refused_or_ended_request_starts_the_deadline_again() {
    let mut peer = Peer::with_stream();
    peer.publish(1, "show").unwrap();
    assert_eq!(peer.session.deadline(), None);
    peer.session.refuse_publish(1, PublishRefusal::NameTaken, "taken");
    assert_eq!(peer.session.deadline(), Some(T0 + REQUEST_DEADLINE));
    let mut peer = Peer::playing();
    peer.call_on(1, "closeStream", 0.0, &[]).unwrap();
    assert_eq!(peer.session.deadline(), Some(T0 + REQUEST_DEADLINE));
}

#[test]
fn a_wrong_c2_is_tolerated() {
    let mut session = ServerSession::new(ServerConfig::new(CHUNK_BYTES), 7, T0);
    let mut bytes = BytesMut::new();
    ClientHandshake::new(8, false).start(0, &mut bytes);
    bytes.extend_from_slice(&[0xEE; 1_536]);
    assert_eq!(session.receive(&mut &bytes[..], T0), Ok(None));
    assert!(session.stage.is_none());
}

#[test]
fn bytes_before_connect_are_limited() {
    let mut peer = Peer::shaken_hands();
    let mut bytes = BytesMut::new();
    let header = Header { csid: 4, timestamp: 0, length: 0, type_id: 9, stream_id: 0 };
    peer.writer.write(header, &vec![0; PRE_CONNECT_BYTES_MAX as usize + 1], &mut bytes);
    let mut result = Ok(None);
    let mut sent = 0;
    for piece in bytes.chunks(1_000) {
        result = peer.receive(piece);
        sent += piece.len() as u64;
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(SessionError::PreConnectBytes { bytes: sent }));
    assert!(sent <= PRE_CONNECT_BYTES_MAX + 1_000);
}

#[test]
fn control_messages_too_short_for_their_fields_are_closed() {
    for type_id in [3, 4, 5, 6] {
        for length in 0..4 {
            let error = SessionError::ControlLength { type_id, csid: 2, length };
            assert_eq!(Peer::connected().message(0, type_id, &[0; 3][..length]), Err(error));
        }
    }
    for type_id in [1, 2] {
        let error = Peer::connected().message(0, type_id, &[0; 3]).unwrap_err();
        assert!(matches!(error, SessionError::Chunk(ChunkError::ControlLength { .. })), "{error}");
    }
    let ping = Peer::connected().message(0, 4, &[0, 6, 0, 0, 0]);
    assert_eq!(ping, Err(SessionError::ControlLength { type_id: 4, csid: 2, length: 5 }));
}

#[test]
fn a_zero_filled_stream_and_unknown_types_are_closed() {
    let mut peer = Peer::connected();
    let error = peer.session.receive(&mut &[0; 4_096][..], T0).unwrap_err();
    assert_eq!(error, SessionError::UnknownMessages { type_id: 0, csid: 64 });
    let mut peer = Peer::connected();
    for type_id in [0, 7] {
        assert_eq!(peer.message(0, type_id, b"junk"), Ok(None));
    }
    assert!(matches!(peer.message(0, 200, b"junk"), Err(SessionError::UnknownMessages { type_id: 200, .. })));
    let mut peer = Peer::connected();
    for _ in 0..100 {
        assert_eq!(peer.message(0, type_id::SHARED_OBJECT_AMF0, b"x"), Ok(None));
    }
}

#[test]
fn a_tiny_acknowledgement_window_costs_one_reply_a_turn_at_most() {
    for window in [0u32, 1] {
        let mut peer = Peer::publishing();
        assert_eq!(peer.message(0, 5, &window.to_be_bytes()), Ok(None));
        assert_eq!(peer.message(1, 9, &[0; 1_000]), media(1, Kind::Video, &[0; 1_000]));
        assert_eq!(peer.said(), []);
        let mut bytes = BytesMut::new();
        for _ in 0..40 {
            let header = Header { csid: 9, timestamp: 0, length: 0, type_id: 8, stream_id: 5 };
            peer.writer.write(header, &[0; ACK_WINDOW_BYTES_MIN as usize / 4], &mut bytes);
        }
        assert_eq!(peer.receive(&bytes), Ok(None));
        let said = peer.said();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(matches!(said[0], Said::Control(3, _)));
    }
}

#[test]
fn bytes_are_acknowledged_though_no_window_was_announced() {
    let mut peer = Peer::publishing();
    let frame = vec![0; 1_000_000];
    let mut acknowledged = Vec::new();
    for _ in 0..6 {
        peer.message(1, 9, &frame).unwrap();
        acknowledged.extend(peer.said().into_iter().map(|said| match said {
            Said::Control(3, value) => u32::from_be_bytes(value.try_into().unwrap()),
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(acknowledged.len(), 2);
    assert!(acknowledged[0] > ACK_WINDOW_BYTES_DEFAULT && acknowledged[1] > 2 * ACK_WINDOW_BYTES_DEFAULT);
}

#[test]
fn pings_are_answered_until_nobody_reads_the_answers() {
    let mut peer = Peer::connected();
    assert_eq!(peer.message(0, 4, &[0, 6, 1, 2, 3, 4]), Ok(None));
    assert_eq!(peer.said(), [Said::Control(4, vec![0, 7, 1, 2, 3, 4])]);
    let mut pings = 0;
    let error = loop {
        peer.now += Duration::from_millis(1);
        match peer.message(0, 4, &[0, 6, 0, 0, 0, 0]) {
            Ok(_) => pings += 1,
            Err(error) => break error,
        }
        assert!(pings < 100_000);
    };
    assert!(matches!(error, SessionError::ReplyBacklog { bytes } if bytes < REPLY_BYTES_MAX + 100), "{error}");
    assert!(pings > 1_000);
}

#[test]
fn more_commands_and_controls_than_a_client_sends_are_a_flood() {
    let mut peer = Peer::connected();
    let said = usize::from(crate::limits::ASIDES_PER_SECOND_MAX);
    for _ in 0..3 {
        peer.now += Duration::from_secs(1);
        (0..said).for_each(|_| assert_eq!(peer.message(0, type_id::WINDOW_ACK_SIZE, &[0, 1, 0, 0]), Ok(None)));
    }
    let error = peer.call("deleteStream", 0.0, &[Value::Number(9.0)]);
    assert_eq!(error, Err(SessionError::Flood { type_id: type_id::COMMAND_AMF0 }));
}

#[test]
fn buffer_lengths_of_any_size_and_unknown_events_are_ignored() {
    let mut peer = Peer::playing();
    for length in [0, u32::MAX] {
        let payload = [&[0, 3, 0, 0, 0, 1], &length.to_be_bytes()[..]].concat();
        assert_eq!(peer.message(0, 4, &payload), Ok(None));
    }
    assert_eq!(peer.message(0, 4, &[0xFF, 0xFF, 0, 0]), Ok(None));
    assert_eq!(peer.message(0, 3, &[0xFF; 4]), Ok(None));
    assert_eq!(peer.said(), []);
}

#[test]
fn overrunning_aggregates_are_bounded() {
    let mut peer = Peer::publishing();
    for _ in 0..STRAY_MEDIA_MESSAGES_MAX {
        assert_eq!(peer.message(1, 22, &[8, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1]), Ok(None));
    }
    let error = peer.message(1, 22, &[8, 0xFF]).unwrap_err();
    assert_eq!(error, SessionError::StrayMedia { stream: 1 });
}

fn connect_with(tail: &[u8]) -> Result<Option<String>, SessionError> {
    let mut payload = body(&[text("connect"), Value::Number(1.0)]);
    payload.extend_from_slice(tail);
    Peer::shaken_hands().message(0, 20, &payload)
}

#[test]
fn hostile_amf_is_closed_with_where_it_went_wrong() {
    let amf = |source| Err(SessionError::Amf { csid: 3, stream: 0, source });
    let nested = connect_with(&[3, 0, 1, b'a'].repeat(10_000));
    let at = 19 + AMF_DEPTH_MAX * 4 + 1;
    assert_eq!(nested, amf(AmfError::Depth { at }));
    assert_eq!(connect_with(&[10, 0xFF, 0xFF, 0xFF, 0xFF]), amf(AmfError::Truncated { at: 24 }));
    let endless = connect_with(&[&[3][..], &[0, 1, b'a', 5].repeat(AMF_ITEMS_MAX)].concat());
    assert!(matches!(endless, Err(SessionError::Amf { source: AmfError::Items { .. }, .. })), "{endless:?}");
    assert_eq!(connect_with(&[3, 0, 1, b'a', 7, 0, 0]), amf(AmfError::Marker { marker: 7, at: 23 }));
}

#[test]
fn a_command_cut_at_any_byte_is_refused_or_closed() {
    let whole = body(&[
        text("connect"),
        Value::Number(1.0),
        object(&[("app", text("live")), ("tcUrl", text("rtmp://host/live"))]),
    ]);
    for end in 0..whole.len() {
        match Peer::shaken_hands().message(0, 20, &whole[..end]) {
            Err(SessionError::Amf { source: AmfError::Truncated { .. }, .. }) => {}
            Ok(Some(event)) => assert!(event.starts_with("Refused"), "{event}"),
            other => panic!("{other:?} at {end}"),
        }
    }
}

#[test]
fn text_and_numbers_are_validated() {
    let mut peer = Peer::with_stream();
    let bad = [&body(&[text("publish"), Value::Number(f64::NAN), Value::Null])[..], &[2, 0, 1, 0xFF]].concat();
    let error = peer.message(1, 20, &bad).unwrap_err();
    assert!(matches!(error, SessionError::Amf { source: AmfError::Utf8 { .. }, .. }), "{error}");
    for transaction in [f64::NAN, f64::INFINITY, -4.0] {
        assert_eq!(peer.call("createStream", transaction, &[]), Ok(None));
        assert_eq!(peer.said(), []);
    }
    let flash_ver =
        b"\x03\x00\x03app\x02\x00\x01a\x00\x05tcUrl\x02\x00\x01t\x00\x08flashVer\x02\x00\x02\xB0\xA1\0\0\x09";
    assert_eq!(connect_with(flash_ver), Ok(None));
    let app = b"\x03\x00\x03app\x02\x00\x01\xB0\x00\x05tcUrl\x02\x00\x01t\0\0\x09";
    assert_eq!(connect_with(app), refused(0, Refused::Connect));
}

#[test]
fn missing_names_apps_and_urls_are_answered_with_an_error() {
    let mut peer = Peer::connected();
    assert_eq!(peer.command(0, &[Value::Null, Value::Number(3.0)]), Ok(None));
    assert_eq!(peer.codes(), codes(0, &["NetConnection.Call.Failed"]));
    let incomplete = [
        object(&[("app", text("live"))]),
        object(&[("tcUrl", text("rtmp://host/live"))]),
        object(&[("app", Value::Null), ("tcUrl", text("rtmp://host/live"))]),
        object(&[("app", text("a\0")), ("tcUrl", text("rtmp://host/live"))]),
        object(&[("app", text(&"a".repeat(5_000))), ("tcUrl", text("rtmp://host/live"))]),
        Value::Null,
    ];
    for object in incomplete {
        let mut peer = Peer::shaken_hands();
        for attempt in 1..=CONNECT_ATTEMPTS_MAX {
            let answer = peer.command(0, &[text("connect"), Value::Number(1.0), object.clone()]);
            assert_eq!(peer.codes(), codes(0, &["NetConnection.Connect.InvalidApp"]));
            if attempt < CONNECT_ATTEMPTS_MAX {
                assert_eq!(answer, refused(0, Refused::Connect));
            } else {
                assert_eq!(answer, Err(SessionError::ConnectRejected));
            }
        }
    }
}

#[test]
fn requests_before_connect_are_answered_with_an_error() {
    let mut peer = Peer::shaken_hands();
    let early = refused(1, Refused::BeforeConnect);
    assert_eq!(peer.publish(1, "show"), early);
    assert_eq!(peer.codes(), codes(1, &["NetStream.Publish.Denied"]));
    assert_eq!(peer.play(1, "show"), early);
    assert_eq!(peer.codes(), codes(1, &["NetStream.Play.Failed"]));
    assert_eq!(peer.call("createStream", 2.0, &[]), refused(0, Refused::BeforeConnect));
    assert_eq!(peer.codes(), codes(0, &["NetConnection.Call.Failed"]));
}

#[test]
fn a_second_connect_is_answered_with_an_error() {
    let mut peer = Peer::connected();
    let connect = object(&[("app", text("other")), ("tcUrl", text("rtmp://host/other"))]);
    let again = peer.command(0, &[text("connect"), Value::Number(1.0), connect]);
    assert_eq!(again, refused(0, Refused::Connect));
    assert_eq!(peer.codes(), codes(0, &["NetConnection.Connect.Rejected"]));
    assert_eq!(peer.session.app(), "live");
}

#[test]
fn a_second_request_on_a_stream_or_one_on_no_stream_is_answered_with_an_error() {
    for mut peer in [Peer::publishing(), Peer::playing()] {
        assert_eq!(peer.publish(1, "b"), refused(1, Refused::StreamBusy));
        assert_eq!(peer.codes(), codes(1, &["NetStream.Publish.Denied"]));
        assert_eq!(peer.play(1, "b"), refused(1, Refused::StreamBusy));
        assert_eq!(peer.codes(), codes(1, &["NetStream.Play.Failed"]));
        for stream in [0, 2, 9, u32::MAX] {
            assert_eq!(peer.publish(stream, "b"), refused(stream, Refused::NoSuchMessageStream));
            assert_eq!(peer.codes(), codes(stream, &["NetStream.Publish.Denied"]));
        }
    }
}

#[test]
fn message_streams_are_limited_and_their_ids_used_again() {
    let mut peer = Peer::connected();
    for id in 1..=MESSAGE_STREAMS_MAX {
        assert_eq!(peer.call("createStream", 2.0, &[]), Ok(None));
        assert_eq!(peer.said(), [result(2.0, Value::Number(id as f64))]);
    }
    for _ in 0..100 {
        assert_eq!(peer.call("createStream", 2.0, &[]), refused(0, Refused::MessageStreams));
        assert_eq!(peer.codes(), codes(0, &["NetConnection.Call.Failed"]));
    }
    assert_eq!(peer.call("deleteStream", 0.0, &[Value::Number(3.0)]), Ok(None));
    assert_eq!(peer.call("createStream", 2.0, &[]), Ok(None));
    assert_eq!(peer.said(), [result(2.0, Value::Number(3.0))]);
}

#[test]
fn deleting_an_unknown_stream_is_ignored() {
    let mut peer = Peer::publishing();
    for id in [0.0, -1.0, 2.0, 1e300, f64::NAN, f64::INFINITY] {
        assert_eq!(peer.call("deleteStream", 0.0, &[Value::Number(id)]), Ok(None));
    }
    assert_eq!(peer.call("deleteStream", 0.0, &[]), Ok(None));
    assert_eq!(peer.said(), []);
    assert_eq!(peer.message(1, 8, b"a"), media(1, Kind::Audio, b"a"));
}

#[test]
fn hostile_names_are_refused_and_the_stream_stays_usable() {
    let mut peer = Peer::with_stream();
    let names = [
        (String::new(), KeyError::Empty),
        ("x".repeat(65_536), KeyError::TooLong(65_536)),
        ("../x".to_owned(), KeyError::Segment),
        ("a\0b".to_owned(), KeyError::Character),
        ("a\r\nb".to_owned(), KeyError::Character),
    ];
    for (name, error) in names {
        assert_eq!(peer.publish(1, &name), refused(1, Refused::BadName(error)));
        assert_eq!(peer.codes(), codes(1, &["NetStream.Publish.BadName"]));
        assert_eq!(peer.play(1, &name), refused(1, Refused::BadName(error)));
        assert_eq!(peer.codes(), codes(1, &["NetStream.Play.StreamNotFound"]));
    }
    assert_eq!(peer.call_on(1, "publish", 0.0, &[Value::Null]), refused(1, Refused::BadName(KeyError::Empty)));
    peer.said();
    assert_eq!(peer.publish(1, "show"), Ok(Some(publish_event(1, "live/show"))));
}

#[test]
fn the_hosts_refusals_have_the_codes_clients_know() {
    let mut peer = Peer::with_stream();
    for (why, code) in
        [(PublishRefusal::NameTaken, "NetStream.Publish.BadName"), (PublishRefusal::Denied, "NetStream.Publish.Denied")]
    {
        assert_eq!(peer.publish(1, "show"), Ok(Some(publish_event(1, "live/show"))));
        peer.session.refuse_publish(1, why, "taken");
        assert_eq!(peer.codes(), codes(1, &[code]));
    }
    for (why, code) in
        [(PlayRefusal::NotFound, "NetStream.Play.StreamNotFound"), (PlayRefusal::Failed, "NetStream.Play.Failed")]
    {
        assert_eq!(peer.play(1, "show"), Ok(Some(play_event(1, "live/show"))));
        peer.session.refuse_play(1, why, "no");
        assert_eq!(peer.codes(), codes(1, &[code]));
    }
}

#[test]
fn a_play_that_was_let_wait_can_still_be_refused() {
    let mut peer = Peer::with_stream();
    assert_eq!(peer.play(1, "show"), Ok(Some(play_event(1, "live/show"))));
    peer.session.start_play(1);
    peer.codes();
    peer.session.refuse_play(1, PlayRefusal::NotFound, "nobody came");
    assert_eq!(peer.codes(), codes(1, &["NetStream.Play.StreamNotFound"]));
    assert_eq!(peer.play(1, "other"), Ok(Some(play_event(1, "live/other"))), "the stream is idle again");
}

#[test]
fn media_nobody_asked_for_is_dropped_then_closed() {
    let mut peer = Peer::with_stream();
    for _ in 0..STRAY_MEDIA_MESSAGES_MAX {
        assert_eq!(peer.message(1, 9, b"v"), Ok(None));
    }
    assert_eq!(peer.message(1, 9, b"v"), Err(SessionError::StrayMedia { stream: 1 }));
}

#[test]
fn decisions_nobody_waits_for_change_nothing() {
    let mut peer = Peer::with_stream();
    for stream in [0, 1, 2, u32::MAX] {
        peer.session.accept_publish(stream);
        peer.session.start_play(stream);
        peer.session.refuse_publish(stream, PublishRefusal::Denied, "");
        peer.session.refuse_play(stream, PlayRefusal::Failed, "");
        peer.session.end_play(stream);
        peer.session.end_publish(stream, "");
    }
    assert_eq!(peer.said(), []);
    assert_eq!(peer.message(1, 9, b"v"), Ok(None));
}
