//! Every reason a core closes a connection for, each counted once and with that connection only.

use std::time::Duration;

use super::rig::{INTER, KEY, Rig, frame};
use crate::{
    limits::{
        ASIDES_PER_SECOND_MAX, CHUNK_STREAMS_MAX, CONNECT_DEADLINE, HANDSHAKE_DEADLINE, LAG_BYTES_MAX,
        PROGRESS_DEADLINE, REQUEST_DEADLINE, SKIPS_MAX, STRAY_MEDIA_MESSAGES_MAX, UNKNOWN_MESSAGES_MAX,
        WAITED_NAMES_MAX,
    },
    rtmp::{client::ClientRole, key::StreamKey, message::type_id},
    shard::close::{CloseReason, RefuseReason},
};

/// A connected client that asks for nothing any more, and a publisher and a player beside it.
fn company() -> (Rig, usize, usize, usize) {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    let guest = rig.play(0, "elsewhere");
    (rig, publisher, player, guest)
}

/// Bytes straight to the core, in a connection that said nothing yet.
fn first_bytes(bytes: &[u8]) -> (Rig, usize) {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, ClientRole::Play, "show");
    let _ = rig.peers[peer].session.take_output();
    rig.peers[peer].session.output().extend_from_slice(bytes);
    rig.settle();
    (rig, peer)
}

#[test]
fn what_is_no_rtmp_is_told_apart() {
    for (bytes, reason) in [
        (&[9; 200][..], CloseReason::HandshakeVersion),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", CloseReason::NotRtmp),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", CloseReason::NotRtmp),
    ] {
        let (mut rig, peer) = first_bytes(bytes);
        assert!(!rig.peers[peer].open);
        assert_eq!(rig.closed(reason), 1, "{reason:?}");
        rig.empty();
    }
}

#[test]
fn silence_ends_at_the_deadline_of_what_is_owed() {
    let (mut rig, peer) = first_bytes(&[]);
    rig.pass(HANDSHAKE_DEADLINE - Duration::from_millis(100));
    assert!(rig.peers[peer].open);
    rig.pass_ms(100);
    assert_eq!(rig.closed(CloseReason::HandshakeTimeout), 1);
    rig.empty();

    let mut rig = Rig::new(1);
    let silent = rig.connect(0, ClientRole::Play, "show");
    let c0c1 = rig.peers[silent].session.take_output();
    let c2 = vec![0; 1_536];
    rig.peers[silent].session.output().extend_from_slice(&[&c0c1[..], &c2].concat());
    // It takes nothing, so its client never says connect.
    rig.peers[silent].sends_allowed = 0;
    rig.pass(CONNECT_DEADLINE);
    assert_eq!(rig.closed(CloseReason::ConnectTimeout), 1);
    let idle = rig.play(0, "show");
    rig.command(idle, 1, "closeStream", |_| {});
    rig.pass(REQUEST_DEADLINE + Duration::from_millis(100));
    assert_eq!(rig.closed(CloseReason::RequestTimeout), 1);
    rig.empty();
}

