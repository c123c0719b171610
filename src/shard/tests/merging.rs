//! Merging: what waits, for how long, and what does not.

use std::time::Duration;

use super::rig::{INTER, KEY, Rig, SOUND};
use crate::{
    limits::{DELAY_TARGET_DEFAULT, VIDEO_QUIET},
    rtmp::message::Kind,
    shard::{close::CloseReason, merge::Merging},
};

#[test]
fn messages_are_merged_for_players_in_step_and_not_for_joiners() {
    let mut rig = Rig::with(2, |config| config.merging = Merging::Fixed(Duration::from_millis(100)));
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    rig.pass_ms(200);
    rig.video(publisher, 40, INTER);
    rig.video(publisher, 80, INTER);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 1));
    let joiner = rig.play(0, "show");
    assert_eq!(rig.seen(joiner, 1).len(), 3);
    rig.pass_ms(200);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 3));
    rig.video(publisher, 120, INTER);
    rig.lose(publisher, CloseReason::PeerClosed);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 4), "the end merges nothing away");
    rig.empty();
}

#[test]
fn a_shard_with_slack_merges_nothing_and_a_busy_one_what_the_delay_target_lets_it() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 1));
    let second = Duration::from_secs(1);
    // The shard that follows is busy, the one that writes is not.
    for _ in 0..10 {
        (0..100_000).for_each(|_| rig.cores[1].streams.merger.note_send());
        rig.cores[1].note_load(second, second);
    }
    rig.video(publisher, 40, INTER);
    rig.pass_ms(10);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 1));
    rig.pass(DELAY_TARGET_DEFAULT);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 2));
    (0..10).for_each(|_| rig.cores[1].note_load(Duration::ZERO, second));
    rig.video(publisher, 80, INTER);
    assert!(players.iter().all(|player| rig.seen(*player, 1).len() == 3));
    rig.empty();
}

#[test]
fn audio_that_is_held_leaves_with_the_next_video_or_alone_in_time() {
    let mut rig = Rig::with(1, |config| config.hold_audio = Duration::from_millis(20));
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    let received = |rig: &Rig| rig.peers[player].media(1).len();
    rig.video(publisher, 0, KEY);
    assert_eq!(received(&rig), 1);
    rig.say(publisher, Kind::Audio, 10, SOUND);
    assert_eq!(received(&rig), 1, "held");
    rig.pass_ms(10);
    rig.video(publisher, 20, INTER);
    assert_eq!(received(&rig), 3, "audio and video together");
    rig.pass_ms(5);
    rig.say(publisher, Kind::Audio, 25, SOUND);
    rig.pass_ms(10);
    assert_eq!(received(&rig), 3, "the time by which the audio before was to leave does not count");
    rig.pass_ms(11);
    assert_eq!(received(&rig), 4, "without video it waits no longer");
    rig.pass(VIDEO_QUIET);
    rig.say(publisher, Kind::Audio, 6_000, SOUND);
    assert_eq!(received(&rig), 5, "where no video comes, nothing is held");
    rig.empty();
}
