//! A shard that has too much to do, or whose node is short of memory.

use super::rig::{AVC, INTER, KEY, Rig, frame};
use crate::{
    limits,
    rtmp::{
        client::ClientRole,
        message::{Kind, type_id},
    },
    shard::close::{CloseReason, RefuseReason},
};

const MEMORY: u64 = 100 << 20;

/// As much of the memory is used, and the shards have seen it.
fn press(rig: &mut Rig, percent: u64) {
    rig.shared.memory.weigh(MEMORY / 100 * percent, 0, rig.now);
    rig.pass_ms(100);
}

fn node(cores: usize) -> Rig {
    Rig::with(cores, |config| config.ceilings.memory_bytes_max = Some(MEMORY))
}

/// The last thing a peer heard.
fn heard(rig: &Rig, peer: usize) -> &str {
    rig.peers[peer].events.last().map_or("nothing", String::as_str)
}

fn try_to(rig: &mut Rig, core: usize, role: ClientRole, name: &str) -> usize {
    let peer = rig.connect(core, role, name);
    rig.settle();
    peer
}

#[test]
fn players_are_refused_before_publishers_and_nobody_who_is_here_is_touched() {
    let mut rig = node(2);
    let publisher = rig.publish(0, "a");
    rig.video(publisher, 0, AVC);
    let player = rig.play(1, "a");
    press(&mut rig, 81);
    for core in 0..2 {
        let refused = try_to(&mut rig, core, ClientRole::Play, "a");
        assert!(heard(&rig, refused).contains("NetStream.Play.Failed"), "{}", heard(&rig, refused));
        assert!(heard(&rig, refused).contains("overloaded"));
        try_to(&mut rig, core, ClientRole::Publish, &format!("b{core}"));
    }
    assert_eq!((rig.refused(RefuseReason::Overload), rig.metrics[0].overload_level.get()), (2, 1));
    press(&mut rig, 97);
    let refused = try_to(&mut rig, 0, ClientRole::Publish, "c");
    assert!(heard(&rig, refused).contains("NetStream.Publish.Denied"), "{}", heard(&rig, refused));
    rig.video(publisher, 40, KEY);
    assert!(rig.peers[player].open && rig.peers[publisher].open);
    assert_eq!(rig.seen(player, 1).len(), 2);
    press(&mut rig, 10);
    rig.play(0, "a");
}

#[test]
fn without_shedding_everybody_is_served_whatever_is_used() {
    let mut rig = Rig::with(1, |config| {
        config.ceilings.memory_bytes_max = Some(MEMORY);
        config.ceilings.sheds = false;
    });
    press(&mut rig, 99);
    rig.publish(0, "a");
    rig.play(0, "a");
}

#[test]
fn gops_give_way_to_what_memory_there_is_and_players_stay_where_they_are() {
    let mut rig = node(1);
    let publisher = rig.publish(0, "a");
    let player = rig.play(0, "a");
    rig.video(publisher, 0, AVC);
    rig.video(publisher, 0, KEY);
    for n in 0..100 {
        rig.video(publisher, n * 40, &frame(INTER, 1, 100_000));
    }
    rig.pass_ms(100);
    let before = rig.shared.gauge.bytes();
    assert!(before > 9_000_000, "{before} bytes for a GOP of 10 MB");
    for _ in 0..6 {
        press(&mut rig, 76);
    }
    let after = rig.shared.gauge.bytes();
    assert!(after < 1_500_000, "{after} bytes of {before} are left");
    let late = try_to(&mut rig, 0, ClientRole::Play, "a");
    assert!(rig.seen(late, 1).is_empty(), "it waits for the next keyframe");
    rig.video(publisher, 5_000, KEY);
    assert_eq!(rig.seen(late, 1).last().map(Vec::as_slice), Some(KEY));
    assert_eq!(rig.seen(player, 1).len(), 103, "it missed nothing");
}

