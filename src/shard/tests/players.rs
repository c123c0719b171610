//! Players: several on a connection, views, pauses, and sends that end anywhere.

use std::time::Duration;

use super::rig::{AAC, AVC, INTER, KEY, Rig, SOUND, frame};
use crate::{
    limits::{JOIN_WAIT_DEFAULT, VIEWS_MAX},
    rtmp::{
        client::ClientRole,
        message::{Kind, type_id},
    },
    shard::{
        close::{CloseReason, RefuseReason},
        core::Transmit,
    },
};

#[test]
fn short_sends_tear_no_chunk_and_two_plays_on_one_connection_complete() {
    for send_bytes in [1_000, 7_777, 61_440] {
        let mut rig = Rig::new(1);
        let (a, b) = (rig.publish(0, "a"), rig.publish(0, "b"));
        let player = rig.play(0, "a");
        rig.also(player, 2, "play", "b");
        rig.peers[player].send_bytes = send_bytes;
        let mut expected = (Vec::new(), Vec::new());
        for round in 0..6 {
            rig.allow(player, 0);
            for (publisher, expected) in [(a, &mut expected.0), (b, &mut expected.1)] {
                let tag = if round % 3 == 0 { KEY } else { INTER };
                let payload = frame(tag, round + publisher, 10 + round * 40_000);
                rig.video(publisher, round as u32 * 40, &payload);
                expected.push(payload);
            }
            rig.allow(player, 3);
            // Something of the session's own in the middle.
            rig.inject(player, type_id::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 1]);
            rig.allow(player, usize::MAX);
        }
        assert_eq!((rig.seen(player, 1), rig.seen(player, 2)), expected);
        let pongs =
            rig.peers[player].messages().iter().filter(|(_, payload)| payload[..] == [0, 7, 0, 0, 0, 1]).count();
        assert_eq!(pongs, 6);
        rig.empty();
    }
}

#[test]
fn a_player_that_wants_no_audio_or_no_video_gets_none() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        let player = rig.play(core, "show");
        rig.say(publisher, Kind::Audio, 0, AAC);
        rig.video(publisher, 0, KEY);
        rig.say(publisher, Kind::Audio, 10, SOUND);
        let before = rig.peers[player].media(1).len();
        rig.command(player, 1, "receiveAudio", |out| {
            out.boolean(false);
        });
        rig.video(publisher, 40, INTER);
        rig.say(publisher, Kind::Audio, 50, SOUND);
        rig.video(publisher, 80, KEY);
        rig.say(publisher, Kind::Audio, 90, SOUND);
        rig.video(publisher, 120, INTER);
        let since = rig.peers[player].media(1).split_off(before);
        let kinds: Vec<_> = since.iter().map(|at| (at.0, at.1)).collect();
        assert_eq!(kinds, [(type_id::VIDEO, 80), (type_id::VIDEO, 120)], "from the next keyframe on");
        rig.command(player, 1, "receiveAudio", |out| {
            out.boolean(true);
        });
        rig.command(player, 1, "receiveVideo", |out| {
            out.boolean(false);
        });
        rig.video(publisher, 160, KEY);
        rig.pass_ms(1_100);
        rig.say(publisher, Kind::Audio, 1_200, SOUND);
        let after = rig.peers[player].media(1).split_off(before + 2);
        assert!(after.iter().all(|at| at.0 == type_id::AUDIO), "{after:?}");
        assert_eq!(after.last().map(|at| (at.1, &at.2[..])), Some((1_200, SOUND)));
        rig.empty();
    }
}

#[test]
fn a_paused_player_gets_nothing_and_goes_on_at_the_newest_keyframe_it_has_not_seen() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        let player = rig.play(core, "show");
        rig.video(publisher, 0, AVC);
        rig.video(publisher, 0, KEY);
        let pause = |rig: &mut Rig, on| {
            rig.command(player, 1, "pause", |out| {
                out.boolean(on);
            });
        };
        let times = |rig: &Rig| rig.peers[player].media(1).iter().skip(2).map(|at| at.1).collect::<Vec<_>>();
        // A keyframe came meanwhile: its headers, then it and all since.
        pause(&mut rig, true);
        pause(&mut rig, true);
        rig.video(publisher, 40, KEY);
        rig.video(publisher, 80, INTER);
        rig.pass_ms(15_000);
        assert_eq!(rig.seen(player, 1), [AVC, KEY]);
        rig.hurried.clear();
        pause(&mut rig, false);
        assert_eq!(rig.hurried, [(core, rig.peers[player].id)]);
        assert_eq!(rig.seen(player, 1)[2..], [AVC, KEY, INTER]);
        pause(&mut rig, false);
        rig.video(publisher, 120, INTER);
        assert_eq!(times(&rig), [40, 40, 80, 120]);
        // None came: it waits for the next.
        pause(&mut rig, true);
        rig.video(publisher, 160, INTER);
        pause(&mut rig, false);
        rig.video(publisher, 200, INTER);
        assert_eq!(times(&rig), [40, 40, 80, 120]);
        rig.command(player, 1, "seek", |out| {
            out.number(5_000.0);
        });
        pause(&mut rig, true);
        rig.command(player, 1, "seek", |out| {
            out.number(0.0);
        });
        pause(&mut rig, false);
        rig.video(publisher, 240, KEY);
        assert_eq!(times(&rig), [40, 40, 80, 120, 240, 240]);
        let statuses = rig.peers[player].statuses(1);
        let count = |code: &str| statuses.iter().filter(|status| status.ends_with(code)).count();
        assert_eq!(
            (count(".Pause.Notify"), count(".Unpause.Notify"), count(".Seek.Notify")),
            (4, 4, 2),
            "{statuses:?}"
        );
        rig.empty();
    }
}

