//! What sound peers see.

use super::*;

#[test]
fn connect_is_answered_with_window_bandwidth_chunk_size_and_success() {
    let mut peer = Peer::shaken_hands();
    let connect = object(&[
        ("app", text("live?token=a")),
        ("tcUrl", text("rtmp://host/live?token=a")),
        ("flashVer", text("FMLE/3.0")),
        ("objectEncoding", Value::Number(3.0)),
        ("capsEx", Value::Number(3.0)),
        ("audioFourCcInfoMap", object(&[("Opus", Value::Number(5.0))])),
    ]);
    assert_eq!(peer.command(0, &[text("connect"), Value::Number(1.0), connect]), Ok(None));
    let said = peer.said();
    let window = ACK_WINDOW_BYTES_DEFAULT.to_be_bytes().to_vec();
    assert_eq!(said[0], Said::Control(5, window.clone()));
    assert_eq!(said[1], Said::Control(6, [window, vec![2]].concat()));
    assert_eq!(peer.reader.chunk_bytes(), CHUNK_BYTES);
    let Said::Command(0, values) = &said[2] else { panic!("{said:?}") };
    assert_eq!(values[..2], [text("_result"), Value::Number(1.0)]);
    assert_eq!(values[2].get("capabilities"), Some(&Value::Number(31.0)));
    assert_eq!(values[3].get("code"), Some(&text("NetConnection.Connect.Success")));
    assert_eq!(values[3].get("objectEncoding"), Some(&Value::Number(3.0)));
    assert_eq!(values[3].get("fourCcList"), Some(&Value::StrictArray(vec![text("*")])));
    assert_eq!(values[3].get("videoFourCcInfoMap"), Some(&object(&[("*", Value::Number(4.0))])));
    assert_eq!(values[3].get("audioFourCcInfoMap"), Some(&object(&[("*", Value::Number(4.0))])));
    let offered = Capabilities::of_relay();
    assert_eq!(values[3].get("capsEx"), Some(&Value::Number(offered.caps_ex.into())));
    assert_eq!(values[3].get("videoFunction"), Some(&Value::Number(14.0)));
    assert_eq!(offered.caps_ex, 15, "Reconnect, Multitrack, ModEx, nanosecond offsets");
    assert_eq!(said.len(), 3);
    let session = &peer.session;
    assert_eq!((session.app(), session.tc_url()), ("live?token=a", "rtmp://host/live?token=a"));
    assert_eq!(session.caps_ex(), 3);
    assert!(session.takes_multitrack());
    let codecs = session.capabilities().expect("it said something").audio;
    assert_eq!((codecs[0].0.as_str(), codecs[0].1), ("Opus", 5));
}

#[test]
fn ffmpeg_is_acknowledged_only_once_it_announces_a_window() {
    let mut peer = Peer::shaken_hands();
    let flash_version = ("flashVer", text("FMLE/3.0 (compatible; Lavf62.3.100)"));
    let connect = object(&[("app", text("live")), ("tcUrl", text("rtmp://host/live")), flash_version]);
    assert_eq!(peer.command(0, &[text("connect"), Value::Number(1.0), connect]), Ok(None));
    assert_eq!(peer.call("createStream", 2.0, &[]), Ok(None));
    assert_eq!(peer.publish(1, "show"), Ok(Some(publish_event(1, "live/show"))));
    peer.session.accept_publish(1);
    peer.said();
    let frame = vec![0; 2 * ACK_WINDOW_BYTES_DEFAULT as usize];
    peer.message(1, 9, &frame).unwrap();
    assert_eq!(peer.said(), []);
    assert_eq!(peer.message(0, 5, &ACK_WINDOW_BYTES_DEFAULT.to_be_bytes()), Ok(None));
    peer.said();
    peer.message(1, 9, &frame).unwrap();
    assert!(matches!(peer.said()[..], [Said::Control(3, _)]));
}

