//! Commands and their replies.

use crate::{
    common::{
        amf::{self, Value},
        rtmp::{AUDIO, COMMAND, DATA, Peer, USER_CONTROL, VIDEO, message},
        seconds,
        server::{Driver, Server},
    },
    scene::{SUCCESS, Scene, connect, connected_with, number, server, up_to, word},
};

const AGGREGATE: u8 = 22;
const SHARED_OBJECTS: [u8; 2] = [19, 16];
const HEADER: &[u8] = b"\x17\0\0\0\0avcC";
const KEYFRAME: &[u8] = b"\x17\x01\0\0\0key";
const INTER: &[u8] = b"\x27\x01\0\0\0inter";

/// RTMP 1.0, 7.2.1.1 and 5.4.5: limit type 2, dynamic.
#[test]
fn connect_is_answered_with_window_bandwidth_chunk_size_and_success() {
    let server = server();
    let mut peer = Peer::greeted(server.rtmp);
    peer.send(&connect(&[]));
    let said = up_to(&mut peer, SUCCESS);
    let words: Vec<_> = said.iter().map(word).collect();
    assert_eq!(words, ["5", "6", "1", SUCCESS]);
    assert_eq!(said[1].payload[4], 2);
    let values = said[3].values();
    assert_eq!((values[0].text(), &values[1]), ("_result", &Value::Number(1.0)));
    assert_eq!(values[3].get("level").map(Value::text), Some("status"));
}

/// Flash waits for the encoding it asked for (RTMP 1.0, 7.2.1.1); who asks for none has AMF0.
#[test]
fn the_object_encoding_is_echoed() {
    let server = server();
    for (asked, answered) in [(Some(3.0), 3.0), (Some(0.0), 0.0), (None, 0.0)] {
        let mut peer = Peer::greeted(server.rtmp);
        let encoding: Vec<_> = asked.map(|encoding| ("objectEncoding", amf::number(encoding))).into_iter().collect();
        peer.send(&connect(&encoding));
        let values = up_to(&mut peer, SUCCESS).pop().expect("a reply").values();
        assert_eq!(number(&values, "objectEncoding"), Some(answered), "{asked:?}");
    }
}

/// RTMP 1.0, 7.2.2.6; hardware encoders wait for onFCPublish, which Flash Media Server sends.
#[test]
fn publish_is_answered_with_on_fc_publish_and_start() {
    let server = server();
    let mut peer = Peer::connected(server.rtmp);
    for name in ["releaseStream", "FCPublish"] {
        let transaction = peer.send_command(0, name, &[amf::null(), amf::string("show")]);
        assert_eq!(peer.answer(transaction).expect("an answer")[0].text(), "_result");
    }
    let stream = peer.create_stream();
    peer.send_command(stream, "publish", &[amf::null(), amf::string("show"), amf::string("live")]);
    let said = up_to(&mut peer, "NetStream.Publish.Start");
    let names: Vec<_> = said.iter().map(|message| message.values()[0].text().to_owned()).collect();
    assert_eq!(names, ["onFCPublish", "onStatus"]);
    assert!(said.iter().all(|message| message.stream == stream));
}

/// RTMP 1.0, 7.2.2.1, and Flash Media Server's |RtmpSampleAccess and NetStream.Data.Start. FFmpeg takes metadata that is
/// not at 0 for a stream of its own.
#[test]
fn play_is_answered_in_the_order_players_expect() {
    let mut scene = Scene::new();
    let metadata = [amf::string("onMetaData"), amf::object(&[("width", amf::number(640.0))])].concat();
    let set = [amf::string("@setDataFrame"), metadata.clone()].concat();
    for (type_id, timestamp, payload) in
        [(DATA, 0, &set[..]), (VIDEO, 5_000, HEADER), (VIDEO, 5_000, KEYFRAME), (VIDEO, 5_040, INTER)]
    {
        scene.send(type_id, timestamp, payload);
    }
    scene.settle();
    let mut player = Peer::connected(scene.server.rtmp);
    let stream = player.create_stream();
    player.ask_play(stream, "show");
    let mut said = Vec::new();
    let done = player.find("the inter frame", |message| {
        said.push(message.clone());
        (message.payload == INTER).then_some(())
    });
    assert!(done.is_some());
    let words: Vec<_> = said.iter().map(word).collect();
    let order = ["4", "NetStream.Play.Reset", "NetStream.Play.Start", "|RtmpSampleAccess", "NetStream.Data.Start"];
    assert_eq!(words[..5], order);
    assert_eq!(said[0].payload, [&[0, 0][..], &stream.to_be_bytes()].concat(), "StreamBegin");
    let media: Vec<_> = said[5..].iter().map(|message| (message.timestamp, &message.payload[..])).collect();
    assert_eq!(media[0], (0, &metadata[..]));
    assert_eq!(media[1].1, HEADER);
    assert_eq!(media[2..], [(5_000, KEYFRAME), (5_040, INTER)]);
    assert!(said[1..].iter().all(|message| message.stream == stream));
}