#[test]
fn without_gop_cache_a_paused_player_goes_on_at_the_next_keyframe() {
    let mut rig = Rig::with(1, |config| config.gop_cache = false);
    let player = rig.play(0, "show");
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    for on in [true, false] {
        rig.command(player, 1, "pause", |out| {
            out.boolean(on);
        });
        rig.video(publisher, 40, KEY);
        rig.video(publisher, 80, INTER);
        let expected = if on { 1 } else { 3 };
        assert_eq!(rig.seen(player, 1).len(), expected);
    }
    rig.empty();
}

/// It is busy being sent something else.
#[test]
fn the_keyframe_right_after_a_player_asked_is_one_it_begins_at() {
    for gop_cache in [true, false] {
        let mut rig = Rig::with(1, |config| config.gop_cache = gop_cache);
        let publisher = rig.publish(0, "show");
        rig.video(publisher, 0, KEY);
        let [chooses, pauses] = [(); 2].map(|()| rig.play(0, "show"));
        rig.video(publisher, 40, KEY);
        let seen = [chooses, pauses].map(|player| rig.seen(player, 1).len());
        for player in [chooses, pauses] {
            rig.allow(player, 0);
            rig.inject(player, type_id::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 1]);
        }
        for on in [false, true] {
            rig.command(chooses, 1, "receiveVideo", |out| {
                out.boolean(on);
            });
            rig.command(pauses, 1, "pause", |out| {
                out.boolean(!on);
            });
        }
        rig.video(publisher, 80, KEY);
        rig.video(publisher, 120, INTER);
        for (player, seen) in [(chooses, seen[0]), (pauses, seen[1])] {
            rig.allow(player, usize::MAX);
            assert_eq!(rig.seen(player, 1)[seen..], [KEY, INTER], "GOP cache: {gop_cache}");
        }
        rig.empty();
    }
}

#[test]
fn what_a_player_said_before_play_is_what_it_receives() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        rig.say(publisher, Kind::Audio, 0, AAC);
        rig.video(publisher, 0, KEY);
        rig.say(publisher, Kind::Audio, 10, SOUND);
        let player = rig.play(core, "nothing");
        rig.command(player, 0, "createStream", |_| {});
        let choose = |rig: &mut Rig, what, on| {
            rig.command(player, 2, what, |out| {
                out.boolean(on);
            });
        };
        choose(&mut rig, "receiveVideo", false);
        rig.command(player, 2, "play", |out| {
            out.string("show");
        });
        rig.video(publisher, 40, KEY);
        rig.pass_ms(6_000);
        rig.say(publisher, Kind::Audio, 6_000, SOUND);
        rig.say(publisher, Kind::Audio, 6_020, SOUND);
        let kinds = |rig: &Rig| rig.peers[player].media(2).iter().map(|at| at.0).collect::<Vec<_>>();
        assert!(kinds(&rig).len() > 2 && kinds(&rig).iter().all(|kind| *kind == type_id::AUDIO), "{:?}", kinds(&rig));
        // Neither, many times; then both again, from a keyframe with its headers.
        for _ in 0..5 {
            choose(&mut rig, "receiveAudio", false);
            choose(&mut rig, "receiveVideo", true);
            choose(&mut rig, "receiveVideo", false);
        }
        let before = kinds(&rig).len();
        rig.video(publisher, 6_040, KEY);
        rig.say(publisher, Kind::Audio, 6_040, SOUND);
        assert_eq!(kinds(&rig).len(), before);
        choose(&mut rig, "receiveVideo", true);
        choose(&mut rig, "receiveAudio", true);
        rig.video(publisher, 6_080, INTER);
        assert_eq!(kinds(&rig).len(), before);
        rig.video(publisher, 6_120, KEY);
        rig.say(publisher, Kind::Audio, 6_120, SOUND);
        let after = rig.peers[player].media(2).split_off(before);
        let after: Vec<_> = after.iter().map(|at| (at.0, at.1, &at.2[..])).collect();
        // The header takes the place of the last audio before.
        let expected = [(type_id::AUDIO, 6_040, AAC), (type_id::VIDEO, 6_120, KEY), (type_id::AUDIO, 6_120, SOUND)];
        assert_eq!(after, expected);
        rig.empty();
    }
}

