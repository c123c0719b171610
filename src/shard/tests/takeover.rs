//! A live name taken over by another publisher, on the same core and from another one.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use super::rig::{AAC, AVC, INTER, KEY, Rig, SOUND, frame};
use crate::{
    access::{
        AccessInForce, Takeover,
        keys::{self, Keys},
        rules::{AccessRules, Proof, Rule, Takes},
    },
    limits::{TAKEOVER_PAUSE, TAKEOVER_WAIT, UNPUBLISH_GRACE_DEFAULT},
    rtmp::{
        chunk::ChunkWriter,
        client::ClientRole,
        key::StreamKey,
        message::{Header, Kind, type_id},
    },
    shard::{
        close::{CloseReason, RefuseReason},
        config::Config,
        questions::Ticket,
        takeover::Asked,
    },
};

fn rig(cores: usize) -> Rig {
    Rig::with(cores, |config| config.takeover = Takeover::Replace)
}

impl Rig {
    fn takeovers(&self) -> u64 {
        self.metrics.iter().map(|of| of.takeovers.get()).sum()
    }

    /// Whoever plays has seen times that never step back, of video and of audio.
    fn assert_in_order(&self, player: usize) {
        for kind in [Kind::Video, Kind::Audio] {
            let heard = self.peers[player].heard.iter().filter(|heard| heard.kind == kind);
            let times: Vec<_> = heard.map(|heard| heard.timestamp).collect();
            assert!(times.is_sorted(), "{kind:?} of {player}: {times:?}");
        }
    }
}

#[test]
fn a_second_publisher_takes_over_and_players_see_one_stream() {
    for (from, to) in [(0, 0), (0, 1), (1, 0), (2, 1)] {
        let mut rig = rig(3);
        let early: Vec<_> = (0..3).map(|core| rig.play(core, "show")).collect();
        let first = rig.publish(from, "show");
        rig.video(first, 90_000, AVC);
        rig.say(first, Kind::Audio, 90_000, AAC);
        rig.video(first, 90_000, &frame(KEY, 1, 50_000));
        rig.say(first, Kind::Audio, 90_020, SOUND);
        rig.video(first, 90_040, &frame(INTER, 2, 900));
        let late: Vec<_> = (0..3).map(|core| rig.play(core, "show")).collect();

        let second = rig.publish(to, "show");
        assert_eq!(rig.peers[first].events, ["Publishing", "NetStream.Publish.BadName", "Ended"], "{from} to {to}");
        assert!(!rig.peers[first].open, "it does nothing else");
        assert_eq!((rig.closed(CloseReason::Replaced), rig.takeovers()), (1, 1));
        rig.pass_ms(300);
        rig.video(second, 0, AVC);
        rig.say(second, Kind::Audio, 0, AAC);
        rig.video(second, 0, &frame(KEY, 3, 700));
        rig.say(second, Kind::Audio, 20, SOUND);
        rig.video(second, 40, &frame(INTER, 4, 70));
        rig.pass(UNPUBLISH_GRACE_DEFAULT * 2);

        let coded: Vec<_> =
            [frame(KEY, 1, 50_000), frame(INTER, 2, 900), frame(KEY, 3, 700), frame(INTER, 4, 70)].into();
        for player in early.into_iter().chain(late) {
            let seen = rig.seen(player, 1).into_iter().filter(|payload| payload != AVC).collect::<Vec<_>>();
            assert_eq!(seen, coded, "player {player}, {from} to {to}");
            assert_eq!(rig.peers[player].events, ["Playing"], "it is told nothing");
            rig.assert_in_order(player);
            let last = rig.peers[player].heard.last().expect("media").timestamp;
            assert_eq!(last, 90_040 + 300 + 40, "the gap is what passed");
        }
        rig.empty();
    }
}

#[test]
fn players_stay_even_where_no_publisher_is_waited_for() {
    for (from, to) in [(0, 0), (0, 1), (1, 2)] {
        let mut rig = Rig::with(3, |config| {
            config.takeover = Takeover::Replace;
            config.unpublish_grace = Duration::ZERO;
        });
        let players: Vec<_> = (0..3).map(|core| rig.play(core, "show")).collect();
        let first = rig.publish(from, "show");
        rig.video(first, 0, KEY);
        // Whoever follows hears of the end before it hears of the new publisher.
        let second = rig.publish(to, "show");
        rig.video(second, 0, KEY);
        rig.pass_ms(500);
        for player in players {
            assert_eq!(rig.peers[player].events, ["Playing"], "{from} to {to}");
            assert_eq!(rig.seen(player, 1), [KEY, KEY]);
        }
        rig.empty();
    }
}