#[test]
fn a_hostile_peer_closes_its_own_connection_only() {
    type Attack = fn(&mut Rig, usize);
    let attacks: [(CloseReason, Attack); 11] = [
        (CloseReason::ChunkSize, |rig, peer| rig.inject(peer, type_id::SET_CHUNK_SIZE, 0, &[0; 4])),
        (CloseReason::ControlLength, |rig, peer| rig.inject(peer, type_id::ACKNOWLEDGEMENT, 0, &[0; 2])),
        (CloseReason::ChunkFormat, |rig, peer| say(rig, peer, &[0x80 | 50, 0, 0, 1])),
        (CloseReason::ChunkStreams, |rig, peer| {
            for low in 0..CHUNK_STREAMS_MAX as u8 {
                say(rig, peer, &[0, low, 0, 0, 0, 0, 0, 0, 19, 0, 0, 0, 0]);
            }
        }),
        (CloseReason::UnknownMessages, |rig, peer| {
            (0..=UNKNOWN_MESSAGES_MAX).for_each(|_| rig.inject(peer, 99, 0, b"?"));
        }),
        (CloseReason::Amf, |rig, peer| rig.inject(peer, type_id::COMMAND_AMF0, 0, b"\x02\x00\x09short")),
        (CloseReason::StrayMedia, |rig, peer| {
            (0..=STRAY_MEDIA_MESSAGES_MAX).for_each(|_| rig.inject(peer, type_id::AUDIO, 7, b"\xAF\x01"));
        }),
        (CloseReason::ReplyBacklog, |rig, peer| {
            rig.peers[peer].sends_allowed = 0;
            for _ in 0..10 {
                for _ in 0..1_000 {
                    rig.inject(peer, type_id::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 1]);
                }
                rig.pass_ms(1_000);
            }
            rig.allow(peer, usize::MAX);
        }),
        (CloseReason::Flood, |rig, peer| {
            (0..=ASIDES_PER_SECOND_MAX).for_each(|_| rig.inject(peer, type_id::WINDOW_ACK_SIZE, 0, &[0, 1, 0, 0]));
        }),
        (CloseReason::InFlightBytes, in_flight),
        (CloseReason::PeerReset, |rig, peer| rig.lose(peer, CloseReason::PeerReset)),
    ];
    for (reason, attack) in attacks {
        let (mut rig, publisher, player, guest) = company();
        attack(&mut rig, guest);
        rig.pass_ms(100);
        assert!(!rig.peers[guest].open, "{reason:?}");
        assert_eq!(rig.closed(reason), 1, "{reason:?}");
        rig.video(publisher, 0, KEY);
        assert_eq!(rig.seen(player, 1), [KEY]);
        rig.empty();
    }
}

fn say(rig: &mut Rig, peer: usize, bytes: &[u8]) {
    rig.peers[peer].session.output().extend_from_slice(bytes);
    rig.settle();
}

/// Forty messages of a megabyte, none of which is finished.
fn in_flight(rig: &mut Rig, peer: usize) {
    let chunk_bytes = 1_000_000_u32;
    say(rig, peer, &[&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &chunk_bytes.to_be_bytes()].concat());
    for csid in 20..60 {
        let mut chunk = vec![csid, 0, 0, 0, 0x1F, 0xFF, 0xFF, 9, 1, 0, 0, 0];
        chunk.resize(12 + chunk_bytes as usize, 0);
        say(rig, peer, &chunk);
    }
}

#[test]
fn connects_that_cannot_be_used_are_refused_and_then_closed() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, ClientRole::Play, "show");
    let c0c1 = rig.peers[peer].session.take_output();
    rig.peers[peer].sends_allowed = 0;
    say(&mut rig, peer, &[&c0c1[..], &[0; 1_536]].concat());
    rig.command(peer, 0, "createStream", |_| {});
    assert_eq!(rig.refused(RefuseReason::BeforeConnect), 1);
    for _ in 0..3 {
        rig.command(peer, 0, "connect", |_| {});
    }
    assert_eq!((rig.refused(RefuseReason::Connect), rig.closed(CloseReason::Connect)), (2, 1));
    rig.allow(peer, usize::MAX);
    rig.empty();
}

#[test]
fn requests_are_refused_each_for_its_reason_and_the_connection_lives_on() {
    let (mut rig, publisher, _, guest) = company();
    let play = |rig: &mut Rig, stream, name: &str| {
        rig.command(guest, stream, "play", |out| {
            out.string(name);
        });
    };
    rig.command(guest, 1, "publish", |out| {
        out.string("again");
    });
    play(&mut rig, 5, "nowhere");
    rig.command(guest, 0, "createStream", |_| {});
    play(&mut rig, 2, "../secret");
    for _ in 0..7 {
        rig.command(guest, 0, "createStream", |_| {});
    }
    rig.command(guest, 2, "publish", |out| {
        out.string("show");
    });
    for reason in [
        RefuseReason::StreamBusy,
        RefuseReason::NoSuchMessageStream,
        RefuseReason::BadName,
        RefuseReason::MessageStreams,
        RefuseReason::NameTaken,
    ] {
        assert_eq!(rig.refused(reason), 1, "{reason:?}");
    }
    assert!(rig.peers[guest].open);
    play(&mut rig, 2, "show");
    rig.video(publisher, 0, KEY);
    assert_eq!(rig.seen(guest, 2), [KEY]);
    rig.empty();
}