#[test]
fn play2_goes_over_to_another_stream() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.publish(0, "a"), rig.publish(1, "b"));
    rig.video(a, 0, KEY);
    rig.video(b, 0, KEY);
    let player = rig.play(0, "a");
    rig.allow(player, 1);
    let large = frame(INTER, 1, 300_000);
    rig.video(a, 40, &large);
    rig.command(player, 1, "play2", |out| {
        out.object().key("streamName").string("b").key("transition").string("switch").end();
    });
    rig.allow(player, usize::MAX);
    let next = frame(INTER, 2, 100);
    rig.video(b, 40, &next);
    rig.video(a, 80, INTER);
    assert_eq!(rig.seen(player, 1), [KEY, &large[..], KEY, &next[..]], "the message it was in is whole");
    assert_eq!(rig.metrics[0].players.get(), 1);
    let reset = rig.peers[player].statuses(1).iter().filter(|code| code.ends_with("Play.Reset")).count();
    assert_eq!(reset, 2);
    rig.empty();
}

#[test]
fn a_player_finishes_the_message_it_is_in_whatever_it_asks_for() {
    type Ask = fn(&mut Rig, usize);
    let asks: [Ask; 3] = [
        |rig, player| {
            rig.command(player, 1, "pause", |out| {
                out.boolean(true);
            });
            rig.command(player, 1, "pause", |out| {
                out.boolean(false);
            });
        },
        |rig, player| {
            rig.command(player, 1, "receiveAudio", |out| {
                out.boolean(false);
            });
        },
        |rig, player| {
            rig.command(player, 1, "closeStream", |_| {});
            rig.command(player, 1, "play", |out| {
                out.string("show");
            });
        },
    ];
    for (number, ask) in asks.into_iter().enumerate() {
        for core in [0, 1] {
            let mut rig = Rig::new(2);
            let publisher = rig.publish(0, "show");
            let player = rig.play(core, "show");
            rig.video(publisher, 0, KEY);
            rig.allow(player, 1);
            let large = frame(INTER, 1, 300_000);
            rig.video(publisher, 40, &large);
            ask(&mut rig, player);
            rig.allow(player, usize::MAX);
            let next = frame(KEY, 2, 5_000);
            rig.video(publisher, 80, &next);
            let seen = rig.seen(player, 1);
            assert!(seen.contains(&large), "ask {number} tore the message a player on core {core} was in");
            assert!(seen.ends_with(&[next]), "ask {number} on core {core}");
            rig.empty();
        }
    }
}

#[test]
fn a_form_too_many_is_refused_and_the_client_is_told() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        rig.video(publisher, 0, KEY);
        // Message streams 2 to 8, then 1 without audio: the common form and as many others as there may be.
        let player = rig.play(core, "show");
        for stream in 2..VIEWS_MAX as u32 {
            rig.also(player, stream, "play", "show");
        }
        rig.command(player, 1, "receiveAudio", |out| {
            out.boolean(false);
        });
        let another = rig.play(core, "show");
        rig.command(another, 1, "receiveVideo", |out| {
            out.boolean(false);
        });
        assert_eq!(rig.refused(RefuseReason::Views), 0);
        // A player keeps what it has if it cannot have less; one that would begin with what is too many is told.
        let last = VIEWS_MAX as u32;
        rig.also(player, last, "play", "show");
        assert_eq!(rig.refused(RefuseReason::Views), 1);
        assert_eq!(rig.peers[player].statuses(last).last().map(String::as_str), Some("NetStream.Play.Failed"));
        for round in 2..4 {
            let other = rig.play(core, "show");
            rig.also(other, 2, "play", "show");
            rig.command(other, 2, "receiveVideo", |out| {
                out.boolean(false);
            });
            assert_eq!(rig.refused(RefuseReason::Views), round, "round {round} on core {core}");
            rig.video(publisher, 40 + round as u32, KEY);
            assert_eq!(rig.seen(other, 2).last().map(Vec::as_slice), Some(KEY));
        }
        rig.video(publisher, 80, KEY);
        assert!((1..VIEWS_MAX as u32).all(|stream| rig.seen(player, stream).last().map(Vec::as_slice) == Some(KEY)));
        rig.empty();
    }
}

