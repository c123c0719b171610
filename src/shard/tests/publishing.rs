//! Publishers: their names, their coming and going, and what of it players see.

use std::time::Duration;

use super::rig::{AAC, AVC, INTER, KEY, Rig, SOUND, frame};
use crate::{
    limits::{PLAY_WAIT_DEFAULT, PUBLISHER_IDLE_DEFAULT, UNPUBLISH_GRACE_DEFAULT},
    rtmp::{
        client::ClientRole,
        message::{Kind, type_id},
    },
    shard::close::{CloseReason, RefuseReason},
};

const META: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\0\x09";

#[test]
fn players_see_the_same_whether_they_or_the_publisher_came_first_and_on_any_core() {
    for cores in [1, 3] {
        let mut rig = Rig::new(cores);
        let early: Vec<_> = (0..cores).map(|core| rig.play(core, "show")).collect();
        let publisher = rig.publish(0, "show");
        rig.peers[publisher].session.send_metadata(META);
        rig.video(publisher, 0, AVC);
        rig.say(publisher, Kind::Audio, 0, AAC);
        let large = frame(KEY, 1, 200_000);
        rig.video(publisher, 10, &large);
        let late: Vec<_> = (0..cores).map(|core| rig.play(core, "show")).collect();
        rig.say(publisher, Kind::Audio, 20, SOUND);
        rig.video(publisher, 50, &frame(INTER, 2, 9_000));
        let expected = [
            (type_id::DATA_AMF0, 0, META.to_vec()),
            (type_id::VIDEO, 0, AVC.to_vec()),
            (type_id::AUDIO, 0, AAC.to_vec()),
            (type_id::VIDEO, 10, large),
            (type_id::AUDIO, 20, SOUND.to_vec()),
            (type_id::VIDEO, 50, frame(INTER, 2, 9_000)),
        ];
        for player in early.iter().chain(&late) {
            let mut media = rig.peers[*player].media(1);
            if late.contains(player) {
                // The headers of a prologue come with the join point's time.
                media.iter_mut().take(3).filter(|at| at.0 != type_id::DATA_AMF0).for_each(|at| at.1 = 0);
            } else {
                // Who waited joined at the first keyframe, behind the same headers.
                media.iter_mut().take(3).filter(|at| at.0 != type_id::DATA_AMF0).for_each(|at| at.1 = 0);
            }
            assert_eq!(media, expected, "player {player} of {cores} cores");
            assert_eq!(rig.peers[*player].raw.len(), rig.peers[early[0]].raw.len(), "to the byte");
        }
        rig.empty();
    }
}

#[test]
fn a_second_publisher_is_refused_and_the_first_unharmed() {
    let mut rig = Rig::new(2);
    let first = rig.publish(0, "show");
    let player = rig.play(1, "show");
    rig.video(first, 0, KEY);
    for core in 0..2 {
        let second = rig.connect(core, ClientRole::Publish, "show?token=other");
        rig.settle();
        assert_eq!(rig.peers[second].statuses(1), ["NetStream.Publish.BadName"]);
        rig.inject(second, type_id::VIDEO, 1, KEY);
    }
    assert_eq!(rig.refused(RefuseReason::NameTaken), 2);
    rig.video(first, 40, INTER);
    assert_eq!(rig.seen(player, 1), [KEY, INTER]);
    rig.pass(crate::limits::REQUEST_DEADLINE);
    assert_eq!(rig.closed(CloseReason::RequestTimeout), 2, "who was refused does not stay for ever");
    rig.empty();
}

