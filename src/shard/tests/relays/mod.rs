//! Streams between nodes: pulled on demand and from backups ([`pulled`]), pushed ([`pushed`]), taken over by
//! publishers ([`taken_over`]), and never in circles.

mod pulled;
mod pushed;
mod taken_over;

use std::{sync::Arc, time::Duration};

use super::{
    rig::{AAC, AVC, INTER, KEY, SOUND},
    world::World,
};
use crate::{
    limits::{BACK_OFF_MAX, VIEW_LINGER},
    relay::{
        lookup::InOrder,
        pattern::Pattern,
        rules::{PullRule, PushRule},
        template::Template,
    },
    rtmp::{client::ClientRole, message::Kind},
    shard::{close::CloseReason, config::Config, reconnect::ReconnectRequest},
};

pub(super) fn pulls(config: &mut Config, pattern: &str, sources: &[&str]) {
    let templates = sources.iter().map(|source| Template::parse(source).expect("a template")).collect();
    config.relays.pulls.push(PullRule {
        pattern: Pattern::parse(pattern).expect("a pattern"),
        origins: Arc::new(InOrder(templates)),
        always: false,
        linger: Duration::from_secs(3),
    });
}

pub(super) fn pushes(config: &mut Config, pattern: &str, targets: &[&str]) {
    let targets = targets.iter().map(|target| Template::parse(target).expect("a template")).collect();
    config.relays.pushes.push(PushRule { pattern: Pattern::parse(pattern).expect("a pattern"), targets });
}

/// Node 0 is the origin, each further node pulls from the one before.
pub(super) fn chain(nodes: usize, cores: usize) -> World {
    World::new(nodes, cores, |node, config| {
        if let Some(before) = node.checked_sub(1) {
            pulls(config, "live/*", &[&format!("rtmp://n{before}/live/{{stream}}")]);
        }
    })
}

/// Node 0 pulls from node 1, the primary, or node 2, the backup.
pub(super) fn edge_of_two() -> World {
    World::new(3, 1, |node, config| {
        if node == 0 {
            pulls(config, "live/*", &["rtmp://n1/live/{stream}", "rtmp://n2/live/{stream}"]);
        }
    })
}

impl World {
    pub(super) fn begin(&mut self, node: usize, name: &str) -> usize {
        let publisher = self.nodes[node].connect(0, ClientRole::Publish, name);
        self.settle();
        assert_eq!(self.nodes[node].peers[publisher].events, ["Publishing"]);
        self.send(node, publisher, 0, Kind::Video, AVC);
        self.send(node, publisher, 0, Kind::Audio, AAC);
        publisher
    }

    pub(super) fn ask(&mut self, node: usize, core: usize, name: &str) -> usize {
        let player = self.nodes[node].connect(core, ClientRole::Play, name);
        self.settle();
        player
    }

    pub(super) fn send(&mut self, node: usize, publisher: usize, timestamp: u32, kind: Kind, payload: &[u8]) {
        self.nodes[node].peers[publisher].session.send_media(kind, timestamp, payload);
        self.settle();
    }

    /// A second of video and audio from each publisher, 25 frames and a keyframe first, in step with the clock.
    pub(super) fn second(&mut self, publishers: &[(usize, usize)], from_ms: u32) {
        for frame in 0..25 {
            let timestamp = from_ms + frame * 40;
            let payload = [if frame == 0 { KEY } else { INTER }, &timestamp.to_be_bytes()].concat();
            for (node, publisher) in publishers {
                self.send(*node, *publisher, timestamp, Kind::Video, &payload);
                self.send(*node, *publisher, timestamp + 5, Kind::Audio, &[SOUND, &timestamp.to_be_bytes()].concat());
            }
            self.pass_ms(40);
        }
    }

    /// Timestamp and payload of what a player got of `kind`.
    pub(super) fn got(&self, node: usize, player: usize, kind: Kind) -> Vec<(u32, Vec<u8>)> {
        let media = self.nodes[node].peers[player].media(1).into_iter().filter(|(of, ..)| *of == kind.type_id());
        media.map(|(_, timestamp, payload)| (timestamp, payload)).collect()
    }

    pub(super) fn frames(&self, node: usize, player: usize) -> Vec<(u32, Vec<u8>)> {
        self.got(node, player, Kind::Video).into_iter().filter(|(_, payload)| payload != AVC).collect()
    }

    /// All leave; nothing may be left of them a while later.
    pub(super) fn empty(&mut self) {
        for node in 0..self.nodes.len() {
            for peer in 0..self.nodes[node].peers.len() {
                if self.nodes[node].peers[peer].open {
                    self.nodes[node].lose(peer, CloseReason::PeerReset);
                }
            }
        }
        self.settle();
        self.pass_ms((2 * BACK_OFF_MAX + 2 * VIEW_LINGER).as_millis() as u64);
        assert_eq!(self.links(), 0, "connections between nodes");
        for (index, node) in self.nodes.iter().enumerate() {
            for (core, metrics) in node.cores.iter().zip(&node.metrics) {
                assert!(core.relays.is_empty(), "node {index} remembers relays: {:?}", core.relays);
                assert!(core.conns.is_empty() && core.streams.slab.is_empty(), "node {index}");
                let levels = (metrics.connections.get(), metrics.publishers.get(), metrics.players.get());
                assert_eq!(levels, (0, 0, 0), "node {index}");
            }
            assert_eq!(node.shared.gauge.bytes(), 0);
            assert_eq!(node.shared.directory.waited_names(), 0);
        }
    }
}

pub(super) fn never_step_back(messages: &[(u32, Vec<u8>)]) {
    assert!(messages.windows(2).all(|pair| pair[0].0 <= pair[1].0), "a step back in {messages:?}");
}

impl World {
    /// Its publisher, if the strike took it along, else the one there is.
    pub(super) fn begin_again(&mut self, node: usize, name: &str) -> usize {
        match self.nodes[node].peers.iter().position(|peer| peer.open) {
            Some(publisher) => publisher,
            None => self.begin(node, name),
        }
    }
}

/// Node 1 asks whoever is connected to go on at node 2.
pub(super) fn ask_to_leave_for_n2(world: &mut World) {
    let request = ReconnectRequest {
        tc_url: Some("rtmp://n2/live".to_owned()),
        description: "maintenance".to_owned(),
        over: Duration::ZERO,
        after_players: false,
    };
    assert!(world.nodes[1].cores[0].request_reconnect(Arc::new(request)) >= 1, "it says that it can");
    world.settle();
}