#[test]
fn who_wanted_less_before_play_than_may_be_had_gets_all() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    let tracks: Vec<_> = (0..VIEWS_MAX).map(|track| rig.play(0, &format!("show?track=v{}", track + 1))).collect();
    let player = rig.play(0, "other");
    rig.command(player, 1, "closeStream", |_| {});
    rig.command(player, 1, "receiveAudio", |out| {
        out.boolean(false);
    });
    rig.command(player, 1, "play", |out| {
        out.string("show");
    });
    assert_eq!(rig.seen(player, 1), [KEY]);
    let refused = rig.connect(0, ClientRole::Play, "show?track=v100");
    rig.settle();
    let said = rig.peers[refused].statuses(1);
    assert_eq!(said, ["NetStream.Play.Failed"], "it is not told first that it plays");
    assert!(tracks.iter().all(|player| rig.peers[*player].open));
    rig.empty();
}

#[test]
fn who_comes_before_the_first_keyframe_begins_there_however_many_come_at_once() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        let player = rig.play(0, "show");
        let messages: Vec<_> = (0..4).map(|round| (round * 20, frame(KEY, round as usize, 100))).collect();
        rig.burst(publisher, &messages);
        let expected: Vec<_> = messages.into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(rig.seen(player, 1), expected);
        let late = rig.play(core, "show");
        assert_eq!(rig.seen(late, 1), expected[3..]);
        rig.empty();
    }
}

#[test]
fn who_wants_neither_audio_nor_video_gets_data_at_once() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    for what in ["receiveAudio", "receiveVideo"] {
        rig.command(player, 1, what, |out| {
            out.boolean(false);
        });
    }
    rig.video(publisher, 0, KEY);
    rig.say(publisher, Kind::Data, 20, b"\x02\0\x0AonCuePoint\x05");
    let got = rig.peers[player].media(1);
    assert_eq!(got.iter().map(|at| at.0).collect::<Vec<_>>(), [type_id::DATA_AMF0]);
    rig.empty();
}

#[test]
fn forms_nobody_receives_are_dropped() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    let before = rig.shared.gauge.bytes();
    for core in [0, 1] {
        let player = rig.play(core, "show");
        rig.also(player, 2, "play", "show");
        rig.also(player, 3, "play", "show");
        assert!(rig.shared.gauge.bytes() > before);
        rig.lose(player, CloseReason::PeerClosed);
        rig.pass(Duration::from_secs(12));
        assert_eq!(rig.shared.gauge.bytes(), before, "core {core}");
    }
    rig.empty();
}

#[test]
fn without_gop_cache_joiners_wait_for_the_next_keyframe_but_those_that_waited_do_not() {
    let mut rig = Rig::with(2, |config| config.gop_cache = false);
    let early = [rig.play(0, "show"), rig.play(1, "show")];
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    let late = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 40, INTER);
    assert!(early.iter().all(|player| rig.seen(*player, 1) == [KEY, INTER]));
    assert!(late.iter().all(|player| rig.seen(*player, 1).is_empty()));
    rig.video(publisher, 80, KEY);
    assert!(late.iter().all(|player| rig.seen(*player, 1) == [KEY]));
    rig.empty();
}

#[test]
fn without_a_keyframe_players_begin_anyway_after_a_while() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, INTER);
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.pass(JOIN_WAIT_DEFAULT - Duration::from_millis(200));
    rig.video(publisher, 40, INTER);
    assert!(players.iter().all(|player| rig.seen(*player, 1).is_empty()));
    rig.pass_ms(400);
    rig.video(publisher, 80, INTER);
    for player in players {
        assert_eq!(rig.peers[player].media(1).iter().map(|at| at.1).collect::<Vec<_>>(), [80]);
    }
    rig.empty();
}

#[test]
fn a_connection_parks_with_its_last_send_unless_something_came_meanwhile() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    rig.video(publisher, 0, KEY);
    rig.peers[player].sends_allowed = 0;
    let id = rig.peers[player].id;
    let next = |rig: &mut Rig| match rig.cores[0].transmit(id) {
        Transmit::Send(piece) => piece,
        other => panic!("{other:?}"),
    };
    rig.video(publisher, 40, INTER);
    let piece = next(&mut rig);
    rig.video(publisher, 80, INTER);
    let length = piece.len();
    assert!(!rig.cores[0].sent(id, piece, length), "the next frame came meanwhile");
    let piece = next(&mut rig);
    assert!(!rig.cores[0].sent(id, piece, 5), "a rest is left");
    let piece = next(&mut rig);
    let length = piece.len();
    assert!(!rig.cores[0].sent(id, piece, length), "after a rest it is to ask");
    assert!(matches!(rig.cores[0].transmit(id), Transmit::Park));
    rig.peers[player].parked = true;
    rig.video(publisher, 120, INTER);
    let piece = next(&mut rig);
    let length = piece.len();
    assert!(rig.cores[0].sent(id, piece, length), "that was all");
    rig.peers[player].parked = true;
    rig.video(publisher, 160, INTER);
    next(&mut rig);
}
