//! Streams pulled: on demand, from backups, from where a source sends, and never in circles.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        liar::Lie,
        relay_sim::rng::Rng,
        rig::{AAC, AVC, INTER, KEY},
        world::{Health, World},
    },
    *,
};
use crate::{
    relay::{lookup::Weighted, pattern::Pattern, rules::PullRule, template::Template},
    rtmp::{client::ClientRole, message::Kind},
    shard::{
        close::{CloseReason, RefuseReason},
        relaying::report::RelayReport,
    },
};

#[test]
fn players_on_all_shards_share_one_connection_to_the_origin_and_see_what_was_published() {
    let mut world = chain(2, 3);
    let publisher = world.begin(0, "show");
    let origin_player = world.ask(0, 1, "show");
    let players: Vec<usize> = (0..6).map(|index| world.ask(1, index % 3, "show")).collect();
    assert_eq!(world.dialled[0], 1);
    world.second(&[(0, publisher)], 0);
    world.second(&[(0, publisher)], 1_000);
    let expected = world.nodes[0].peers[origin_player].media(1);
    assert_eq!(expected.len(), 2 + 100);
    for player in players {
        assert_eq!(world.nodes[1].peers[player].media(1), expected);
    }
    assert_eq!(world.dialled[0], 1);
    world.empty();
}

#[test]
fn a_pull_outlives_its_last_player_for_the_linger_only() {
    let mut world = chain(2, 2);
    let publisher = world.begin(0, "show");
    let first = world.ask(1, 0, "show");
    world.second(&[(0, publisher)], 0);
    world.nodes[1].lose(first, CloseReason::PeerReset);
    world.second(&[(0, publisher)], 1_000);
    assert_eq!(world.links(), 1, "it lingers");
    let second = world.ask(1, 1, "show");
    assert!(!world.frames(1, second).is_empty(), "the keyframe is there at once");
    world.nodes[1].lose(second, CloseReason::PeerReset);
    for second in 2..7 {
        world.second(&[(0, publisher)], second * 1_000);
    }
    assert_eq!((world.links(), world.dialled[0]), (0, 1));
    world.empty();
}

#[test]
fn a_stream_pulled_again_keeps_its_sources_times() {
    let mut world = chain(2, 1);
    let publisher = world.begin(0, "show");
    let first = world.ask(1, 0, "show");
    world.second(&[(0, publisher)], 0);
    world.nodes[1].lose(first, CloseReason::PeerReset);
    for second in 1..6 {
        world.second(&[(0, publisher)], second * 1_000);
    }
    assert_eq!(world.links(), 0, "nobody wants it any more");
    let second = world.ask(1, 0, "show");
    world.second(&[(0, publisher)], 6_000);
    assert_eq!(world.dialled[0], 2);
    for kind in [Kind::Video, Kind::Audio] {
        let got = world.got(1, second, kind);
        let media: Vec<_> = got.iter().filter(|(_, payload)| payload != AVC && payload != AAC).collect();
        let sent = |payload: &[u8]| payload.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let late_by = if kind == Kind::Audio { 5 } else { 0 };
        // From the origin's last keyframe on.
        assert_eq!(media.first().and_then(|(_, payload)| sent(payload)), Some(5_000), "{kind:?}");
        assert!(media.iter().all(|(time, payload)| sent(payload) == Some(*time - late_by)), "{kind:?}: {media:?}");
        assert_eq!(media.len(), 50, "{kind:?}");
    }
    world.empty();
}

#[test]
fn a_stream_that_exists_nowhere_is_refused_within_the_time_outs_and_asked_for_once_in_a_while() {
    let mut world = chain(2, 2);
    world.health[0] = Health::Down;
    for round in 0..200 {
        let player = world.ask(1, round % 2, "none");
        world.pass_ms(10);
        if !world.nodes[1].peers[player].open {
            continue;
        }
        world.pass_ms(200);
        assert!(!world.nodes[1].peers[player].open, "round {round}");
    }
    assert_eq!(world.nodes[1].refused(RefuseReason::NotFound), 200);
    assert!((1..=6).contains(&world.dialled[0]), "{} attempts in seconds", world.dialled[0]);
    world.empty();
}

#[test]
fn a_stream_that_comes_later_is_found_later() {
    let mut world = chain(2, 1);
    world.health[0] = Health::Down;
    let early = world.ask(1, 0, "show");
    world.pass_ms(500);
    assert!(!world.nodes[1].peers[early].open);
    world.health[0] = Health::Well;
    let publisher = world.begin(0, "show");
    world.second(&[(0, publisher)], 0);
    world.second(&[(0, publisher)], 1_000);
    let late = world.ask(1, 0, "show");
    world.second(&[(0, publisher)], 2_000);
    assert!(!world.frames(1, late).is_empty());
    world.empty();
}