#[test]
fn those_furthest_behind_are_closed_first_and_those_in_step_never() {
    let mut rig = node(1);
    let publisher = rig.publish(0, "a");
    rig.video(publisher, 0, AVC);
    rig.video(publisher, 0, KEY);
    let players: Vec<_> = (0..9).map(|_| rig.play(0, "a")).collect();
    // The n-th takes nothing from the n-th message on.
    for (n, player) in players.iter().enumerate().take(8) {
        rig.allow(*player, 0);
        rig.video(publisher, 40 * n as u32, &frame(INTER, n, 200_000));
    }
    let is_open = |rig: &Rig| players.iter().map(|peer| rig.peers[*peer].open).collect::<Vec<_>>();
    press(&mut rig, 91);
    assert_eq!(is_open(&rig)[..2], [false, true], "one of seven that are a segment behind");
    rig.pass_ms(200);
    assert_eq!(rig.closed(CloseReason::Overload), 1, "it takes a new look at the memory to go on");
    for _ in 0..20 {
        press(&mut rig, 91);
    }
    let open = is_open(&rig);
    assert_eq!(open[..7], [false; 7]);
    assert!(open[7] && open[8], "one is less than a segment behind, the other in step");
    assert!(rig.peers[publisher].open);
    assert_eq!(rig.closed(CloseReason::Overload), 7);
}

#[test]
fn a_shard_that_stays_full_refuses_players_until_it_has_slack() {
    let mut rig = Rig::new(2);
    let busy = |rig: &mut Rig, load: f64, seconds: u32| {
        for _ in 0..seconds * 10 {
            rig.cores[0].note_load(limits::TICK.mul_f64(load), limits::TICK);
            rig.pass_ms(100);
        }
    };
    busy(&mut rig, 1.0, 4);
    rig.play(0, "a");
    busy(&mut rig, 1.0, 6);
    let refused = try_to(&mut rig, 0, ClientRole::Play, "a");
    assert!(heard(&rig, refused).contains("overloaded"), "{}", heard(&rig, refused));
    rig.play(1, "a");
    busy(&mut rig, 0.2, 15);
    rig.play(0, "a");
}

/// A message of which so many bytes come and the rest never does.
fn hoard(rig: &mut Rig, peer: usize, bytes: usize) {
    let mut out = vec![41, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0];
    for n in 0..bytes / 100_000 {
        if n > 0 {
            out.push(0xC0 | 41);
        }
        out.resize(out.len() + 100_000, 0);
    }
    rig.peers[peer].session.output().extend_from_slice(&out);
    rig.settle();
}

#[test]
fn those_that_hoard_messages_are_closed_and_publishers_with_a_long_one_are_not() {
    // A quarter of it, but at least 4 MiB: four shards have 6.25 MiB each.
    let mut rig = node(4);
    let publisher = rig.publish(0, "a");
    hoard(&mut rig, publisher, 3_000_000);
    let players: Vec<_> = (0..4).map(|n| rig.play(0, &format!("b{n}"))).collect();
    for (peer, bytes) in players.iter().zip([300_000, 900_000, 700_000, 200_000]) {
        hoard(&mut rig, *peer, bytes);
    }
    assert_eq!(rig.closed(CloseReason::AssemblyBytes), 0);
    let held = rig.metrics[0].assembly_bytes.get();
    assert!((5_100_000..12_000_000).contains(&held), "{held}");
    let one_more = rig.play(0, "c");
    hoard(&mut rig, one_more, 4_000_000);
    let open: Vec<bool> = players.iter().chain([&one_more, &publisher]).map(|peer| rig.peers[*peer].open).collect();
    assert!(!open[4] && open[5], "{open:?}");
    assert!(rig.closed(CloseReason::AssemblyBytes) >= 1);
    let held = rig.metrics[0].assembly_bytes.get();
    assert!(held <= (MEMORY / 16) as i64, "{held}");
    for peer in players.into_iter().chain([publisher]).collect::<Vec<_>>() {
        if rig.peers[peer].open {
            rig.lose(peer, CloseReason::PeerReset);
        }
    }
    assert_eq!(rig.metrics[0].assembly_bytes.get(), 0, "nothing is left of them");
}

