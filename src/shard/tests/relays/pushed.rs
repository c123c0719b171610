//! Streams pushed: to all targets, whatever one of them does, and to their end.

use super::{
    super::world::{Health, World},
    *,
};
use crate::{
    rtmp::message::Kind,
    shard::{
        close::{CloseReason, RefuseReason},
        relaying::report::RelayReport,
    },
};

#[test]
fn a_stream_is_pushed_to_all_targets_and_a_dead_one_is_nobody_elses_matter() {
    let mut world = World::new(4, 2, |node, config| {
        if node == 0 {
            let targets = ["rtmp://n1/live/{stream}", "rtmp://n2/app/secret", "rtmp://n3/live/{stream}"];
            pushes(config, "live/*", &targets);
        }
    });
    world.health[3] = Health::Unreachable;
    let publisher = world.begin(0, "show");
    let meta = b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\0\x09";
    world.send(0, publisher, 0, Kind::Data, meta);
    let at_first = world.ask(1, 1, "show");
    world.pass_ms(200);
    for second in 0..3 {
        world.second(&[(0, publisher)], second * 1_000);
    }
    assert_eq!(world.frames(1, at_first).len(), 75);
    assert_eq!(world.got(1, at_first, Kind::Data).iter().filter(|(_, payload)| payload == meta).count(), 1);
    assert!(
        world.nodes[2].cores[0]
            .directory
            .owner(&crate::rtmp::key::StreamKey::new("", "app", "secret").expect("a key"))
            .is_some()
    );
    assert_eq!(world.links(), 2);
    let reports = RelayReport::of(world.nodes[0].cores.iter().map(|core| core.relay_report())).pushes;
    assert_eq!(reports.len(), 3);
    assert_eq!(reports.iter().filter(|push| push.bits_per_second > 0).count(), 2, "{reports:?}");
    assert!(!format!("{reports:?}").contains("secret"), "{reports:?}");
    // It comes to life.
    world.health[3] = Health::Well;
    let at_third = world.ask(3, 0, "show");
    for second in 3..12 {
        world.second(&[(0, publisher)], second * 1_000);
    }
    assert!(world.frames(3, at_third).len() >= 100);
    assert_eq!(world.frames(1, at_first).len(), 300);
    world.empty();
}

#[test]
fn a_publisher_that_comes_back_goes_on_over_the_same_connections() {
    let mut world = World::new(2, 2, |node, config| {
        if node == 0 {
            pushes(config, "live", &["rtmp://n1"]);
        }
    });
    let publisher = world.begin(0, "show");
    let player = world.ask(1, 0, "show");
    world.second(&[(0, publisher)], 0);
    world.nodes[0].lose(publisher, CloseReason::PeerReset);
    world.settle();
    world.pass_ms(1_000);
    let again = world.begin(0, "show");
    world.second(&[(0, again)], 0);
    let frames = world.frames(1, player);
    assert_eq!(frames.len(), 50);
    never_step_back(&frames);
    assert_eq!((world.dialled[1], world.links()), (1, 1));
    // The end is passed on.
    world.nodes[0].lose(again, CloseReason::PeerReset);
    world.settle();
    world.pass_ms(6_000);
    assert_eq!(world.links(), 0);
    world.pass_ms(6_000);
    assert!(world.nodes[1].peers[player].events.last().is_some_and(|event| event.contains("Ended")));
    world.empty();
}

#[test]
fn what_is_pushed_in_a_circle_is_refused() {
    let mut world = World::new(2, 1, |node, config| {
        pushes(config, "live/*", &[&format!("rtmp://n{}/live/{{stream}}", 1 - node)]);
    });
    let publisher = world.begin(0, "show");
    let player = world.ask(1, 0, "show");
    world.second(&[(0, publisher)], 0);
    world.second(&[(0, publisher)], 1_000);
    assert_eq!(world.frames(1, player).len(), 50);
    assert!(world.nodes[0].refused(RefuseReason::Loop) >= 1);
    assert!(world.dialled[0] <= 3, "a refusal is not asked again at once: {}", world.dialled[0]);
    world.empty();
}

#[test]
fn a_node_that_ends_ends_what_it_pulls_and_pushes_in_order() {
    let mut world = World::new(3, 2, |node, config| {
        if node == 1 {
            pulls(config, "live/*", &["rtmp://n0/live/{stream}"]);
            pushes(config, "live/*", &["rtmp://n2/live/{stream}"]);
        }
    });
    let publisher = world.begin(0, "show");
    let player = world.ask(1, 0, "show");
    let beyond = world.ask(2, 1, "show");
    world.second(&[(0, publisher)], 0);
    world.second(&[(0, publisher)], 1_000);
    assert_eq!((world.frames(1, player).len(), world.frames(2, beyond).len()), (50, 50));
    world.nodes[1].cores.iter_mut().for_each(|core| core.shutdown());
    world.settle();
    world.pass_ms(500);
    assert_eq!(world.links(), 0);
    assert!(world.nodes[1].cores.iter().all(|core| core.has_ended()));
    assert_eq!(world.nodes[2].closed(CloseReason::PeerClosed), 1, "its end was an orderly one");
}

#[test]
fn a_target_that_asks_to_be_left_is_left_for_where_it_says() {
    let mut world = World::new(3, 1, |node, config| {
        if node == 0 {
            pushes(config, "live", &["rtmp://n1/live/{stream}"]);
        }
    });
    let publisher = world.begin(0, "show");
    let player = world.ask(2, 0, "show");
    world.second(&[(0, publisher)], 0);
    ask_to_leave_for_n2(&mut world);
    for second in 1..4 {
        world.second(&[(0, publisher)], second * 1_000);
    }
    assert_eq!((world.dialled[1], world.dialled[2], world.links()), (1, 1, 1));
    assert!(world.frames(2, player).len() >= 75);
    world.empty();
}
