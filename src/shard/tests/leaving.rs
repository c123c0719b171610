//! Clients let go of by a node that leaves: between groups of pictures, each at its moment, and nobody twice.

use std::{sync::Arc, time::Duration};

use super::rig::{AAC, AVC, INTER, KEY, Rig, SOUND, frame};
use crate::{
    rtmp::{capabilities::Capabilities, client::ClientRole, key::StreamKey, message::Kind},
    shard::{
        close::CloseReason, core::Core, leaving::Departure, listen_addr::SUCCESSOR_SHOWN_AS,
        reconnect::ReconnectRequest,
    },
};

/// Nobody is asked: all are let go.
fn departure(over_ms: u64) -> Departure {
    Departure { request: None, over: Duration::from_millis(over_ms), others_stay: false }
}

/// Those who can are asked.
fn asking(over_ms: u64) -> Departure {
    let over = Duration::from_millis(over_ms);
    let tc_url = Some("//b/live".into());
    let request = ReconnectRequest { tc_url, description: "moving".into(), over, after_players: false };
    Departure { request: Some(Arc::new(request)), over, others_stay: false }
}

/// Another process has taken over.
fn replaced(over_ms: u64) -> Departure {
    let Departure { request, over, .. } = asking(over_ms);
    let request = request.map(|request| ReconnectRequest { tc_url: None, after_players: true, ..(*request).clone() });
    Departure { request: request.map(Arc::new), over, others_stay: true }
}

fn leave(rig: &mut Rig, departure: &Departure) {
    for core in &mut rig.cores {
        core.leave(departure.clone());
    }
    rig.settle();
}

/// A client that announces nothing.
fn plain(rig: &mut Rig, core: usize, role: ClientRole, name: &str) -> usize {
    let peer = rig.connect_announcing(core, role, name, Capabilities::default());
    rig.settle();
    peer
}

fn players_left(rig: &Rig) -> i64 {
    rig.metrics.iter().map(|of| of.leaving_players.get()).sum()
}

fn publishers_left(rig: &Rig) -> i64 {
    rig.metrics.iter().map(|of| of.leaving_publishers.get()).sum()
}

#[test]
fn players_get_their_group_of_pictures_whole_and_nothing_of_the_next() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, AVC);
    rig.video(publisher, 0, KEY);
    rig.video(publisher, 40, INTER);
    leave(&mut rig, &departure(4_000));
    rig.pass_ms(2_900);
    assert_eq!((players_left(&rig), publishers_left(&rig)), (2, 1));
    assert!(players.iter().all(|player| rig.peers[*player].open), "the group is not over");
    // A picture that is shown before the one it comes after, and sound between them.
    let last = frame(INTER, 1, 50_000);
    rig.video(publisher, 80, &last);
    rig.say(publisher, Kind::Audio, 70, SOUND);
    rig.video(publisher, 120, KEY);
    for player in players {
        assert_eq!(rig.seen(player, 1), [AVC, KEY, INTER, &last]);
        assert_eq!(rig.peers[player].heard.last().map(|heard| heard.kind), Some(Kind::Audio));
        assert_eq!(rig.peers[player].events, ["Playing", "Ended"]);
        assert!(!rig.peers[player].open);
    }
    assert_eq!((players_left(&rig), publishers_left(&rig)), (0, 1));
    assert!(rig.peers[publisher].open, "publishers go last");
    assert_eq!(rig.closed(CloseReason::Drained), 2);
    rig.empty();
}

#[test]
fn a_publisher_ends_before_a_keyframe_and_with_it_whoever_still_plays() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    leave(&mut rig, &departure(0));
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 40, INTER);
    assert!(rig.peers[publisher].open);
    rig.burst(publisher, &[(80, INTER.to_vec()), (120, KEY.to_vec()), (160, INTER.to_vec())]);
    assert_eq!(rig.peers[publisher].events, ["Publishing", "Ended"]);
    assert!(!rig.peers[publisher].open);
    assert!(players.iter().all(|player| rig.seen(*player, 1) == [KEY, INTER, INTER]), "nothing of the next group");
    assert_eq!((players_left(&rig), publishers_left(&rig)), (0, 0), "who came later does not count");
    rig.empty();
}