#[test]
fn a_backup_takes_over_and_the_primary_again_when_it_is_well() {
    for silent in [false, true] {
        let mut world = edge_of_two();
        let publishers = [(1, world.begin(1, "show")), (2, world.begin(2, "show"))];
        let player = world.ask(0, 0, "show");
        for second in 0..2 {
            world.second(&publishers, second * 1_000);
        }
        assert_eq!(world.dialled, [0, 1, 0]);
        world.health[1] = if silent { Health::Silent } else { Health::Down };
        world.strike(1, silent);
        for second in 2..8 {
            world.second(&publishers, second * 1_000);
        }
        assert!(world.dialled[2] >= 1);
        let frames = world.frames(0, player);
        never_step_back(&frames);
        never_step_back(&world.got(0, player, Kind::Audio));
        let last = frames.last().expect("frames").0;
        assert!(last >= 7_900, "it goes on, silent {silent}: {last}");
        let mut payloads: Vec<_> = frames.iter().map(|(_, payload)| payload.clone()).collect();
        payloads.dedup();
        assert_eq!(payloads.len(), frames.len(), "none twice");
        // The primary is back.
        world.health[1] = Health::Well;
        let again = [(1, world.begin_again(1, "show")), publishers[1]];
        for second in 8..40 {
            world.second(&again, second * 1_000);
        }
        let pulled = world.nodes[1].peers.len();
        assert!(pulled > 0 && world.nodes[0].peers[player].open);
        let report = RelayReport::of([world.nodes[0].cores[0].relay_report()].into_iter());
        assert!(report.pulls[0].source.contains("n1"), "{report:?}");
        let frames = world.frames(0, player);
        never_step_back(&frames);
        assert!(frames.last().expect("frames").0 >= 39_900);
        world.empty();
    }
}

#[test]
fn a_source_that_lies_is_left_for_the_backup() {
    for lie in Lie::ALL {
        let mut world = edge_of_two();
        world.health[1] = Health::Lying(lie);
        let backup = [(2, world.begin(2, "show"))];
        let player = world.ask(0, 0, "show");
        for second in 0..5 {
            world.second(&backup, second * 1_000);
        }
        let frames = world.frames(0, player);
        assert!(frames.last().is_some_and(|last| last.0 >= 4_900), "{lie:?}: {frames:?}");
        world.empty();
    }
}

#[test]
fn who_publishes_here_comes_before_any_source() {
    let mut world = chain(2, 1);
    let theirs = world.begin(0, "show");
    let ours = world.begin(1, "show");
    let player = world.ask(1, 0, "show");
    world.second(&[(1, ours)], 0);
    assert_eq!((world.dialled[0], world.frames(1, player).len()), (0, 25));
    world.nodes[1].lose(ours, CloseReason::PeerReset);
    world.settle();
    for second in 1..9 {
        world.second(&[(0, theirs)], second * 1_000);
    }
    assert_eq!(world.dialled[0], 1, "after the grace");
    let frames = world.frames(1, player);
    never_step_back(&frames);
    assert!(frames.len() > 40);
    // While it is pulled, the name is taken.
    let late = world.nodes[1].connect(0, ClientRole::Publish, "show");
    world.settle();
    assert!(world.nodes[1].peers[late].events[0].contains("BadName"), "{:?}", world.nodes[1].peers[late].events);
    world.empty();
}

#[test]
fn nodes_that_pull_from_each_other_do_not_go_in_circles() {
    let mut world = World::new(2, 2, |node, config| {
        pulls(config, "live/*", &[&format!("rtmp://n{}/live/{{stream}}", 1 - node)]);
    });
    let player = world.ask(0, 0, "none");
    world.pass_ms(3_000);
    assert!(!world.nodes[0].peers[player].open, "it is told");
    assert!(world.dialled.iter().sum::<usize>() <= 4, "{:?}", world.dialled);
    let refused: u64 = world.nodes.iter().map(|node| node.refused(RefuseReason::Loop)).sum();
    assert!(refused >= 1);
    // What is published at either is had at both.
    world.pass_ms(20_000);
    let publisher = world.begin(1, "show");
    let player = world.ask(0, 1, "show");
    world.second(&[(1, publisher)], 0);
    assert_eq!(world.frames(0, player).len(), 25);
    world.empty();
}