#[test]
fn a_reconnect_request_is_a_status_of_the_connection() {
    let mut peer = Peer::shaken_hands();
    let connect = object(&[("app", text("live")), ("tcUrl", text("rtmp://host/live")), ("capsEx", Value::Number(1.0))]);
    assert_eq!(peer.command(0, &[text("connect"), Value::Number(1.0), connect]), Ok(None));
    peer.said();
    assert!(peer.session.request_reconnect(Some("rtmp://b/live"), "moving"));
    let info = object(&[
        ("level", text("status")),
        ("code", text("NetConnection.Connect.ReconnectRequest")),
        ("tcUrl", text("rtmp://b/live")),
        ("description", text("moving")),
    ]);
    assert_eq!(peer.said(), [Said::Command(0, vec![text("onStatus"), Value::Number(0.0), Value::Null, info])]);
}

#[test]
fn who_did_not_announce_it_is_not_asked_to_reconnect() {
    let mut peer = Peer::connected();
    assert!(!peer.session.request_reconnect(None, "moving"));
    assert_eq!(peer.said(), []);
}

#[test]
fn a_client_without_enhanced_rtmp_gets_a_plain_reply() {
    let mut peer = Peer::shaken_hands();
    let connect = object(&[("app", text("live")), ("tcUrl", text("rtmp://host/live"))]);
    assert_eq!(peer.command(0, &[text("connect"), Value::Number(1.0), connect]), Ok(None));
    let said = peer.said();
    let Said::Command(0, values) = &said[2] else { panic!("{said:?}") };
    assert_eq!(values[3].get("objectEncoding"), Some(&Value::Number(0.0)));
    for key in ["fourCcList", "capsEx", "videoFunction", "videoFourCcInfoMap"] {
        assert_eq!(values[3].get(key), None);
    }
    assert!(peer.session.capabilities().is_none() && !peer.session.takes_multitrack());
}

#[test]
fn a_publisher_is_answered_and_its_media_delivered() {
    let mut peer = Peer::with_stream();
    for (name, transaction) in [("releaseStream", 3.0), ("FCPublish", 4.0)] {
        assert_eq!(peer.call(name, transaction, &[text("show")]), Ok(None));
        assert_eq!(peer.said(), [result(transaction, Value::Null)]);
    }
    let event = peer.publish(1, "show?token=s&x=1").unwrap().unwrap();
    let expected = ServerEvent::Publish { stream: 1, key: key("live/show"), query: "token=s&x=1".into() };
    assert_eq!(event, format!("{expected:?}"));
    assert_eq!(peer.said(), []);
    peer.session.accept_publish(1);
    let said = peer.said();
    assert!(matches!(&said[0], Said::Command(1, values) if values[0] == text("onFCPublish")), "{said:?}");
    assert!(matches!(&said[1], Said::Command(1, values)
        if values[0] == text("onStatus") && values[3].get("code") == Some(&text("NetStream.Publish.Start"))));
    assert_eq!(peer.message(1, 8, b"\xAF\x01a"), media(1, Kind::Audio, b"\xAF\x01a"));
    assert_eq!(peer.message(1, 8, b""), media(1, Kind::Audio, b""));
    let frame = vec![3; 100_000];
    assert_eq!(peer.message(1, 9, &frame), media(1, Kind::Video, &frame));
    assert_eq!(peer.message(1, 18, b"\x02\x00\x01d"), media(1, Kind::Data, b"\x02\x00\x01d"));
    assert_eq!(peer.message(1, 15, b"\0\x02\x00\x01d"), media(1, Kind::Data, b"\x02\x00\x01d"));
    assert_eq!(peer.said(), []);
}

#[test]
fn an_amf3_publish_is_read_behind_its_leading_byte() {
    let mut peer = Peer::with_stream();
    let publish = body(&[text("publish"), Value::Number(0.0), Value::Null, text("show")]);
    assert_eq!(peer.message(1, 17, &[&[0], &publish[..]].concat()), Ok(Some(publish_event(1, "live/show"))));
}