#[test]
fn what_an_encoder_says_before_it_is_answered_is_kept_and_in_order() {
    let mut rig = rig(2);
    let player = rig.play(0, "show");
    let first = rig.publish(0, "show");
    rig.video(first, 0, KEY);
    rig.hung[0] = true;
    let second = rig.connect(1, ClientRole::Publish, "show");
    rig.settle();
    assert!(rig.peers[second].events.is_empty(), "it waits");
    // It does not wait for the answer: this came with the request.
    let mut said = BytesMut::new();
    let mut writer = ChunkWriter::new();
    for (timestamp, payload) in [(0, AVC), (0, KEY), (40, INTER)] {
        let header = Header { csid: 40, timestamp, length: 0, type_id: type_id::VIDEO, stream_id: 1 };
        writer.write(header, payload, &mut said);
    }
    let id = rig.peers[second].id;
    rig.cores[1].receive(id, &said);
    rig.settle();
    assert!(rig.cores[1].is_held(id) && rig.seen(player, 1) == [KEY]);
    rig.hung[0] = false;
    rig.settle();
    assert!(!rig.cores[1].is_held(id));
    assert_eq!(rig.peers[second].events, ["Publishing"]);
    rig.pass_ms(100);
    assert_eq!(rig.seen(player, 1), [KEY, AVC, KEY, INTER]);
    rig.empty();
}

#[test]
fn of_several_that_want_to_replace_one_waits_and_the_others_are_refused() {
    let mut rig = rig(3);
    let player = rig.play(1, "show");
    let first = rig.publish(0, "show");
    rig.video(first, 0, KEY);
    rig.hung[0] = true;
    let second = rig.connect(1, ClientRole::Publish, "show");
    rig.settle();
    for core in [1, 2] {
        let other = rig.connect(core, ClientRole::Publish, "show");
        rig.settle();
        assert_eq!(rig.peers[other].statuses(1), ["NetStream.Publish.BadName"]);
    }
    rig.hung[0] = false;
    rig.settle();
    assert_eq!(rig.peers[second].events, ["Publishing"]);
    rig.video(second, 40, KEY);
    assert_eq!(rig.seen(player, 1), [KEY, KEY]);
    assert_eq!((rig.refused(RefuseReason::NameTaken), rig.takeovers()), (2, 1));
    rig.empty();
}

#[test]
fn two_encoders_that_both_come_back_at_once_change_places_once_a_second() {
    let mut rig = rig(2);
    let player = rig.play(0, "show");
    rig.publish(0, "show");
    let begun = rig.now;
    let until = begun + Duration::from_secs(10);
    let mut round = 0;
    while rig.now < until {
        round += 1;
        let encoder = rig.connect(round % 2, ClientRole::Publish, "show");
        rig.settle();
        if rig.peers[encoder].events == ["Publishing"] {
            rig.video(encoder, round as u32, KEY);
        }
        rig.pass_ms(100);
    }
    let most = Duration::from_secs(10).as_millis() / TAKEOVER_PAUSE.as_millis() + 1;
    assert!((5..=most as u64).contains(&rig.takeovers()), "{} times", rig.takeovers());
    assert_eq!(rig.seen(player, 1).len() as u64, rig.takeovers());
    rig.assert_in_order(player);
    rig.empty();
}

#[test]
fn whoever_waits_may_leave_and_the_first_goes_on() {
    for in_time in [true, false] {
        let mut rig = rig(2);
        let first = rig.publish(0, "show");
        rig.video(first, 0, KEY);
        rig.hung[0] = true;
        let second = rig.connect(1, ClientRole::Publish, "show");
        rig.settle();
        rig.lose(second, CloseReason::PeerReset);
        let third = in_time.then(|| rig.connect(1, ClientRole::Publish, "show"));
        rig.settle();
        rig.hung[0] = false;
        rig.settle();
        assert_eq!(rig.peers[first].open, !in_time, "nobody is ended for one that has left");
        let third = third.unwrap_or_else(|| rig.connect(1, ClientRole::Publish, "show"));
        rig.settle();
        assert_eq!(rig.peers[third].events, ["Publishing"]);
        rig.empty();
    }
}