#[test]
fn a_send_that_does_not_end_is_given_up() {
    let (mut rig, publisher, player, guest) = company();
    let id = rig.peers[guest].id;
    rig.inject(guest, type_id::USER_CONTROL, 0, &[0, 3, 0, 0]);
    rig.peers[guest].sends_allowed = 0;
    rig.command(guest, 0, "_checkbw", |_| {});
    assert!(matches!(rig.cores[0].transmit(id), crate::shard::core::Transmit::Send(_)));
    rig.pass(PROGRESS_DEADLINE - Duration::from_millis(100));
    assert!(rig.peers[guest].open);
    rig.pass_ms(100);
    assert!(!rig.peers[guest].open);
    assert_eq!(rig.closed(CloseReason::NoProgress), 1);
    rig.video(publisher, 0, KEY);
    assert_eq!(rig.seen(player, 1), [KEY]);
    rig.empty();
}

#[test]
fn a_player_too_far_behind_is_closed_and_its_memory_comes_back() {
    for core in [0, 1] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        let players = [rig.play(0, "show"), rig.play(core, "show")];
        rig.video(publisher, 0, KEY);
        rig.allow(players[1], 0);
        let large = frame(INTER, 1, 4 << 20);
        for round in 0..LAG_BYTES_MAX / (4 << 20) + 2 {
            rig.video(publisher, round as u32, &large);
        }
        assert!(rig.shared.gauge.bytes() <= LAG_BYTES_MAX + (10 << 20), "{}", rig.shared.gauge.bytes());
        rig.pass_ms(200);
        assert_eq!(rig.closed(CloseReason::LagBytes), 1);
        assert_eq!(rig.seen(players[0], 1).len() as u64, LAG_BYTES_MAX / (4 << 20) + 3);
        rig.pass_ms(200);
        assert!(rig.shared.gauge.bytes() < 40 << 20, "{}", rig.shared.gauge.bytes());
        rig.empty();
    }
}

#[test]
fn a_player_that_only_skips_is_closed() {
    let mut rig = Rig::with(1, |config| config.lag_max = Duration::from_millis(200));
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    rig.video(publisher, 0, KEY);
    for round in 1..=SKIPS_MAX + 1 {
        assert!(rig.peers[player].open, "round {round}");
        rig.allow(player, 0);
        rig.video(publisher, round * 1_000, INTER);
        rig.pass_ms(300);
        rig.video(publisher, round * 1_000 + 300, KEY);
        rig.allow(player, usize::MAX);
    }
    assert_eq!((rig.closed(CloseReason::Skips), rig.metrics[0].skips.get()), (1, u64::from(SKIPS_MAX) + 1));
    assert!(!rig.peers[player].open);
    rig.empty();
}

#[test]
fn a_player_of_one_name_too_many_is_refused_and_counted() {
    let mut rig = Rig::new(1);
    let key = |name: usize| StreamKey::new("", "crowd", &name.to_string()).expect("valid");
    for name in 0..WAITED_NAMES_MAX {
        rig.shared.directory.follow(&key(name), 9).expect("room");
    }
    let player = rig.connect(0, ClientRole::Play, "show");
    rig.settle();
    assert_eq!(rig.refused(RefuseReason::WaitedNames), 1);
    assert_eq!(rig.peers[player].statuses(1), ["NetStream.Play.Failed"]);
    assert!(!rig.peers[player].open);
    for name in 0..WAITED_NAMES_MAX {
        rig.shared.directory.unfollow(&key(name), 9);
    }
    rig.empty();
}
