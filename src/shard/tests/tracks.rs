//! Players of some tracks of a stream, on its shard and on another.

use super::rig::{AAC, AVC, KEY, Rig};
use crate::{
    media::TrackChoice,
    rtmp::{capabilities::Capabilities, client::ClientRole, message::Kind},
    shard::close::RefuseReason,
};

const HEVC_1: &[u8] = b"\x96\x00hvc1\x01hvcC";
const KEY_1: &[u8] = b"\x96\x03hvc1\x01key of 1";
const ALONE: [&[u8]; 2] = [b"\x90hvc1hvcC", b"\x93hvc1key of 1"];

/// A player that announced Multitrack.
fn play_capable(rig: &mut Rig, core: usize, name: &str) -> usize {
    let player = rig.connect_announcing(core, ClientRole::Play, name, Capabilities::of_relay());
    rig.settle();
    assert_eq!(rig.peers[player].events, ["Playing"]);
    assert_eq!(rig.peers[player].session.server_capabilities(), Some(&Capabilities::of_relay()));
    player
}

fn publish(rig: &mut Rig, publisher: usize) {
    rig.say(publisher, Kind::Audio, 0, AAC);
    for (at, payload) in [(0, AVC), (0, HEVC_1), (40, KEY), (40, KEY_1)] {
        rig.video(publisher, at, payload);
    }
}

#[test]
fn each_player_gets_the_tracks_it_can_take_or_asked_for_early_and_late() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let mut players = Vec::new();
        let mut join = |rig: &mut Rig| {
            players.push([
                rig.play(core, "show"),
                play_capable(rig, core, "show"),
                rig.play(core, "show?token=x&track=v1"),
                play_capable(rig, core, "show?tracks=v1%2Cv2"),
                play_capable(rig, core, "show?track=v-"),
            ]);
        };
        join(&mut rig);
        let publisher = rig.publish(0, "show");
        publish(&mut rig, publisher);
        join(&mut rig);
        let expected: [&[&[u8]]; 5] = [&[AVC, KEY], &[AVC, HEVC_1, KEY, KEY_1], &ALONE, &[HEVC_1, KEY_1], &[]];
        for (group, players) in players.into_iter().enumerate() {
            for (player, expected) in players.into_iter().zip(expected) {
                assert_eq!(rig.seen(player, 1), expected, "core {core}, group {group}, player {player}");
            }
        }
        rig.empty();
    }
}

#[test]
fn what_cannot_be_chosen_is_refused_with_the_reason() {
    let mut rig = Rig::new(1);
    let player = rig.connect(0, ClientRole::Play, "show?track=x9");
    rig.settle();
    let said = rig.peers[player].events.join(" ");
    assert!(said.contains("NetStream.Play.Failed") && said.contains("'x9'"), "{said}");
    assert_eq!(rig.refused(RefuseReason::Tracks), 1);
    rig.empty();
}

#[test]
fn the_operators_choice_is_for_players_that_name_no_tracks() {
    let choice: TrackChoice = "v1".parse().expect("a choice");
    let mut rig = Rig::with(1, |config| config.tracks = choice);
    let publisher = rig.publish(0, "show");
    let (silent, other) = (rig.play(0, "show"), rig.play(0, "show?track=v0"));
    publish(&mut rig, publisher);
    assert_eq!(rig.seen(silent, 1), ALONE);
    assert_eq!(rig.seen(other, 1), [AVC, KEY]);
    rig.empty();
}

#[test]
fn receive_video_and_a_choice_of_tracks_go_together() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show?track=v1");
    publish(&mut rig, publisher);
    for on in [false, true] {
        rig.command(player, 1, "receiveVideo", |out| {
            out.boolean(on);
        });
        rig.video(publisher, 80, KEY);
        rig.video(publisher, 80, KEY_1);
    }
    let expected = [ALONE[0], ALONE[1], ALONE[0], ALONE[1]];
    assert_eq!(rig.seen(player, 1), expected, "the same track again, from its next keyframe");
    rig.empty();
}