#[test]
fn whoever_is_waited_for_may_end_by_itself() {
    let mut rig = rig(3);
    let player = rig.play(2, "show");
    let first = rig.publish(0, "show");
    rig.video(first, 5_000, KEY);
    // Asked while the owner's core is busy, whose publisher then ends before it reads of that.
    rig.hung[0] = true;
    let second = rig.connect(1, ClientRole::Publish, "show");
    rig.settle();
    let id = rig.peers[first].id;
    rig.peers[first].open = false;
    rig.cores[0].remove(id);
    let third = rig.connect(2, ClientRole::Publish, "show");
    rig.settle();
    assert_eq!(rig.peers[third].statuses(1), ["NetStream.Publish.BadName"], "it is promised to another");
    rig.hung[0] = false;
    rig.settle();
    assert_eq!(rig.peers[second].events, ["Publishing"]);
    rig.video(second, 0, KEY);
    assert_eq!(rig.seen(player, 1), [KEY, KEY]);
    rig.assert_in_order(player);
    assert_eq!(rig.closed(CloseReason::Replaced), 0);
    rig.empty();
}

#[test]
fn an_owner_that_does_not_answer_is_not_waited_for_for_ever() {
    let mut rig = rig(2);
    let first = rig.publish(0, "show");
    rig.hung[0] = true;
    let second = rig.connect(1, ClientRole::Publish, "show");
    rig.settle();
    rig.pass(TAKEOVER_WAIT - Duration::from_millis(100));
    assert!(rig.peers[second].events.is_empty());
    rig.pass_ms(200);
    assert_eq!(rig.peers[second].statuses(1), ["NetStream.Publish.BadName"]);
    assert_eq!((rig.refused(RefuseReason::NameTaken), rig.takeovers()), (1, 0));
    rig.hung[0] = false;
    rig.settle();
    assert!(rig.peers[first].open, "nobody waits any more");
    rig.publish(1, "show");
    assert_eq!((rig.peers[first].open, rig.takeovers()), (false, 1));
    rig.empty();
}

#[test]
fn a_full_queue_delays_a_takeover_only() {
    let mut rig = rig(2);
    let player = rig.play(0, "show");
    let first = rig.publish(0, "show");
    rig.video(first, 0, KEY);
    // What core 1 tells core 0 of another stream fills the queue.
    rig.play(0, "noise");
    let noise = rig.publish(1, "noise");
    rig.video(noise, 0, KEY);
    rig.hung[0] = true;
    for round in 0..2 * crate::limits::MESH_QUEUE_MESSAGES as u32 {
        rig.video(noise, round, INTER);
    }
    let full = rig.metrics[1].mesh_full.get();
    assert!(full > 0);
    let second = rig.connect(1, ClientRole::Publish, "show");
    rig.settle();
    assert!(rig.peers[second].events.is_empty());
    assert!(rig.cores[1].due_at() <= rig.now + crate::limits::MESH_RETRY, "it is told again soon");
    rig.hung[0] = false;
    rig.pass_ms(200);
    assert_eq!(rig.peers[second].events, ["Publishing"]);
    rig.video(second, 0, KEY);
    assert_eq!(rig.seen(player, 1), [KEY, KEY]);
    rig.empty();
}

#[test]
fn a_node_that_ends_lets_go_of_who_waits() {
    for owner_first in [true, false] {
        let mut rig = rig(2);
        rig.publish(0, "show");
        rig.hung[0] = true;
        let second = rig.connect(1, ClientRole::Publish, "show");
        rig.settle();
        let order = if owner_first { [0, 1] } else { [1, 0] };
        for core in order {
            rig.cores[core].shutdown();
            rig.settle();
        }
        rig.hung[0] = false;
        rig.pass_ms(300);
        assert!(!rig.peers[second].open);
        assert_eq!((rig.takeovers(), rig.closed(CloseReason::Shutdown)), (0, 2));
        assert!(rig.cores.iter().all(|core| core.has_ended()));
        rig.empty();
    }
}