/// RTMP 1.0, 7.2.1.2 and 7.2.1.3, and calls of Flash's, librtmp's and ffplay's.
#[test]
fn calls_are_answered_with_a_result() {
    let server = server();
    let mut peer = Peer::connected(server.rtmp);
    for name in ["createStream", "_checkbw", "getStreamLength", "releaseStream", "FCPublish"] {
        let transaction = peer.send_command(0, name, &[amf::null(), amf::string("show")]);
        assert_eq!(peer.answer(transaction).expect("an answer")[0].text(), "_result", "{name}");
    }
}

/// A command or data message says `code`.
#[track_caller]
fn assert_told(peer: &mut Peer, asked: &str, code: &str) {
    let says = |value: &Value| value.get("code").is_some_and(|said| said.text() == code);
    let told = peer.find(asked, |message| {
        let words = matches!(message.type_id, COMMAND | DATA);
        (words && message.values().iter().any(says)).then_some(())
    });
    assert!(told.is_some(), "{asked}");
}

/// RTMP 1.0, 7.2.2.1 to 7.2.2.8, and what Flash, librtmp (FCSubscribe) and ffplay (getStreamLength) add.
#[test]
fn players_may_send_all_their_commands() {
    let scene = Scene::new();
    let mut peer = Peer::connected(scene.server.rtmp);
    let stream = peer.create_stream();
    let (name, on, off) = (amf::string("show"), vec![1, 1], vec![1, 0]);
    let buffer = [&[0, 3][..], &stream.to_be_bytes(), &3_000u32.to_be_bytes()].concat();
    peer.send(&message(2, USER_CONTROL, 0, 0, buffer));
    let switch = amf::object(&[("streamName", name.clone()), ("transition", amf::string("switch"))]);
    let calls = [
        ("FCSubscribe", 0, name.clone(), "NetStream.Play.Start"),
        ("play", stream, name, "NetStream.Data.Start"),
        ("pause", stream, on.clone(), "NetStream.Pause.Notify"),
        ("pause", stream, off.clone(), "NetStream.Unpause.Notify"),
        ("pauseRaw", stream, on.clone(), "NetStream.Pause.Notify"),
        ("pauseRaw", stream, off.clone(), "NetStream.Unpause.Notify"),
        ("seek", stream, amf::number(1_000.0), "NetStream.Seek.Notify"),
        ("receiveAudio", stream, off.clone(), ""),
        ("receiveAudio", stream, on.clone(), "NetStream.Play.Start"),
        ("receiveVideo", stream, off, ""),
        ("receiveVideo", stream, on, "NetStream.Play.Start"),
        ("play2", stream, switch, "NetStream.Data.Start"),
        ("closeStream", stream, amf::null(), ""),
        ("deleteStream", 0, amf::number(stream.into()), ""),
    ];
    for (name, on_stream, argument, code) in calls {
        peer.send_command(on_stream, name, &[amf::null(), argument]);
        if !code.is_empty() {
            assert_told(&mut peer, name, code);
        }
    }
    assert!(peer.is_served());
    assert_eq!(peer.create_stream(), stream, "it was deleted");
}

/// RTMP 1.0, 7.1.3.
#[test]
fn shared_objects_are_ignored() {
    let server = server();
    let mut peer = Peer::connected(server.rtmp);
    for type_id in SHARED_OBJECTS.repeat(10) {
        peer.send(&message(3, type_id, 0, 0, *b"\0\x04name\0\0\0\0\0\0\0\0\0\0\0\0"));
    }
    assert!(peer.is_served());
}

/// A tag as an aggregate and an FLV file hold it (FLV 10.1, E.4.1).
fn flv_tag(type_id: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let [high, low @ ..] = timestamp.to_be_bytes();
    let head = [&[type_id][..], &length.to_be_bytes()[1..], &low, &[high, 0, 0, 0]].concat();
    [head, payload.to_vec(), (length + 11).to_be_bytes().to_vec()].concat()
}