#[test]
fn without_pictures_players_leave_between_messages_where_others_could_join() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "radio");
    rig.say(publisher, Kind::Audio, 0, AAC);
    for at in 0..30 {
        rig.pass_ms(100);
        rig.say(publisher, Kind::Audio, at * 100, SOUND);
    }
    let players = [rig.play(0, "radio"), rig.play(1, "radio")];
    leave(&mut rig, &departure(0));
    for at in 30..45 {
        rig.pass_ms(100);
        rig.say(publisher, Kind::Audio, at * 100, SOUND);
    }
    for player in players {
        assert!(!rig.peers[player].open);
        assert!(rig.peers[player].heard.iter().skip(1).all(|heard| *heard.payload == *SOUND), "whole messages");
    }
    assert!(!rig.peers[publisher].open, "there is no keyframe to wait for");
    rig.empty();
}

#[test]
fn a_player_that_is_behind_has_what_it_was_owed_and_no_half_message() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    for player in players {
        rig.peers[player].send_bytes = 1_000;
        rig.allow(player, 0);
    }
    let large = frame(INTER, 1, 300_000);
    rig.video(publisher, 40, &large);
    players.iter().for_each(|player| rig.allow(*player, 20));
    leave(&mut rig, &departure(4_000));
    rig.pass_ms(3_000);
    rig.video(publisher, 80, INTER);
    rig.video(publisher, 120, &frame(KEY, 2, 20_000));
    for player in players {
        assert!(rig.peers[player].open, "it is in the middle of a message");
        rig.allow(player, usize::MAX);
        assert_eq!(rig.seen(player, 1), [KEY, &large, INTER]);
        assert!(!rig.peers[player].open);
    }
    rig.empty();
}

#[test]
fn each_form_of_a_stream_is_left_at_its_own_join_point() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, AVC);
    rig.video(publisher, 0, KEY);
    // Message stream 2 is another form; and one that gets no pictures.
    let two = rig.play(0, "show");
    rig.also(two, 2, "play", "show");
    let sound = rig.play(0, "show");
    rig.command(sound, 1, "receiveVideo", |out| {
        out.boolean(false);
    });
    for at in 1..20 {
        rig.pass_ms(100);
        rig.say(publisher, Kind::Audio, at * 100, SOUND);
    }
    leave(&mut rig, &departure(100));
    rig.video(publisher, 2_000, INTER);
    rig.pass_ms(100);
    assert!(rig.peers[two].open);
    rig.video(publisher, 2_100, KEY);
    assert_eq!(rig.seen(two, 1), [AVC, KEY, INTER]);
    assert_eq!(rig.seen(two, 2), [AVC, KEY, INTER]);
    assert!(!rig.peers[two].open, "both plays have ended");
    for at in 22..40 {
        rig.say(publisher, Kind::Audio, at * 100, SOUND);
        rig.pass_ms(100);
    }
    assert!(!rig.peers[sound].open);
    rig.empty();
}

#[test]
fn who_waits_pauses_or_idles_goes_at_its_moment() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    let waiting = rig.play(0, "never");
    let paused = rig.play(0, "show");
    rig.command(paused, 1, "pause", |out| {
        out.boolean(true);
    });
    let silent = rig.connect(0, ClientRole::Play, "whatever");
    leave(&mut rig, &departure(0));
    rig.settle();
    for peer in [waiting, paused, silent] {
        assert!(!rig.peers[peer].open);
    }
    // The publisher says nothing more.
    rig.pass_ms(3_000);
    assert!(!rig.peers[publisher].open);
    assert_eq!((players_left(&rig), publishers_left(&rig)), (0, 0));
    rig.empty();
}