#[test]
fn publishers_that_hoard_keep_to_the_bound_and_those_with_a_keyframe_stay() {
    // 25 MiB, 13 holders.
    let mut rig = node(1);
    let fair: Vec<_> = (0..6).map(|n| rig.publish(0, &format!("fair{n}"))).collect();
    fair.iter().for_each(|peer| hoard(&mut rig, *peer, 900_000));
    for n in 0..7 {
        let hoarder = rig.publish(0, &format!("hoarder{n}"));
        hoard(&mut rig, hoarder, 15_000_000);
        let held = rig.metrics[0].assembly_bytes.get();
        assert!(held <= (MEMORY / 4) as i64, "{held} after {n}");
    }
    assert!(rig.closed(CloseReason::AssemblyBytes) >= 6);
    assert!(fair.iter().all(|peer| rig.peers[*peer].open));
}

#[test]
fn a_publisher_that_stays_above_its_bit_rate_is_told_and_closed() {
    let mut rig = Rig::with(1, |config| config.ceilings.publish_bitrate_max = 1_000_000);
    let [loud, fair] = ["loud", "fair"].map(|name| rig.publish(0, name));
    let send = |rig: &mut Rig, second: u32| {
        for n in 0..10 {
            for (peer, bytes) in [(loud, 20_000), (fair, 12_000)] {
                rig.say(peer, Kind::Video, second * 1_000 + n * 100, &frame(INTER, 1, bytes));
            }
            rig.pass_ms(100);
        }
    };
    (0..6).for_each(|second| send(&mut rig, second));
    assert_eq!((rig.metrics[0].publish_rate_warnings.get(), rig.closed(CloseReason::PublishBitrate)), (1, 0));
    (6..11).for_each(|second| send(&mut rig, second));
    assert_eq!(rig.closed(CloseReason::PublishBitrate), 1);
    assert!(!rig.peers[loud].open && rig.peers[fair].open);
    assert!(rig.peers[loud].statuses(1).contains(&"NetStream.Unpublish.Success".to_owned()));
}

#[test]
fn the_bit_rate_is_that_of_a_connection_whatever_it_publishes() {
    let limited = || Rig::with(1, |config| config.ceilings.publish_bitrate_max = 1_000_000);
    // 1.6 Mb/s on one message stream, and its publish ended and begun anew each 4 s.
    let mut rig = limited();
    let publisher = rig.publish(0, "a");
    for n in 0..120 {
        if !rig.peers[publisher].open {
            break;
        }
        if n % 40 == 39 {
            rig.command(publisher, 1, "closeStream", |_| {});
            rig.command(publisher, 1, "publish", |out| {
                out.string("a");
            });
        }
        rig.say(publisher, Kind::Video, n * 100, &frame(INTER, 1, 20_000));
        rig.pass_ms(100);
    }
    assert_eq!((rig.closed(CloseReason::PublishBitrate), rig.peers[publisher].open), (1, false));
    // Twice 0.8 Mb/s.
    let mut rig = limited();
    let publisher = rig.publish(0, "a");
    rig.also(publisher, 2, "publish", "b");
    for n in 0..120 {
        rig.say(publisher, Kind::Video, n * 100, &frame(INTER, 1, 10_000));
        if rig.peers[publisher].open && rig.metrics[0].publishers.get() == 2 {
            // Of a chunk each.
            for _ in 0..100 {
                rig.queue(publisher, type_id::VIDEO, 2, &frame(INTER, 1, 100));
            }
        }
        rig.pass_ms(100);
    }
    assert_eq!(rig.metrics[0].publishers.get(), 0);
    assert_eq!((rig.closed(CloseReason::PublishBitrate), rig.peers[publisher].open), (1, false));
}
