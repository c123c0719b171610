//! Encoders. Each publishes its media under `show`.
//!
//! The bytes are reconstructed from the order of messages each encoder is documented to send; none is a capture.

use crate::{
    SPLITS, Script, Turn,
    common::{
        amf,
        rtmp::{AUDIO, COMMAND, DATA, Peer, VIDEO, WINDOW_ACK_SIZE, command},
        seconds,
        server::{Driver, Server},
    },
    converse,
};

const COMMAND_AMF3: u8 = 17;
const DATA_AMF3: u8 = 15;

/// csids of audio, video, and data and the stream's commands, as each client chooses them.
struct Csids {
    audio: u32,
    video: u32,
    data: u32,
}

fn connect(flash_version: &str, object_encoding: Option<f64>, more: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut object = vec![
        ("app", amf::string("live")),
        ("type", amf::string("nonprivate")),
        ("flashVer", amf::string(flash_version)),
        ("swfUrl", amf::string("rtmp://host/live")),
        ("tcUrl", amf::string("rtmp://host/live")),
    ];
    object.extend(object_encoding.map(|encoding| ("objectEncoding", amf::number(encoding))));
    object.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
    object.extend_from_slice(more);
    command("connect", 1.0, &[amf::object(&object)])
}

fn named(name: &str, transaction: f64) -> Vec<u8> {
    command(name, transaction, &[amf::null(), amf::string("show")])
}

fn create(transaction: f64) -> Vec<u8> {
    command("createStream", transaction, &[amf::null()])
}

fn publish(transaction: f64) -> Vec<u8> {
    command("publish", transaction, &[amf::null(), amf::string("show"), amf::string("live")])
}

fn metadata() -> Vec<u8> {
    let properties = amf::object(&[("width", amf::number(1_280.0)), ("videocodecid", amf::number(7.0))]);
    [amf::string("@setDataFrame"), amf::string("onMetaData"), properties].concat()
}

/// Headers, a keyframe longer than a chunk, sound, an inter frame.
fn media() -> Vec<(u8, u32, Vec<u8>)> {
    vec![
        (VIDEO, 0, b"\x17\0\0\0\0\x01\x64\0\x1F".to_vec()),
        (AUDIO, 0, b"\xAF\0\x12\x10".to_vec()),
        (VIDEO, 0, [&b"\x17\x01\0\0\0"[..], &[0x65; 700]].concat()),
        (AUDIO, 0, [&b"\xAF\x01"[..], &[0x21; 150]].concat()),
        (VIDEO, 40, [&b"\x27\x01\0\0\x28"[..], &[0x41; 200]].concat()),
        (AUDIO, 23, [&b"\xAF\x01"[..], &[0x22; 150]].concat()),
    ]
}

/// The same of HEVC by Enhanced RTMP v2.
fn hevc() -> Vec<(u8, u32, Vec<u8>)> {
    let mut messages = media();
    for (_, _, payload) in messages.iter_mut().filter(|(type_id, ..)| *type_id == VIDEO) {
        let (frame, packet) = (payload[0] & 0x70, payload[1]);
        *payload = [&[0x80 | frame | packet][..], b"hvc1", &payload[if packet == 1 { 2 } else { 5 }..]].concat();
    }
    messages
}

trait Publishing {
    fn connects(self, flash_version: &str, object_encoding: Option<f64>, more: &[(&str, Vec<u8>)]) -> Self;
    fn creates(self, transaction: f64) -> Self;
    fn starts(self, csid: u32, publish: Vec<u8>) -> Self;
    fn media(self, csids: &Csids, messages: &[(u8, u32, Vec<u8>)]) -> Self;
    fn ends(self) -> Self;
}

impl Publishing for Script {
    fn connects(self, flash_version: &str, object_encoding: Option<f64>, more: &[(&str, Vec<u8>)]) -> Self {
        self.say(3, COMMAND, 0, 0, connect(flash_version, object_encoding, more))
            .awaits(&["NetConnection.Connect.Success"])
    }