#[test]
fn players_go_on_with_the_next_publisher_and_are_not_told_of_the_gap() {
    for (from, to) in [(0, 0), (0, 1), (1, 0)] {
        let mut rig = Rig::new(2);
        let players = [rig.play(0, "show"), rig.play(1, "show")];
        let first = rig.publish(from, "show");
        rig.video(first, 1_000, KEY);
        rig.lose(first, CloseReason::PeerReset);
        let second = rig.publish(to, "show");
        rig.video(second, 0, KEY);
        rig.pass_ms(1_000);
        rig.lose(second, CloseReason::PeerClosed);
        rig.pass(UNPUBLISH_GRACE_DEFAULT - Duration::from_millis(200));
        let third = rig.publish(from, "show");
        rig.video(third, 7, KEY);
        rig.pass(UNPUBLISH_GRACE_DEFAULT * 2);
        for player in players {
            assert_eq!(rig.peers[player].events, ["Playing"]);
            let times: Vec<u32> = rig.peers[player].media(1).iter().map(|at| at.1).collect();
            assert!(times.len() == 3 && times.is_sorted() && times[2] - times[1] >= 4_800, "{times:?}");
        }
        rig.empty();
    }
}

#[test]
fn players_are_told_of_the_end_after_the_grace_and_after_the_last_message() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    for player in players {
        rig.allow(player, 0);
    }
    let last = frame(INTER, 1, 300_000);
    rig.video(publisher, 40, &last);
    rig.peers[publisher].session.close();
    rig.settle();
    assert_eq!(rig.metrics[0].publishers.get(), 0);
    rig.pass(UNPUBLISH_GRACE_DEFAULT - Duration::from_millis(100));
    for player in players {
        rig.allow(player, 2);
    }
    rig.pass_ms(300);
    assert!(players.iter().all(|player| rig.peers[*player].events == ["Playing"]), "not before the last message");
    for player in players {
        rig.allow(player, usize::MAX);
        assert_eq!(rig.seen(player, 1), [KEY, &last]);
        let expected = ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop"];
        assert!(rig.peers[player].statuses(1).ends_with(&expected.map(String::from)));
        assert_eq!(rig.peers[player].events, ["Playing", "Ended"]);
    }
    rig.pass(UNPUBLISH_GRACE_DEFAULT);
    let again = rig.publish(1, "show");
    rig.video(again, 0, KEY);
    for player in players {
        assert_eq!(rig.peers[player].events, ["Playing", "Ended", "Playing"], "those that stayed go on");
        assert_eq!(rig.seen(player, 1).len(), 3);
    }
    rig.empty();
}

#[test]
fn players_wait_for_a_stream_only_so_long() {
    for cores in [1, 2] {
        let mut rig = Rig::new(cores);
        let player = rig.play(cores - 1, "never");
        rig.pass(PLAY_WAIT_DEFAULT - Duration::from_millis(100));
        assert!(rig.peers[player].open);
        rig.pass_ms(200);
        assert_eq!(rig.peers[player].statuses(1).last().map(String::as_str), Some("NetStream.Play.StreamNotFound"));
        assert!(!rig.peers[player].open);
        assert_eq!((rig.closed(CloseReason::StreamNotFound), rig.refused(RefuseReason::NotFound)), (1, 1));
        rig.empty();
    }
}

#[test]
fn a_player_that_comes_after_the_end_waits_and_is_shown_nothing_of_it() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let stays = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    rig.lose(publisher, CloseReason::PeerClosed);
    let in_grace = [rig.play(0, "show"), rig.play(1, "show")];
    rig.pass(UNPUBLISH_GRACE_DEFAULT + Duration::from_secs(1));
    let after = [rig.play(0, "show"), rig.play(1, "show")];
    rig.pass_ms(500);
    for player in stays {
        assert_eq!(rig.peers[player].events, ["Playing", "Ended"]);
    }
    for player in in_grace.into_iter().chain(after) {
        assert_eq!(rig.peers[player].events, ["Playing"], "player {player} waits");
        assert!(rig.seen(player, 1).is_empty(), "player {player} asked when it was over");
    }
    let again = rig.publish(1, "show");
    rig.video(again, 0, KEY);
    for player in in_grace.into_iter().chain(after) {
        assert_eq!((rig.seen(player, 1).len(), rig.peers[player].events.len()), (1, 1));
    }
    rig.empty();
}

