//! A stream that is pulled, taken over by somebody who publishes it here.

use std::time::Duration;

use super::{super::world::World, *};
use crate::{
    access::Takeover,
    limits::UNPUBLISH_GRACE_DEFAULT,
    rtmp::{
        client::ClientRole,
        message::{Kind, type_id},
    },
    shard::close::{CloseReason, RefuseReason},
};

/// Node 1 has three cores and pulls from node 0.
fn edge(takeover: Takeover) -> World {
    World::new(2, 3, |node, config| {
        if node == 1 {
            pulls(config, "live/*", &["rtmp://n0/live/{stream}"]);
        }
        config.takeover = takeover;
    })
}

/// Every coded message of a player: its kind, its timestamp, and the source's time it was written with.
fn coded(world: &World, player: usize) -> Vec<(u8, u32, u32)> {
    let media = world.nodes[1].peers[player].media(1);
    let of = |payload: &[u8]| payload.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let coded = media.into_iter().filter(|(.., payload)| payload != AVC && payload != AAC);
    coded.filter_map(|(kind, at, payload)| Some((kind, at, of(&payload)?))).collect()
}

#[test]
fn a_publisher_takes_a_pulled_stream_over_and_players_stay() {
    for core in 0..3 {
        let mut world = edge(Takeover::Replace);
        let origin = world.begin(0, "show");
        let players: Vec<_> = (0..6).map(|index| world.ask(1, index % 3, "show")).collect();
        world.second(&[(0, origin)], 0);
        world.second(&[(0, origin)], 1_000);
        assert_eq!(world.links(), 1);

        let publisher = world.nodes[1].connect(core, ClientRole::Publish, "show");
        world.settle();
        assert_eq!(world.nodes[1].peers[publisher].events, ["Publishing"], "core {core}");
        world.send(1, publisher, 0, Kind::Video, AVC);
        world.send(1, publisher, 0, Kind::Audio, AAC);
        world.second(&[(0, origin), (1, publisher)], 2_000);
        world.second(&[(0, origin), (1, publisher)], 3_000);
        assert_eq!(world.links(), 0, "it is not pulled any more");
        assert!(world.nodes[0].peers[origin].open, "the origin's publisher is the origin's");

        for player in players {
            assert_eq!(world.nodes[1].peers[player].events, ["Playing"], "player {player}, core {core}");
            let coded = coded(&world, player);
            let video: Vec<_> = coded.iter().filter(|(kind, ..)| *kind == type_id::VIDEO).collect();
            assert!(video.is_sorted_by_key(|(_, at, _)| at), "{video:?}");
            let sources: Vec<_> = video.iter().map(|(.., of)| *of).collect();
            assert_eq!(sources, (0..100).map(|frame| frame * 40).collect::<Vec<_>>(), "each frame once");
        }
        world.empty();
    }
}

#[test]
fn what_was_taken_over_is_pulled_again_once_its_publisher_has_left() {
    let mut world = edge(Takeover::Replace);
    let origin = world.begin(0, "show");
    let player = world.ask(1, 1, "show");
    world.second(&[(0, origin)], 0);
    let publisher = world.begin(1, "show");
    world.second(&[(0, origin), (1, publisher)], 1_000);
    world.nodes[1].lose(publisher, CloseReason::PeerReset);
    let mut at = 2_000;
    while world.links() == 0 {
        world.second(&[(0, origin)], at);
        at += 1_000;
        assert!(Duration::from_millis(at.into()) < UNPUBLISH_GRACE_DEFAULT * 3, "it is never pulled again");
    }
    let before = coded(&world, player).len();
    world.second(&[(0, origin)], at);
    world.second(&[(0, origin)], at + 1_000);
    assert!(coded(&world, player).len() >= before + 50);
    world.empty();
}

#[test]
fn a_pull_is_kept_unless_it_may_be_replaced() {
    for takeover in [Takeover::Reject, Takeover::ReplaceIfSameCredential] {
        let mut world = edge(takeover);
        let origin = world.begin(0, "show");
        let player = world.ask(1, 0, "show");
        world.second(&[(0, origin)], 0);
        let publisher = world.nodes[1].connect(2, ClientRole::Publish, "show");
        world.settle();
        assert_eq!(world.nodes[1].peers[publisher].statuses(1), ["NetStream.Publish.BadName"]);
        assert_eq!(world.nodes[1].refused(RefuseReason::NameTaken), 1);
        world.second(&[(0, origin)], 1_000);
        assert_eq!(coded(&world, player).len(), 100);
        world.empty();
    }
}