#[test]
fn a_connection_that_does_something_else_too_goes_on_with_that() {
    let mut rig = rig(2);
    let first = rig.publish(0, "show");
    rig.also(first, 2, "play", "news");
    let news = rig.publish(1, "news");
    rig.video(news, 0, KEY);
    let second = rig.publish(1, "show");
    rig.video(news, 40, INTER);
    assert!(rig.peers[first].open && rig.peers[second].open);
    assert_eq!(rig.seen(first, 2), [KEY, INTER]);
    assert_eq!(rig.closed(CloseReason::Replaced), 0);
    // What it still sends of the show is no longer the show's.
    let player = rig.play(0, "show");
    rig.inject(first, type_id::VIDEO, 1, KEY);
    assert!(rig.seen(player, 1).is_empty());
    rig.empty();
}

#[test]
fn a_connection_may_replace_its_own_publisher() {
    let mut rig = rig(1);
    let player = rig.play(0, "show");
    let only = rig.publish(0, "show");
    rig.also(only, 2, "publish", "show");
    assert!(rig.peers[only].open);
    rig.inject(only, type_id::VIDEO, 1, INTER);
    rig.inject(only, type_id::VIDEO, 2, KEY);
    assert_eq!(rig.seen(player, 1), [KEY]);
    assert_eq!(rig.takeovers(), 1);
    rig.empty();
}

/// Two encoders' keys.
const KEYS: [&str; 2] = ["first-key-of-an-encoder-8f3a91c2", "second-key-of-an-encoder-77d10b4e"];

/// Nobody publishes without one of the keys.
fn with_keys(config: &mut Config) {
    let lines =
        KEYS.iter().zip(["first", "second"]).map(|(key, name)| keys::line(name, key, "salt", &[]).expect("a line"));
    let keys = Keys::parse(&lines.collect::<Vec<_>>().join("\n")).expect("keys");
    let takes = Takes::Proof(Proof { keys: Some(keys), ..Proof::default() });
    let rule = Rule { name: "keys".into(), streams: None, deny: Vec::new(), allow: Vec::new(), takes };
    config.access = Arc::new(AccessInForce::new(AccessRules { publish: vec![rule], ..AccessRules::default() }));
    config.takeover = Takeover::ReplaceIfSameCredential;
}

#[test]
fn an_encoder_that_comes_back_with_its_key_has_its_name_back_and_nobody_else_takes_it() {
    for core in [0, 1] {
        let mut rig = Rig::with(2, with_keys);
        let [own, other] = KEYS.map(|key| format!("show?key={key}"));
        let player = rig.play(1, "show");
        let first = rig.publish(0, &own);
        rig.video(first, 0, KEY);
        let stranger = rig.connect(core, ClientRole::Publish, &other);
        rig.settle();
        assert_eq!(rig.peers[stranger].statuses(1), ["NetStream.Publish.BadName"]);
        assert!(rig.peers[first].open);
        let again = rig.publish(core, &own);
        assert!(!rig.peers[first].open);
        rig.video(again, 0, KEY);
        // Its credential is remembered for the next time.
        rig.pass(TAKEOVER_PAUSE);
        let stranger = rig.connect(core, ClientRole::Publish, &other);
        rig.settle();
        assert_eq!(rig.peers[stranger].statuses(1), ["NetStream.Publish.BadName"]);
        let last = rig.publish(0, &own);
        rig.video(last, 0, KEY);
        assert_eq!((rig.seen(player, 1).len(), rig.takeovers()), (3, 2));
        rig.empty();
    }
}

#[test]
fn without_a_credential_none_is_the_same() {
    let mut rig = Rig::with(1, |config| config.takeover = Takeover::ReplaceIfSameCredential);
    let first = rig.publish(0, "show");
    let second = rig.connect(0, ClientRole::Publish, "show");
    rig.settle();
    assert_eq!(rig.peers[second].statuses(1), ["NetStream.Publish.BadName"]);
    assert!(rig.peers[first].open);
    rig.empty();
}

#[test]
fn a_name_that_comes_to_nobody_is_free() {
    let mut rig = Rig::new(1);
    let player = rig.play(0, "other");
    let key = StreamKey::new("", "live", "show").unwrap();
    let core = &mut rig.cores[0];
    let Asked::Granted(claim) = core.ask_for_name(&key, None) else { panic!("nobody has it") };
    assert!(core.directory.owner(&key).is_some());
    // The one it is for has gone meanwhile.
    let ticket = Ticket { shard: 0, conn: rig.peers[player].id, number: 7 };
    core.end_wait_for_name(ticket, &key, Some(claim));
    assert!(core.directory.owner(&key).is_none());
    rig.publish(0, "show");
    rig.empty();
}
