//! AMF and the commands it carries.

use crate::{
    common::{
        amf,
        rtmp::{AUDIO, COMMAND, Peer, command, message},
        seconds,
    },
    scene::Scene,
};

fn connect_object() -> Vec<u8> {
    amf::object(&[("app", amf::string("live")), ("tcUrl", amf::string("rtmp://h/live"))])
}

/// Sends a command whose encoded arguments are `rest`.
fn send(peer: &mut Peer, name: &str, rest: &[u8]) {
    peer.send(&message(3, COMMAND, 0, 0, command(name, 1.0, &[rest.to_vec()])));
}

#[test]
fn deep_nesting_is_closed() {
    let scene = Scene::new();
    let mut before_connect = scene.greeted();
    send(&mut before_connect, "connect", &amf::nested_arrays(1_000));
    scene.assert_closed_again(&mut before_connect, "amf", 1);
    let mut objects = scene.greeted();
    send(&mut objects, "connect", &[3, 0, 1, b'a'].repeat(10_000));
    scene.assert_closed_again(&mut objects, "amf", 2);
    let mut connected = scene.connected();
    send(&mut connected, "publish", &amf::nested_arrays(70_000));
    scene.assert_closed_again(&mut connected, "amf", 3);
    scene.assert_unharmed();
}

#[test]
fn counts_of_2_to_the_32_cost_no_memory() {
    let scene = Scene::new();
    let mut strict = scene.greeted();
    send(&mut strict, "connect", &[10, 0xFF, 0xFF, 0xFF, 0xFF]);
    scene.assert_closed_again(&mut strict, "amf", 1);
    // An ECMA array's count is a hint.
    let mut ecma = scene.greeted();
    let array = [&[8, 0xFF, 0xFF, 0xFF, 0xFF][..], &connect_object()[1..]].concat();
    assert_eq!(ecma.connect_with(&array).as_deref(), Some("NetConnection.Connect.Success"));
    scene.assert_memory_bounded();
    scene.assert_unharmed();
}

#[test]
fn endless_properties_are_closed() {
    let scene = Scene::new();
    let mut peer = scene.greeted();
    send(&mut peer, "connect", &[&[3][..], &[0, 1, b'a', 5].repeat(10_000), &[0, 0, 9]].concat());
    scene.assert_closed(peer, "amf");
    scene.assert_unharmed();
}

#[test]
fn a_connect_cut_at_any_byte_is_refused_or_closed() {
    let scene = Scene::new();
    let whole = command("connect", 1.0, &[connect_object()]);
    for end in (0..whole.len()).step_by(3) {
        let mut peer = scene.greeted();
        peer.send(&message(3, COMMAND, 0, 0, &whole[..end]));
        // Either it is closed, or the answer is an error and a right connect is taken after that.
        let code = peer.next_code_or_silence();
        assert!(code.as_deref() != Some("NetConnection.Connect.Success"), "taken with {end} bytes");
    }
    assert!(scene.closed("amf") > 10);
    scene.assert_unharmed();
}

const COMMAND_AMF3: u8 = 17;

/// Sends a command of type 17 whose arguments, from the command object on, are the AMF3 value `rest`.
fn send_amf3(peer: &mut Peer, name: &str, rest: &[u8]) {
    let arguments = [amf::null(), [&[17], rest].concat()];
    let body = [&[0][..], &command(name, 1.0, &arguments)].concat();
    peer.send(&message(3, COMMAND_AMF3, 0, 0, body));
}

#[test]
fn hostile_amf3_is_closed() {
    let scene = Scene::new();
    let hostile = [
        b"\x09\x03\x01".repeat(70_000),
        b"\x0A\x0B\x01\x03a".repeat(70_000),
        b"\x09\xFF\xFF\xFF\xFF\x01".to_vec(),
        [&b"\x0A\x0B\x01"[..], &b"\x03a\x01".repeat(10_000)].concat(),
        b"\x06\x08".to_vec(),
        b"\x0A\x07\x03Cxyz".to_vec(),
    ];
    for (count, value) in (1..).zip(hostile) {
        let mut peer = scene.connected();
        send_amf3(&mut peer, "publish", &value);
        scene.assert_closed_again(&mut peer, "amf", count);
    }
    scene.assert_memory_bounded();
    scene.assert_unharmed();
}