/// RTMP 1.0, 7.1.6: the first part is at the message's own timestamp.
#[test]
fn parts_of_an_aggregate_are_rebased_onto_its_timestamp() {
    let mut scene = Scene::new();
    let (sound, cue) = (b"\xAF\x01sound", [amf::string("onCuePoint"), amf::null()].concat());
    let parts = [
        flv_tag(VIDEO, 70_000, KEYFRAME),
        flv_tag(AUDIO, 70_020, sound),
        flv_tag(DATA, 70_030, &cue),
        flv_tag(VIDEO, 70_040, INTER),
    ];
    scene.send(AGGREGATE, 500, &parts.concat());
    let expected = [(500, KEYFRAME), (520, &sound[..]), (530, &cue[..]), (540, INTER)];
    for expected in expected {
        let got = scene.player.next_of_stream();
        assert_eq!((got.timestamp, &got.payload[..]), expected);
    }
}

#[track_caller]
fn publisher_of(server: &Server, app: &str, tc_url: &str, name: &str) -> (Peer, u32) {
    let mut peer = connected_with(server, &[("app", amf::string(app)), ("tcUrl", amf::string(tc_url))]);
    let stream = peer.create_stream();
    assert_eq!(peer.publish(stream, name).as_deref(), Some("NetStream.Publish.Start"), "{app} {tc_url} {name}");
    (peer, stream)
}

#[track_caller]
fn assert_published_as_show(server: &Server, app: &str, tc_url: &str, name: &str) {
    let mut player = Peer::player(server.rtmp, "show");
    let (mut publisher, stream) = publisher_of(server, app, tc_url, name);
    publisher.send(&message(6, VIDEO, stream, 0, KEYFRAME));
    assert_eq!(player.next_of_stream().payload, KEYFRAME, "{app} {tc_url} {name}");
    drop(publisher);
    server.wait_gone("show", seconds(5));
}

/// Tokens of encoders and services, wherever their settings let them stand.
#[test]
fn queries_of_app_tc_url_and_name_are_no_identity() {
    let server = Server::start(Driver::Auto, 1, &["--unpublish-grace-s", "0"]);
    assert_published_as_show(&server, "live?token=a", "rtmp://localhost/live", "show");
    assert_published_as_show(&server, "live", "rtmp://localhost/live?token=a", "show");
    assert_published_as_show(&server, "live", "rtmp://localhost/live", "show?token=a&expires=1");
    assert_published_as_show(&server, "live?a=1", "rtmp://localhost/live?b=2", "show?c=3");
}

/// Adobe's authentication adds its parameters to app and tcUrl (Flash Media Live Encoder, Wirecast, librtmp).
#[test]
fn adobes_credentials_are_no_identity() {
    let server = Server::start(Driver::Auto, 1, &["--unpublish-grace-s", "0"]);
    let query = "?authmod=adobe&user=me&challenge=AAAA&response=BBBB&opaque=CCCC";
    assert_published_as_show(&server, &format!("live{query}"), &format!("rtmp://localhost/live{query}"), "show");
}

/// Players close on UnpublishNotify, Play.Stop and Play.Complete, so those wait while the publisher may come back.
#[test]
fn the_end_is_withheld_while_the_publisher_may_come_back() {
    let mut scene = Scene::new();
    scene.publisher_leaves();
    (scene.publisher, scene.stream) = Peer::publisher(scene.server.rtmp, "show");
    scene.send(VIDEO, 40, KEYFRAME);
    let mut codes = Vec::new();
    let back = scene.player.find("the next keyframe", |message| {
        codes.extend(message.code());
        (message.payload == KEYFRAME).then_some(())
    });
    assert!(back.is_some());
    let ends = ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete"];
    assert!(codes.iter().all(|code| !ends.contains(&code.as_str())), "{codes:?}");
}

/// FCUnpublish (librtmp), closeStream (Flash) and deleteStream (RTMP 1.0, 7.2.2.3), or no word at all.
#[test]
fn a_publish_ends_by_command_or_by_a_fin() {
    let server = Server::start(Driver::Auto, 1, &["--unpublish-grace-s", "0"]);
    for end in ["FCUnpublish", "closeStream", "deleteStream", "FIN"] {
        let mut player = Peer::player(server.rtmp, "show");
        let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
        publisher.send(&message(6, VIDEO, stream, 0, KEYFRAME));
        let argument = if end == "deleteStream" { amf::number(stream.into()) } else { amf::string("show") };
        if end == "FIN" {
            drop(publisher);
        } else {
            let on = if end == "closeStream" { stream } else { 0 };
            publisher.send_command(on, end, &[amf::null(), argument]);
        }
        up_to(&mut player, "NetStream.Play.UnpublishNotify");
        server.wait_gone("show", seconds(2));
    }
}