#[test]
fn who_can_is_asked_others_are_let_go_and_newcomers_that_can_are_asked_at_once() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    let able = rig.play(0, "show");
    let other = plain(&mut rig, 0, ClientRole::Play, "show");
    rig.video(publisher, 0, KEY);
    assert_eq!(rig.cores[0].leave(asking(1_000)), 2);
    rig.pass_ms(1_100);
    let asked =
        |rig: &Rig, peer: usize| rig.peers[peer].events.iter().filter(|event| event.starts_with("Reconnect")).count();
    assert_eq!([asked(&rig, publisher), asked(&rig, able), asked(&rig, other)], [1, 1, 0]);
    let late_able = rig.play(0, "show");
    let late_other = plain(&mut rig, 0, ClientRole::Play, "show");
    rig.pass_ms(200);
    assert_eq!([asked(&rig, late_able), asked(&rig, late_other)], [1, 0]);
    rig.pass_ms(500);
    assert_eq!(asked(&rig, late_able), 1, "once");
    rig.video(publisher, 40, KEY);
    assert!([able, late_able, late_other].iter().all(|peer| rig.peers[*peer].open), "they are served");
    assert!(!rig.peers[other].open);
    // The last call is for all.
    leave(&mut rig, &departure(0));
    rig.video(publisher, 80, INTER);
    rig.video(publisher, 120, KEY);
    assert!(rig.peers.iter().all(|peer| !peer.open));
    rig.empty();
}

#[test]
fn a_publisher_stays_with_a_replaced_process_as_long_as_players_do() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        let player = plain(&mut rig, core, ClientRole::Play, "show");
        let able = rig.play(core, "show");
        // Its shard has players that are not asked, and nobody who is.
        let alone = rig.publish(1 - core, "alone");
        // What the process that took over plays can be had from the publisher there.
        let successor = rig.connect_from(1 - core, SUCCESSOR_SHOWN_AS, ClientRole::Play, "show");
        rig.settle();
        rig.video(publisher, 0, KEY);
        leave(&mut rig, &replaced(0));
        let asked = |rig: &Rig, peer: usize| rig.peers[peer].events.iter().any(|event| event.starts_with("Reconnect"));
        rig.pass_ms(3_000);
        assert!(asked(&rig, able) && asked(&rig, alone));
        rig.lose(able, CloseReason::PeerClosed);
        rig.pass_ms(3_000);
        assert!(!asked(&rig, publisher), "its player cannot follow");
        rig.video(publisher, 40, KEY);
        assert_eq!(rig.seen(player, 1), [KEY, KEY]);
        rig.lose(player, CloseReason::PeerClosed);
        rig.pass_ms(500);
        assert!(asked(&rig, publisher));
        assert!(rig.peers[successor].open);
        // At the end nobody stays, whoever plays.
        let late = plain(&mut rig, core, ClientRole::Play, "show");
        leave(&mut rig, &departure(0));
        rig.video(publisher, 80, KEY);
        assert!(!rig.peers[publisher].open && !rig.peers[late].open);
        rig.empty();
    }
}

#[test]
fn who_may_stay_stays() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    rig.video(publisher, 40, INTER);
    leave(&mut rig, &departure(0));
    rig.cores.iter_mut().for_each(Core::stay);
    rig.video(publisher, 80, KEY);
    rig.pass_ms(5_000);
    assert!(players.iter().chain([&publisher]).all(|peer| rig.peers[*peer].open));
    assert_eq!((players_left(&rig), publishers_left(&rig)), (0, 0));
    rig.empty();
}

#[test]
fn after_all_no_publisher_is_kept() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let player = plain(&mut rig, 1, ClientRole::Play, "show");
    rig.video(publisher, 0, KEY);
    leave(&mut rig, &replaced(0));
    let key = StreamKey::new("", "live", "show").expect("valid");
    assert!(rig.shared.directory.is_kept(&key));
    rig.cores.iter_mut().for_each(Core::stay);
    rig.pass_ms(1_000);
    assert!(!rig.shared.directory.is_kept(&key));
    assert!(rig.peers[player].open);
    rig.empty();
}