#[test]
fn a_publisher_that_falls_silent_is_let_go() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    rig.pass(PUBLISHER_IDLE_DEFAULT - Duration::from_secs(1));
    rig.video(publisher, 0, KEY);
    rig.pass(PUBLISHER_IDLE_DEFAULT - Duration::from_millis(100));
    assert!(rig.peers[publisher].open);
    rig.pass_ms(200);
    assert!(!rig.peers[publisher].open);
    assert_eq!(rig.peers[publisher].events, ["Publishing", "Ended"]);
    assert_eq!(rig.closed(CloseReason::PublisherIdle), 1);
    let again = rig.publish(0, "show");
    assert!(rig.peers[again].open);
    rig.empty();
}

#[test]
fn a_name_is_free_at_once_after_a_reset() {
    let mut rig = Rig::new(2);
    for round in 0..6 {
        let publisher = rig.publish(round % 2, "show");
        rig.video(publisher, 0, KEY);
        rig.lose(publisher, CloseReason::PeerReset);
    }
    assert_eq!(rig.closed(CloseReason::PeerReset), 6);
    rig.empty();
}

#[test]
fn one_connection_publishes_and_plays() {
    let mut rig = Rig::new(1);
    let both = rig.publish(0, "mine");
    let other = rig.publish(0, "other");
    rig.also(both, 2, "play", "other");
    rig.video(both, 0, KEY);
    rig.video(other, 0, KEY);
    rig.also(both, 3, "play", "mine");
    rig.video(both, 40, INTER);
    assert_eq!(rig.seen(both, 2), [KEY]);
    assert_eq!(rig.seen(both, 3), [KEY, INTER], "even what it publishes itself");
    rig.command(both, 0, "deleteStream", |out| {
        out.number(1.0);
    });
    assert_eq!(rig.metrics[0].publishers.get(), 1);
    rig.video(other, 40, INTER);
    assert_eq!(rig.seen(both, 2), [KEY, INTER], "its plays go on");
    rig.empty();
}

#[test]
fn malformed_tags_are_counted_and_reach_nobody() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    rig.video(publisher, 0, b"\x17");
    rig.video(publisher, 0, KEY);
    assert_eq!((rig.metrics[0].tags_malformed.get(), rig.metrics[0].messages_received.get()), (1, 2));
    assert_eq!(rig.seen(player, 1), [KEY]);
    rig.empty();
}

#[test]
fn players_that_waited_miss_nothing_of_a_publisher_that_bursts() {
    let mut rig = Rig::new(3);
    let players: Vec<_> = (0..3).map(|core| rig.play(core, "show")).collect();
    let burst: Vec<_> = (0..20_u32)
        .map(|index| (index * 40, frame(if index % 10 == 0 { KEY } else { INTER }, index as usize, 300)))
        .collect();
    for round in 1..=2 {
        // The second time players come from the log of a publisher that left.
        let publisher = rig.publish(0, "show");
        rig.burst(publisher, &burst);
        for player in &players {
            assert_eq!(rig.seen(*player, 1).len(), round * burst.len(), "round {round}");
        }
        rig.lose(publisher, CloseReason::PeerReset);
    }
    rig.empty();
}

#[test]
fn a_silent_publish_ends_alone() {
    let mut rig = Rig::with(1, |config| config.publisher_idle = Duration::from_secs(1));
    let publisher = rig.publish(0, "show");
    rig.also(publisher, 2, "publish", "other");
    for step in 0..20 {
        rig.pass_ms(100);
        rig.video(publisher, step * 100, KEY);
    }
    assert!(rig.peers[publisher].open, "its other publish is alive");
    assert_eq!(rig.closed(CloseReason::PublisherIdle), 0);
    let next = rig.publish(0, "other");
    assert!(rig.peers[next].open, "the silent one's name is free");
    rig.empty();
}

#[test]
fn names_asked_for_and_left_are_not_remembered() {
    let mut rig = Rig::new(1);
    let player = rig.play(0, "first");
    for _ in 0..50 {
        rig.command(player, 1, "closeStream", |_| {});
        rig.command(player, 1, "play", |out| {
            out.string("next");
        });
        rig.command(player, 1, "closeStream", |_| {});
        assert_eq!(rig.shared.directory.waited_names(), 0);
    }
    rig.empty();
}
