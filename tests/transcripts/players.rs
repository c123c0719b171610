//! Players.

use crate::{
    SPLITS, Script, Turn,
    common::{
        amf,
        rtmp::{COMMAND, Peer, USER_CONTROL, VIDEO, WINDOW_ACK_SIZE, command, message},
        server::{Driver, Server},
    },
    converse,
};

const COMMAND_AMF3: u8 = 17;
const KEYFRAME: &[u8] = b"\x17\x01\0\0\0key";

fn connect(object_encoding: f64) -> Vec<u8> {
    let object = [
        ("app", amf::string("live")),
        ("flashVer", amf::string("LNX 10,0,32,18")),
        ("tcUrl", amf::string("rtmp://host:1935/live")),
        ("fpad", vec![1, 0]),
        ("objectEncoding", amf::number(object_encoding)),
    ];
    command("connect", 1.0, &[amf::object(&object)])
}

/// As librtmp (JW, VLC, rtmpdump, rtmpsrc): a fresh csid for SetBufferLength, FCSubscribe, createStream, play with -2000.
fn librtmp() -> Vec<Turn> {
    let play = command("play", 4.0, &[amf::null(), amf::string("show"), amf::number(-2_000.0)]);
    Script::begin()
        .say(3, COMMAND, 0, 0, connect(0.0))
        .awaits(&["NetConnection.Connect.Success"])
        .say(2, WINDOW_ACK_SIZE, 0, 0, 2_500_000u32.to_be_bytes())
        .say(2, USER_CONTROL, 0, 0, b"\0\x03\0\0\0\0\0\0\x01\x2C")
        .say(3, COMMAND, 0, 0, command("FCSubscribe", 2.0, &[amf::null(), amf::string("show")]))
        .awaits(&["onFCSubscribe"])
        .say(3, COMMAND, 0, 0, command("createStream", 3.0, &[amf::null()]))
        .awaits(&["_result"])
        .say(8, COMMAND, 1, 0, play)
        .say(2, USER_CONTROL, 0, 0, b"\0\x03\0\0\0\x01\0\0\x75\x30")
        .awaits(&["NetStream.Play.Reset", "NetStream.Play.Start"])
        .end()
}

/// As ffplay: getStreamLength before play, which it does not wait for.
fn ffplay() -> Vec<Turn> {
    let play = command("play", 4.0, &[amf::null(), amf::string("show"), amf::number(-2_000.0)]);
    Script::begin()
        .say(3, COMMAND, 0, 0, connect(0.0))
        .awaits(&["NetConnection.Connect.Success"])
        .say(3, COMMAND, 0, 0, command("createStream", 2.0, &[amf::null()]))
        .awaits(&["_result"])
        .say(8, COMMAND, 0, 0, command("getStreamLength", 3.0, &[amf::null(), amf::string("show")]))
        .say(8, COMMAND, 1, 0, play)
        .say(2, USER_CONTROL, 0, 0, b"\0\x03\0\0\0\x01\0\0\x0B\xB8")
        .awaits(&["_result", "NetStream.Play.Start"])
        .end()
}

/// As a Flash player with object encoding 3: type 17 throughout, its bandwidth check, receiveVideo before play.
fn flash() -> Vec<Turn> {
    let extended = |body: Vec<u8>| [&[0][..], &body].concat();
    let play = command("play", 0.0, &[amf::null(), b"\x11\x06\x09show".to_vec(), b"\x11\x04\xFF\xFF\xFF\xFE".to_vec()]);
    Script::begin()
        .say(3, COMMAND, 0, 0, connect(3.0))
        .awaits(&["NetConnection.Connect.Success"])
        .say(3, COMMAND_AMF3, 0, 0, extended(command("checkBandwidth", 2.0, &[amf::null()])))
        .awaits(&["_result", "onBWDone"])
        .say(3, COMMAND_AMF3, 0, 0, extended(command("createStream", 3.0, &[amf::null()])))
        .awaits(&["_result"])
        .say(8, COMMAND_AMF3, 1, 0, extended(command("receiveVideo", 0.0, &[amf::null(), b"\x11\x03".to_vec()])))
        .say(8, COMMAND_AMF3, 1, 0, extended(play))
        .awaits(&["NetStream.Play.Reset", "NetStream.Play.Start", "|RtmpSampleAccess"])
        .say(8, COMMAND_AMF3, 1, 0, extended(command("pause", 0.0, &[amf::null(), b"\x11\x03".to_vec()])))
        .awaits(&["NetStream.Pause.Notify"])
        .say(8, COMMAND_AMF3, 1, 0, extended(command("pause", 0.0, &[amf::null(), b"\x11\x02".to_vec()])))
        .awaits(&["NetStream.Unpause.Notify"])
        .say(8, COMMAND_AMF3, 1, 0, extended(command("seek", 0.0, &[amf::null(), b"\x11\x04\x05".to_vec()])))
        .awaits(&["NetStream.Seek.Notify"])
        .end()
}

#[track_caller]
fn assert_served(turns: &[Turn]) {
    let server = Server::start(Driver::Auto, 1, &[]);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    for (round, split) in SPLITS.into_iter().enumerate() {
        let mut player = Peer::greeted(server.rtmp);
        converse(&mut player, turns, split);
        let payload = [KEYFRAME, &[round as u8]].concat();
        publisher.send(&message(6, VIDEO, stream, 40 * round as u32, payload.clone()));
        let got = player.find("the keyframe", |message| (message.payload == payload).then_some(message.type_id));
        assert_eq!(got, Some(VIDEO), "{split:?}");
    }
}

#[test]
fn librtmp_is_served() {
    assert_served(&librtmp());
}

#[test]
fn ffplay_is_served() {
    assert_served(&ffplay());
}

#[test]
fn flash_with_amf3_is_served() {
    assert_served(&flash());
}