#[test]
fn an_aggregate_is_delivered_part_by_part() {
    let mut peer = Peer::publishing();
    let tag = |kind: u8, time: u8, byte: u8| vec![kind, 0, 0, 1, 0, 0, time, 0, 0, 0, 0, byte, 0, 0, 0, 12];
    let mut aggregate = BytesMut::new();
    let header = Header { csid: 6, timestamp: 1_000, length: 0, type_id: 22, stream_id: 1 };
    peer.writer.write(header, &[tag(8, 5, 1), tag(22, 6, 2), tag(9, 7, 3)].concat(), &mut aggregate);
    let mut input = &aggregate[..];
    let mut events = Vec::new();
    while let Some(event) = peer.session.receive(&mut input, T0).unwrap() {
        events.push(format!("{event:?}"));
    }
    let part = |kind, timestamp, byte: u8| {
        format!("{:?}", ServerEvent::Media { stream: 1, kind, timestamp, payload: &[byte] })
    };
    assert_eq!(events, [part(Kind::Audio, 1_000, 1), part(Kind::Video, 1_002, 3)]);
    assert!(peer.session.stage.is_none());
}

#[test]
fn a_player_is_answered_in_the_order_players_expect() {
    let mut peer = Peer::with_stream();
    assert_eq!(peer.call("getStreamLength", 3.0, &[text("show")]), Ok(None));
    assert_eq!(peer.said(), [result(3.0, Value::Number(0.0))]);
    assert_eq!(peer.play(1, "show"), Ok(Some(play_event(1, "live/show"))));
    assert_eq!(peer.said(), []);
    peer.session.start_play(1);
    let said = peer.said();
    assert_eq!(said[0], Said::Control(4, vec![0, 0, 0, 0, 0, 1]));
    let code = |said: &Said| match said {
        Said::Command(1, values) => values[3].get("code").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    assert_eq!(code(&said[1]).as_deref(), Some("NetStream.Play.Reset"));
    assert_eq!(code(&said[2]).as_deref(), Some("NetStream.Play.Start"));
    assert!(matches!(&said[3], Said::Data(1, values) if values[0] == text("|RtmpSampleAccess")));
    assert!(matches!(&said[4], Said::Data(1, values) if values[1].get("code") == Some(&text("NetStream.Data.Start"))));
    assert_eq!(said.len(), 5);
}

#[test]
fn a_play_ends_so_that_players_notice_and_may_start_again() {
    let mut peer = Peer::playing();
    peer.session.end_play(1);
    let said = peer.said();
    assert!(matches!(&said[0], Said::Command(1, values)
        if values[3].get("code") == Some(&text("NetStream.Play.UnpublishNotify"))));
    assert_eq!(said[1], Said::Control(4, vec![0, 1, 0, 0, 0, 1]));
    assert!(matches!(&said[2], Said::Command(1, values)
        if values[3].get("code") == Some(&text("NetStream.Play.Stop"))));
    peer.session.start_play(1);
    assert_eq!(peer.codes(), codes(1, &["NetStream.Play.Reset", "NetStream.Play.Start"]));
}

#[test]
fn play2_names_its_stream_in_an_object() {
    let mut peer = Peer::with_stream();
    let parameters = object(&[("streamName", text("show")), ("transition", text("switch"))]);
    assert_eq!(peer.call_on(1, "play2", 0.0, &[parameters]), Ok(Some(play_event(1, "live/show"))));
}

#[test]
fn player_commands_become_events_while_it_plays() {
    let mut peer = Peer::playing();
    let event = |event: ServerEvent<'_>| Ok(Some(format!("{event:?}")));
    assert_eq!(
        peer.call_on(1, "receiveAudio", 0.0, &[Value::Boolean(false)]),
        event(ServerEvent::Receive { stream: 1, kind: Kind::Audio, on: false })
    );
    assert_eq!(peer.said(), [], "switching off is not answered");
    assert_eq!(peer.call_on(1, "receiveVideo", 0.0, &[Value::Boolean(true)]), Ok(None), "it does already");
    assert_eq!(peer.codes(), codes(1, &["NetStream.Seek.Notify", "NetStream.Play.Start"]));
    assert_eq!(
        peer.call_on(1, "receiveAudio", 0.0, &[Value::Boolean(true)]),
        event(ServerEvent::Receive { stream: 1, kind: Kind::Audio, on: true })
    );
    assert_eq!(peer.codes(), codes(1, &["NetStream.Seek.Notify", "NetStream.Play.Start"]));
    for (name, on, code) in [("pause", true, "NetStream.Pause.Notify"), ("pauseRaw", false, "NetStream.Unpause.Notify")]
    {
        let arguments = [Value::Boolean(on), Value::Number(9.0)];
        assert_eq!(peer.call_on(1, name, 0.0, &arguments), event(ServerEvent::Pause { stream: 1, on }));
        assert_eq!(peer.codes(), codes(1, &[code]));
    }
    assert_eq!(peer.call_on(1, "seek", 0.0, &[Value::Number(5.0)]), Ok(None));
    assert_eq!(peer.codes(), codes(1, &["NetStream.Seek.Notify"]));
    assert_eq!(peer.call_on(7, "pause", 0.0, &[Value::Boolean(true)]), Ok(None));
    assert_eq!(peer.said(), []);
}

#[test]
fn what_is_to_be_received_may_be_said_before_play_and_holds_until_the_stream_is_deleted() {
    let mut peer = Peer::with_stream();
    let wants = |peer: &Peer| (peer.session.receives(1, Kind::Audio), peer.session.receives(1, Kind::Video));
    let say = |peer: &mut Peer, name, on| peer.call_on(1, name, 0.0, &[Value::Boolean(on)]).unwrap();
    assert_eq!(wants(&peer), (true, true));
    for (name, on, after) in [
        ("receiveVideo", false, (true, false)),
        ("receiveAudio", false, (false, false)),
        ("receiveAudio", true, (true, false)),
    ] {
        assert_eq!(say(&mut peer, name, on), None);
        assert_eq!(wants(&peer), after);
    }
    peer.play(1, "show").unwrap();
    peer.session.start_play(1);
    assert_eq!(wants(&peer), (true, false));
    peer.call_on(1, "closeStream", 0.0, &[]).unwrap();
    assert_eq!(wants(&peer), (true, false));
    peer.call("deleteStream", 0.0, &[Value::Number(1.0)]).unwrap();
    assert_eq!(wants(&peer), (true, true));
    assert_eq!(say(&mut peer, "receiveVideo", false), None);
    assert_eq!(wants(&peer), (true, true), "there is no such stream");
    for stream in [0, 9, u32::MAX] {
        assert!(peer.session.receives(stream, Kind::Video) && peer.session.receives(stream, Kind::Data));
    }
}

#[test]
fn play2_switches_what_is_played() {
    let mut peer = Peer::playing();
    let to = object(&[("streamName", text("third")), ("transition", text("switch"))]);
    assert_eq!(peer.call_on(1, "play2", 0.0, &[to]), Ok(Some(play_event(1, "live/third"))));
    peer.session.start_play(1);
    assert_eq!(peer.codes(), codes(1, &["NetStream.Play.Reset", "NetStream.Play.Start"]));
    // A name that cannot be changes nothing.
    let to = object(&[("streamName", text("../x"))]);
    assert!(peer.call_on(1, "play2", 0.0, &[to]).unwrap().is_some_and(|event| event.contains("BadName")));
    assert_eq!(peer.codes(), codes(1, &["NetStream.Play.StreamNotFound"]));
    let ended = format!("{:?}", ServerEvent::Ended { stream: 1 });
    assert_eq!(peer.call_on(1, "play", 0.0, &[Value::Boolean(false)]), Ok(Some(ended)));
    assert_eq!(peer.call_on(1, "play", 0.0, &[Value::Boolean(false)]), Ok(None));
}

#[test]
fn flash_is_told_that_its_bandwidth_was_not_measured() {
    let mut peer = Peer::connected();
    assert_eq!(peer.call("checkBandwidth", 4.0, &[]), Ok(None));
    let done = Said::Command(0, vec![text("onBWDone"), Value::Number(0.0), Value::Null]);
    assert_eq!(peer.said(), [result(4.0, Value::Null), done]);
    assert_eq!(peer.call("initStream", 5.0, &[]), Ok(None));
    assert_eq!(peer.said(), [result(5.0, Value::Null)]);
    assert_eq!(peer.call("FCUnsubscribe", 0.0, &[text("show")]), Ok(None));
    assert_eq!(peer.codes(), codes(0, &["NetStream.Play.Stop"]));
}

#[test]
fn every_way_to_end_a_publish_ends_it_once() {
    let ended = Ok(Some(format!("{:?}", ServerEvent::Ended { stream: 1 })));
    let ways: [(u32, &str, Vec<Value>); 4] = [
        (1, "publish", vec![Value::Boolean(false)]),
        (0, "FCUnpublish", vec![text("show?token=s")]),
        (1, "closeStream", vec![]),
        (0, "deleteStream", vec![Value::Number(1.0)]),
    ];
    for (stream, name, arguments) in ways {
        let mut peer = Peer::publishing();
        for others in [vec![text("other")], vec![text("../show")], vec![Value::Null], vec![]] {
            assert_eq!(peer.call("FCUnpublish", 0.0, &others), Ok(None));
        }
        assert_eq!(peer.call_on(stream, name, 0.0, &arguments), ended, "{name}");
        assert_eq!(peer.codes(), codes(1, &["NetStream.Unpublish.Success"; 2]));
        assert_eq!(peer.message(1, 8, b"late"), Ok(None));
        assert_eq!(peer.call("deleteStream", 0.0, &[Value::Number(1.0)]), Ok(None));
        assert_eq!(peer.said(), []);
    }
}

#[test]
fn a_publish_the_server_ends_leaves_the_stream_idle() {
    let mut peer = Peer::publishing();
    peer.session.end_publish(1, "replaced");
    assert_eq!(peer.codes(), codes(1, &["NetStream.Unpublish.Success"; 2]));
    assert_eq!(peer.message(1, 8, b"late"), Ok(None));
    assert_eq!(peer.publish(1, "show"), Ok(Some(publish_event(1, "live/show"))));
}

#[test]
fn unknown_commands_are_answered_if_they_ask_for_it() {
    let mut peer = Peer::connected();
    assert_eq!(peer.call("_checkbw", 4.0, &[]), Ok(None));
    assert_eq!(peer.said(), [result(4.0, Value::Null)]);
    assert_eq!(peer.call("setPeerInfo", 0.0, &[]), Ok(None));
    assert_eq!(peer.call("_result", 9.0, &[]), Ok(None));
    assert_eq!(peer.said(), []);
    assert_eq!(peer.call("whatever", 9.0, &[]), Ok(None));
    assert_eq!(peer.codes(), codes(0, &["NetConnection.Call.Failed"]));
    assert_eq!(peer.call("FCSubscribe", 0.0, &[text("show")]), Ok(None));
    assert_eq!(peer.codes(), codes(0, &["NetStream.Play.Start"]));
}

#[test]
fn an_idle_player_is_small() {
    let peer = Peer::playing();
    assert!(size_of::<ServerSession>() <= 192, "{}", size_of::<ServerSession>());
    assert!(!peer.session.connection.outbox.holds_memory());
    assert_eq!(peer.session.reader.in_flight_bytes(), 0);
    assert!(peer.session.stage.is_none());
}