    fn creates(self, transaction: f64) -> Self {
        self.say(3, COMMAND, 0, 0, create(transaction)).awaits(&["_result"])
    }

    fn starts(self, csid: u32, publish: Vec<u8>) -> Self {
        self.say(csid, COMMAND, 1, 0, publish).awaits(&["NetStream.Publish.Start"])
    }

    fn media(self, csids: &Csids, messages: &[(u8, u32, Vec<u8>)]) -> Self {
        messages.iter().fold(self, |script, (type_id, at, payload)| {
            let csid = if *type_id == AUDIO { csids.audio } else { csids.video };
            script.say(csid, *type_id, 1, *at, payload.clone())
        })
    }

    fn ends(self) -> Self {
        let delete = command("deleteStream", 7.0, &[amf::null(), amf::number(1.0)]);
        self.say(3, COMMAND, 0, 0, named("FCUnpublish", 6.0)).say(3, COMMAND, 0, 0, delete)
    }
}

/// As OBS, whose librtmp announces its chunk size before connect, does not wait for releaseStream or FCPublish, and sends
/// everything of the stream on csid 4.
fn obs() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 4, data: 4 };
    Script::begin()
        .chunk_size(4_096)
        .connects("FMLE/3.0 (compatible; FMSc/1.0)", None, &[])
        .say(3, COMMAND, 0, 0, named("releaseStream", 2.0))
        .say(3, COMMAND, 0, 0, named("FCPublish", 3.0))
        .creates(4.0)
        .starts(4, publish(5.0))
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &media())
        .ends()
        .end()
}

/// As FFmpeg: it tells its window and chunk size after connect was answered, and waits for each step.
fn ffmpeg() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 6, data: 4 };
    Script::begin()
        .connects("FMLE/3.0 (compatible; Lavf59.27.100)", None, &[])
        .say(2, WINDOW_ACK_SIZE, 0, 0, 2_500_000u32.to_be_bytes())
        .say(3, COMMAND, 0, 0, named("releaseStream", 2.0))
        .say(3, COMMAND, 0, 0, named("FCPublish", 3.0))
        .creates(4.0)
        .starts(8, publish(5.0))
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &media())
        .ends()
        .end()
}

/// As hardware encoders: FCPublish is answered before they go on, they wait for onFCPublish, announce a chunk size late and
/// begin with sound.
fn hardware() -> Vec<Turn> {
    let csids = Csids { audio: 5, video: 6, data: 5 };
    let mut messages = media();
    messages.swap(0, 1);
    Script::begin()
        .connects("FMLE/3.0", Some(0.0), &[])
        .say(3, COMMAND, 0, 0, named("releaseStream", 2.0))
        .awaits(&["_result"])
        .say(3, COMMAND, 0, 0, named("FCPublish", 3.0))
        .awaits(&["_result"])
        .creates(4.0)
        .say(3, COMMAND, 1, 0, publish(0.0))
        .awaits(&["onFCPublish", "NetStream.Publish.Start"])
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &messages[..2])
        .chunk_size(65_536)
        .media(&csids, &messages[2..])
        .ends()
        .end()
}

/// As vMix, which streams by FFmpeg and names itself after FMLE there; its port stands in tcUrl, its query in the name.
fn vmix() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 6, data: 4 };
    let name = amf::string("show?user=vmix");
    let named = |of: &str, transaction| command(of, transaction, &[amf::null(), name.clone()]);
    let publish = command("publish", 5.0, &[amf::null(), name.clone(), amf::string("live")]);
    Script::begin()
        .connects("FMLE/3.0 (compatible; Lavf58.76.100)", None, &[])
        .say(2, WINDOW_ACK_SIZE, 0, 0, 2_500_000u32.to_be_bytes())
        .say(3, COMMAND, 0, 0, named("releaseStream", 2.0))
        .say(3, COMMAND, 0, 0, named("FCPublish", 3.0))
        .creates(4.0)
        .starts(8, publish)
        .chunk_size(60_000)
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &media())
        .say(3, COMMAND, 0, 0, named("FCUnpublish", 6.0))
        .say(3, COMMAND, 0, 0, command("deleteStream", 7.0, &[amf::null(), amf::number(1.0)]))
        .end()
}