#[test]
fn a_chain_of_nodes_passes_everything_on() {
    let mut world = chain(4, 2);
    let publisher = world.begin(0, "show");
    let player = world.ask(3, 1, "show");
    world.second(&[(0, publisher)], 0);
    world.second(&[(0, publisher)], 1_000);
    assert_eq!(world.frames(3, player).len(), 50);
    assert_eq!(world.dialled, [1, 1, 1, 0]);
    world.empty();
}

#[test]
fn what_is_always_on_is_there_before_anybody_asks() {
    let mut world = World::new(2, 3, |node, config| {
        if node == 1 {
            pulls(config, "live/show", &["rtmp://n0/live/show"]);
            config.relays.pulls[0].always = true;
        }
    });
    let publisher = world.begin(0, "show");
    for second in 0..4 {
        world.second(&[(0, publisher)], second * 1_000);
    }
    assert_eq!(world.links(), 1);
    let player = world.ask(1, 2, "show");
    assert!(!world.frames(1, player).is_empty(), "a keyframe is there at once");
}

#[test]
fn what_is_always_on_and_published_here_asks_no_source() {
    let mut world = World::new(2, 1, |node, config| {
        if node == 1 {
            pulls(config, "live/show", &["rtmp://n0/live/show"]);
            config.relays.pulls[0].always = true;
        }
    });
    // The source has nothing yet, so the name is free here.
    world.second(&[], 0);
    let ours = world.begin(1, "show");
    let theirs = world.begin(0, "show");
    for second in 1..5 {
        world.second(&[(0, theirs), (1, ours)], second * 1_000);
    }
    let dialled = world.dialled[0];
    for second in 5..12 {
        world.second(&[(0, theirs), (1, ours)], second * 1_000);
    }
    assert_eq!(world.dialled[0], dialled, "before: {dialled}");
    world.nodes[1].lose(ours, CloseReason::PeerReset);
    for second in 12..20 {
        world.second(&[(0, theirs)], second * 1_000);
    }
    assert_eq!((world.dialled[0], world.links()), (dialled + 1, 1), "after the grace");
}

#[test]
fn the_stream_goes_back_to_a_primary_that_is_behind_without_a_gap() {
    for (primary_ms, backup_ms) in [(0, 120), (120, 0), (0, 0)] {
        go_back(2_000, [primary_ms, backup_ms], || true);
    }
}

/// Keyframes are as far apart as a stream is held back for.
#[test]
fn the_stream_goes_back_without_a_gap_whatever_the_delays_on_the_way() {
    for seed in 1..200 {
        println!("seed {seed}");
        let mut random = Rng::new(seed);
        go_back(1_000, [40, 0], || random.chance(50));
    }
}

/// A primary and a backup with the publishers of one stream, which are behind the clock by `behind_ms`. The primary is
/// there from the eighth second on; its stream has no gaps in it. `sends` says whether one of them sends what it has.
fn go_back(gop_ms: u32, behind_ms: [i64; 2], mut sends: impl FnMut() -> bool) {
    let mut world = edge_of_two();
    world.health[1] = Health::Down;
    let publishers = [(1, world.begin(1, "show")), (2, world.begin(2, "show"))];
    let player = world.ask(0, 0, "show");
    let mut next = [0_u32; 2];
    for at_ms in (0..30_000_i64).step_by(40) {
        if at_ms == 8_000 {
            world.health[1] = Health::Well;
        }
        for which in [0, 1] {
            let due = if sends() { at_ms - behind_ms[which] } else { -1 };
            while i64::from(next[which]) <= due {
                let timestamp = next[which];
                let frame = if timestamp.is_multiple_of(gop_ms) { KEY } else { INTER };
                let payload = [frame, &timestamp.to_be_bytes()].concat();
                world.send(publishers[which].0, publishers[which].1, timestamp, Kind::Video, &payload);
                next[which] += 40;
            }
        }
        world.pass_ms(40);
    }
    let report = RelayReport::of([world.nodes[0].cores[0].relay_report()].into_iter());
    assert!(report.pulls[0].source.contains("n1"), "it is back: {report:?}");
    let times: Vec<_> = world.frames(0, player).into_iter().map(|(timestamp, _)| timestamp).collect();
    let gaps: Vec<_> = times.windows(2).filter(|pair| pair[1] != pair[0] + 40).collect();
    assert!(gaps.is_empty(), "behind by {behind_ms:?}: {gaps:?}");
    world.empty();
}