#[test]
fn an_amf3_list_that_holds_itself_does_no_harm() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    send_amf3(&mut peer, "publish", b"\x09\x03\x01\x09\x00");
    assert!(peer.is_served());
    scene.assert_unharmed();
}

#[test]
fn an_amf3_command_cut_at_any_byte_is_answered_or_closed() {
    let scene = Scene::new();
    let value = b"\x0A\x0B\x01\x15streamName\x06\x09show\x01";
    for end in 0..value.len() {
        let mut peer = scene.connected();
        send_amf3(&mut peer, "play2", &value[..end]);
        assert!(peer.closes_within(seconds(10)), "{end} bytes");
    }
    assert_eq!(scene.closed("amf"), value.len() as u32);
    scene.assert_unharmed();
}

#[test]
fn references_are_refused() {
    let scene = Scene::new();
    let mut peer = scene.greeted();
    // A property that refers to the object it is in.
    send(&mut peer, "connect", &[3, 0, 1, b'a', 7, 0, 0, 0, 0, 9]);
    scene.assert_closed(peer, "amf");
    scene.assert_unharmed();
}

#[test]
fn bad_text_and_numbers_do_no_harm() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    for transaction in [f64::NAN, f64::INFINITY, -4.0, 1e300] {
        peer.send(&message(3, COMMAND, 0, 0, command("getStreamLength", transaction, &[amf::null()])));
    }
    assert!(peer.is_served());
    let stream = peer.create_stream();
    peer.send_command(stream, "publish", &[amf::null(), amf::string([b'a', 0xFF, 0xFE])]);
    scene.assert_closed(peer, "amf");

    let mut app = scene.greeted();
    let bad = amf::object(&[("app", amf::string([0xB0])), ("tcUrl", amf::string("rtmp://h/x"))]);
    assert_eq!(app.connect_with(&bad).as_deref(), Some("NetConnection.Connect.InvalidApp"));
    scene.assert_unharmed();
}

#[test]
fn a_connect_without_app_or_tc_url_is_answered_with_an_error() {
    let scene = Scene::new();
    for arguments in [
        amf::object(&[("tcUrl", amf::string("rtmp://h/live"))]),
        amf::object(&[("app", amf::string("live"))]),
        amf::object(&[("app", amf::null()), ("tcUrl", amf::string("rtmp://h/live"))]),
        amf::null(),
    ] {
        let mut peer = scene.greeted();
        assert_eq!(peer.connect_with(&arguments).as_deref(), Some("NetConnection.Connect.InvalidApp"));
    }
    scene.assert_refused("connect", 4);
    let mut nameless = scene.connected();
    nameless.send(&message(3, COMMAND, 0, 0, [amf::null(), amf::number(3.0)].concat()));
    let answer = nameless.answer(3.0).expect("an answer");
    assert_eq!(answer[0].text(), "_error");
    scene.assert_unharmed();
}

#[test]
fn requests_before_connect_are_answered_with_an_error() {
    let scene = Scene::new();
    let mut peer = scene.greeted();
    assert_eq!(peer.publish(1, "early").as_deref(), Some("NetStream.Publish.Denied"));
    peer.ask_play(1, "early");
    assert_eq!(peer.next_code().as_deref(), Some("NetStream.Play.Failed"));
    scene.assert_refused("before_connect", 2);
    assert_eq!(peer.connect("live").as_deref(), Some("NetConnection.Connect.Success"));
    scene.assert_unharmed();
}

#[test]
fn a_second_request_on_a_stream_is_answered_with_an_error() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let stream = pair.stream;
    assert_eq!(pair.publisher.publish(stream, "other").as_deref(), Some("NetStream.Publish.Denied"));
    pair.publisher.ask_play(stream, "other");
    assert_eq!(pair.publisher.next_code().as_deref(), Some("NetStream.Play.Failed"));
    scene.assert_refused("stream_busy", 2);
    pair.assert_flows();
    scene.assert_unharmed();
}

#[test]
fn message_streams_are_capped_at_8() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    for _ in 0..8 {
        peer.create_stream();
    }
    for _ in 0..1_000 {
        let transaction = peer.send_command(0, "createStream", &[amf::null()]);
        let answer = peer.answer(transaction).expect("an answer");
        assert_eq!(answer[0].text(), "_error");
    }
    scene.assert_refused("message_streams", 1_000);
    scene.assert_unharmed();
}