/// As Wirecast: Adobe's authentication in app and tcUrl, a bandwidth check, and FMLE's order.
fn wirecast() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 4, data: 4 };
    let credentials = "live?authmod=adobe&user=me&challenge=AAAA&response=BBBB&opaque=CCCC";
    let more = [
        ("app", amf::string(credentials)),
        ("tcUrl", amf::string(format!("rtmp://host/{credentials}"))),
        ("videoFunction", amf::number(1.0)),
    ];
    Script::begin()
        .connects("FMLE/3.0 (compatible; Wirecast)", Some(0.0), &more)
        .say(3, COMMAND, 0, 0, command("_checkbw", 2.0, &[amf::null()]))
        .awaits(&["_result"])
        .say(3, COMMAND, 0, 0, named("releaseStream", 3.0))
        .say(3, COMMAND, 0, 0, named("FCPublish", 4.0))
        .creates(5.0)
        .starts(4, publish(6.0))
        .chunk_size(4_096)
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &media())
        .ends()
        .end()
}

/// As Larix, on csids of its own with long forms: it lists its codecs in connect, and HEVC goes by its FourCC.
fn larix() -> Vec<Turn> {
    let csids = Csids { audio: 20, video: 64, data: 320 };
    let codecs = [10, 0, 0, 0, 1].into_iter().chain(amf::string("hvc1")).collect();
    Script::begin()
        .connects("FMLE/3.0 (compatible; Larix)", None, &[("fourCcList", codecs)])
        .chunk_size(1_000)
        .creates(2.0)
        .starts(8, publish(3.0))
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &hevc())
        .ends()
        .end()
}

/// As GStreamer's rtmp2sink: everything of the stream on csid 4, its chunk size once publish was answered.
fn rtmp2sink() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 4, data: 4 };
    Script::begin()
        .connects("FMLE/3.0 (compatible; FMSc/1.0)", None, &[])
        .say(2, WINDOW_ACK_SIZE, 0, 0, 2_500_000u32.to_be_bytes())
        .say(3, COMMAND, 0, 0, named("releaseStream", 2.0))
        .say(3, COMMAND, 0, 0, named("FCPublish", 3.0))
        .creates(4.0)
        .starts(3, publish(5.0))
        .chunk_size(4_096)
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &media())
        .ends()
        .end()
}

/// As FMLE with object encoding 0: every call waits for its answer, publish for onFCPublish too; closeStream at its end.
fn fmle() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 4, data: 4 };
    Script::begin()
        .connects("FMLE/3.0 (compatible; FMSc/1.0)", Some(0.0), &[])
        .say(2, WINDOW_ACK_SIZE, 0, 0, 2_500_000u32.to_be_bytes())
        .say(3, COMMAND, 0, 0, named("releaseStream", 2.0))
        .awaits(&["_result"])
        .say(3, COMMAND, 0, 0, named("FCPublish", 3.0))
        .awaits(&["_result"])
        .creates(4.0)
        .say(8, COMMAND, 1, 0, publish(5.0))
        .awaits(&["onFCPublish", "NetStream.Publish.Start"])
        .say(csids.data, DATA, 1, 0, metadata())
        .media(&csids, &media())
        .say(3, COMMAND, 0, 0, named("FCUnpublish", 6.0))
        .say(8, COMMAND, 1, 0, command("closeStream", 0.0, &[amf::null()]))
        .say(3, COMMAND, 0, 0, command("deleteStream", 7.0, &[amf::null(), amf::number(1.0)]))
        .end()
}