#[test]
fn a_source_that_asks_to_be_left_is_left_for_where_it_says_without_a_gap() {
    let mut world = World::new(3, 1, |node, config| {
        if node == 0 {
            pulls(config, "live/*", &["rtmp://n1/live/{stream}"]);
        }
    });
    let publishers = [(1, world.begin(1, "show")), (2, world.begin(2, "show"))];
    let player = world.ask(0, 0, "show");
    for second in 0..3 {
        world.second(&publishers, second * 1_000);
    }
    ask_to_leave_for_n2(&mut world);
    for second in 3..8 {
        world.second(&publishers, second * 1_000);
    }
    assert_eq!((world.dialled[1], world.dialled[2], world.links()), (1, 1, 1));
    let times: Vec<_> = world.frames(0, player).into_iter().map(|(timestamp, _)| timestamp).collect();
    assert_eq!(times, (0..200).map(|frame| frame * 40).collect::<Vec<_>>());
    world.empty();
}

#[test]
fn a_lost_origins_streams_move_and_others_stay() {
    let origins = ["rtmp://n1/live/{stream}", "rtmp://n2/live/{stream}", "rtmp://n3/live/{stream}"];
    let mut world = World::new(4, 1, |node, config| {
        if node == 0 {
            let templates = origins.iter().map(|origin| (Template::parse(origin).expect("a template"), 1)).collect();
            config.relays.pulls.push(PullRule {
                pattern: Pattern::parse("live/*").expect("a pattern"),
                origins: Arc::new(Weighted { origins: templates, backups: Vec::new() }),
                always: false,
                linger: Duration::from_secs(3),
            });
        }
    });
    let names: Vec<String> = (0..12).map(|index| format!("s{index}")).collect();
    let mut publishers = Vec::new();
    for node in 1..4 {
        publishers.extend(names.iter().map(|name| (node, world.begin(node, name))).collect::<Vec<_>>());
    }
    let players: Vec<usize> = names.iter().map(|name| world.ask(0, 0, name)).collect();
    world.second(&publishers, 0);
    let before = world.dialled.clone();
    assert_eq!(before.iter().sum::<usize>(), 12, "each stream at one origin");
    assert!(before[1..].iter().all(|dialled| *dialled > 0), "{before:?}");
    world.health[1] = Health::Down;
    world.strike(1, false);
    let publishers: Vec<_> = publishers.into_iter().filter(|(node, _)| *node != 1).collect();
    for second in 1..4 {
        world.second(&publishers, second * 1_000);
    }
    let moved = world.dialled[2] + world.dialled[3] - before[2] - before[3];
    let reports = RelayReport::of([world.nodes[0].cores[0].relay_report()].into_iter()).pulls;
    let attempts: Vec<_> = reports.iter().map(|pull| (&pull.source, pull.attempts, &pull.last_fault)).collect();
    assert_eq!(moved, before[1], "those of the lost one, once each: {attempts:?}");
    for player in players {
        assert!(world.frames(0, player).last().expect("frames").0 >= 3_900);
    }
    world.empty();
}

#[test]
fn a_source_that_is_silent_is_said_to_be() {
    let mut world = edge_of_two();
    let [primary, backup] = [1, 2].map(|node| world.begin(node, "show"));
    let player = world.ask(0, 0, "show");
    world.second(&[(1, primary), (2, backup)], 0);
    for second in 1..5 {
        world.second(&[(2, backup)], second * 1_000);
    }
    assert!(world.frames(0, player).len() > 50);
    let report = RelayReport::of([world.nodes[0].cores[0].relay_report()].into_iter());
    let fault = report.pulls[0].last_fault.as_deref().unwrap_or_default();
    assert!(fault.contains("--upstream-stall-ms"), "{fault}");
}

#[test]
fn an_origin_without_gop_cache_gives_nodes_the_gop_and_players_the_next_keyframe() {
    let mut world = World::new(2, 2, |node, config| {
        config.gop_cache = false;
        if node == 1 {
            pulls(config, "live/*", &["rtmp://n0/live/{stream}"]);
        }
    });
    let publisher = world.begin(0, "show");
    world.send(0, publisher, 0, Kind::Video, KEY);
    let late = world.ask(0, 1, "show");
    let beyond = world.ask(1, 1, "show");
    // More than the time-outs to the next keyframe.
    for at in 1..100 {
        world.send(0, publisher, at * 40, Kind::Video, INTER);
        world.pass_ms(40);
    }
    assert_eq!(world.frames(0, late).len(), 0);
    assert_eq!(world.frames(1, beyond).len(), 100);
    world.empty();
}