#[test]
fn deleting_an_unknown_stream_is_ignored() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    for id in [0.0, -1.0, 7.0, 1e300, f64::NAN] {
        pair.publisher.send_command(0, "deleteStream", &[amf::null(), amf::number(id)]);
    }
    pair.assert_flows();
    scene.assert_unharmed();
}

#[test]
fn hostile_names_are_refused_and_the_connection_lives() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    peer.use_chunk_size(65_536);
    let stream = peer.create_stream();
    let long = "x".repeat(65_536);
    let barely = "x".repeat(257);
    let names = ["", &long, &barely, "../up", "a/../b", "./here", "a\0b", "a\r\nSet-Cookie: b", "a\\b", "a//b"];
    for name in names {
        let short = &name[..name.len().min(20)];
        assert_eq!(peer.publish(stream, name).as_deref(), Some("NetStream.Publish.BadName"), "{short:?}");
        peer.ask_play(stream, name);
        assert_eq!(peer.next_code().as_deref(), Some("NetStream.Play.StreamNotFound"), "{short:?}");
    }
    scene.assert_refused("bad_name", 2 * names.len() as u32);
    // Quotes are no reason to refuse, but must not break out of JSON or the log.
    let quoted = "say \"hi\" {x='y'}";
    assert_eq!(peer.publish(stream, quoted).as_deref(), Some("NetStream.Publish.Start"));
    scene.server.wait_live(quoted);
    scene.assert_unharmed();
}

#[test]
fn a_second_publisher_is_refused() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let mut second = scene.connected();
    let stream = second.create_stream();
    assert_eq!(second.publish(stream, "subject").as_deref(), Some("NetStream.Publish.BadName"));
    scene.assert_refused("name_taken", 1);
    pair.assert_flows();
    scene.assert_unharmed();
}

#[test]
fn media_nobody_asked_for_is_dropped_and_then_closed() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    let stream = peer.create_stream();
    let stray = message(4, AUDIO, stream, 0, [0xAF, 1, 2, 3]).chunks(128);
    peer.write(&stray.repeat(512));
    assert!(peer.is_served(), "512 are dropped");
    peer.write(&stray);
    scene.assert_closed(peer, "stray_media");
    scene.assert_unharmed();
}

#[test]
fn aggregates_with_nested_or_overrunning_parts_are_bounded() {
    const AGGREGATE: u8 = 22;
    let scene = Scene::new();
    let mut pair = scene.pair();
    let sound = pair.audio().payload;
    let part = |type_id: u8, announced: usize, payload: &[u8]| {
        let head = [&[type_id][..], &(announced as u32).to_be_bytes()[1..], &[0; 7]].concat();
        [head, payload.to_vec(), vec![0; 4]].concat()
    };
    let nested = part(AGGREGATE, sound.len() + 15, &part(AUDIO, sound.len(), &sound));
    let aggregate = [nested, part(AUDIO, sound.len(), &sound), part(AUDIO, 0xFF_FFFF, b"\xAF\x01")].concat();
    // Of each only the sound part in its midst arrives.
    let bytes = message(4, AGGREGATE, pair.stream, 20, aggregate).chunks(128);
    for _ in 0..10 {
        pair.arrives(&bytes, &sound);
    }
    pair.assert_flows();
    // Those that hold nothing but faults are counted as media that belongs nowhere.
    let faults = message(4, AGGREGATE, pair.stream, 20, part(AUDIO, 0xFF_FFFF, b"")).chunks(128);
    pair.publisher.write(&faults.repeat(600));
    scene.assert_closed(pair.publisher, "stray_media");
    scene.assert_unharmed();
}

#[test]
fn a_publisher_that_leaves_in_the_midst_of_a_message_frees_its_name() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let half = message(4, AUDIO, pair.stream, 0, vec![0xAF; 1_000]).chunks(128);
    pair.publisher.write(&half[..500]);
    drop(pair);
    scene.server.wait_gone("subject", seconds(5));
    drop(Peer::publisher(scene.server.rtmp, "subject"));
    scene.assert_unharmed();
}