/// As Flash with object encoding 3: commands in type 17 behind a zero byte, arguments and metadata in AMF3.
fn flash() -> Vec<Turn> {
    let csids = Csids { audio: 4, video: 5, data: 4 };
    let extended = |body: Vec<u8>| [&[0][..], &body].concat();
    let name = b"\x11\x06\x09show".to_vec();
    let properties = b"\x11\x0A\x0B\x01\x0Bwidth\x04\x8A\x00\x01";
    let metadata = [amf::string("@setDataFrame"), amf::string("onMetaData"), properties.to_vec()].concat();
    Script::begin()
        .connects("WIN 11,2,202,235", Some(3.0), &[])
        .say(3, COMMAND_AMF3, 0, 0, extended(command("FCPublish", 2.0, &[amf::null(), name.clone()])))
        .awaits(&["_result"])
        .say(3, COMMAND_AMF3, 0, 0, extended(create(3.0)))
        .awaits(&["_result"])
        .say(8, COMMAND_AMF3, 1, 0, extended(command("publish", 0.0, &[amf::null(), name])))
        .awaits(&["onFCPublish", "NetStream.Publish.Start"])
        .say(csids.data, DATA_AMF3, 1, 0, extended(metadata))
        .media(&csids, &media())
        .say(8, COMMAND_AMF3, 1, 0, extended(command("publish", 0.0, &[amf::null(), vec![1, 0]])))
        .awaits(&["NetStream.Unpublish.Success"])
        .end()
}

#[track_caller]
fn assert_served(turns: &[Turn]) {
    assert_relayed(turns, media());
}

#[track_caller]
fn assert_relayed(turns: &[Turn], media: Vec<(u8, u32, Vec<u8>)>) {
    let server = Server::start(Driver::Auto, 1, &["--unpublish-grace-s", "1"]);
    for split in SPLITS {
        let mut player = Peer::player(server.rtmp, "show");
        server.wait_metric("shardcast_players", &[], |now| now >= 1.0);
        let mut publisher = Peer::greeted(server.rtmp);
        converse(&mut publisher, turns, split);
        let told = |message: &crate::common::rtmp::Message| {
            let values = message.values();
            (message.type_id == DATA && values[0].text() == "onMetaData").then_some(values)
        };
        let metadata = player.find("metadata", told).expect("the player is served");
        let width = metadata[1].get("width").cloned();
        assert_eq!(width, Some(amf::Value::Number(1_280.0)), "{split:?}");
        let mut expected: Vec<_> = media.iter().cloned().map(|(type_id, _, payload)| (type_id, payload)).collect();
        for _ in 0..expected.len() {
            let got = player.next_media().expect("the player is served");
            let place = expected.iter().position(|sent| *sent == (got.type_id, got.payload.clone()));
            let place = place.unwrap_or_else(|| panic!("{split:?}: altered, or again: {got:?}"));
            // In order within its kind: the hardware begins with sound.
            assert!(expected[..place].iter().all(|(type_id, _)| *type_id != got.type_id), "{split:?}: out of order");
            expected.remove(place);
        }
        server.wait_gone("show", seconds(10));
        drop((publisher, player));
        server.wait_metric("shardcast_players", &[], |now| now == 0.0);
    }
}

#[test]
fn obs_is_served() {
    assert_served(&obs());
}

#[test]
fn ffmpeg_is_served() {
    assert_served(&ffmpeg());
}

#[test]
fn hardware_that_waits_for_on_fc_publish_is_served() {
    assert_served(&hardware());
}

#[test]
fn vmix_is_served() {
    assert_served(&vmix());
}

#[test]
fn wirecast_is_served() {
    assert_served(&wirecast());
}

#[test]
fn larix_is_served() {
    assert_relayed(&larix(), hevc());
}

#[test]
fn rtmp2sink_is_served() {
    assert_served(&rtmp2sink());
}

#[test]
fn fmle_is_served() {
    assert_served(&fmle());
}

#[test]
fn flash_with_amf3_is_served_and_its_metadata_is_readable() {
    assert_served(&flash());
}
