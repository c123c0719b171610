//! Whole shards with one hostile connection: its neighbours lose nothing, and nothing of it stays.
//!
//! The input is what the hostile client sends after its handshake. A publisher and two players, one on each shard, talk
//! about `live/show` meanwhile. The hostile connection reads everything, or bits, or nothing.

use std::time::Duration;

use shardcast::{
    egress::Piece,
    rtmp::{client::ClientRole, message::Kind},
    shard::core::Transmit,
};

use super::{
    HANDSHAKE,
    net::{Healthy, Net, Place},
    pieces::{Dice, cut},
};

pub fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut net = Net::new([128, 300, 60_000][dice.roll(3)]);
    let mut neighbours = Neighbours::settle(&mut net);
    let mut hostile = Hostile::connect(&mut net, &mut dice);
    for piece in cut(data, dice.roll(6), &mut dice) {
        net.receive(hostile.at, piece);
        hostile.read(&mut net, &mut dice);
        neighbours.send_frame(&mut net, &mut dice);
        hostile.read(&mut net, &mut dice);
    }
    let slow_turns = dice.roll(20);
    for _ in 0..slow_turns {
        neighbours.send_frame(&mut net, &mut dice);
    }
    net.remove(hostile.at);
    drop(hostile);
    neighbours.send_frame(&mut net, &mut dice);
    let counts = [
        net.count(|metrics| metrics.connections.get()),
        net.count(|metrics| metrics.publishers.get()),
        net.count(|metrics| metrics.players.get()),
    ];
    assert_eq!(counts, [3, 1, 2], "connections, publishers and players after it has gone");
    neighbours.leave(&mut net);
    // Beyond every grace and linger nothing is known of any stream.
    for _ in 0..15 {
        net.pass(Duration::from_secs(1));
    }
    assert_eq!(net.shared.directory.waited_names(), 0);
    assert_eq!(net.shared.gauge.bytes(), 0, "bytes of logs nobody publishes or watches");
}

/// A publisher on the first shard and a player on each.
struct Neighbours {
    publisher: Healthy,
    players: [Healthy; 2],
    frames: u32,
}

impl Neighbours {
    fn settle(net: &mut Net) -> Self {
        let publisher = Healthy::connect(net, 0, ClientRole::Publish, "show");
        let players = [0, 1].map(|shard| Healthy::connect(net, shard, ClientRole::Play, "show"));
        let mut neighbours = Self { publisher, players, frames: 0 };
        neighbours.talk(net);
        assert!(neighbours.publisher.live && neighbours.players.iter().all(|player| player.live));
        neighbours.send_frame(net, &mut Dice::new(b""));
        neighbours
    }

    fn talk(&mut self, net: &mut Net) {
        self.publisher.talk(net);
        for _ in 0..2 {
            net.turn();
            self.players.iter_mut().for_each(|player| player.talk(net));
        }
    }

    /// Publishes a frame and sees that both players have it, and no other.
    fn send_frame(&mut self, net: &mut Net, dice: &mut Dice) {
        net.pass(Duration::from_millis(dice.roll(300) as u64));
        let timestamp = self.frames * 40;
        let mut payload = vec![if self.frames.is_multiple_of(8) { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        payload.extend_from_slice(&self.frames.to_be_bytes());
        payload.resize(9 + dice.roll(700), self.frames as u8);
        self.publisher.session.send_media(Kind::Video, timestamp, &payload);
        self.frames += 1;
        self.talk(net);
        for player in &self.players {
            assert_eq!(player.media.len(), self.frames as usize, "every frame arrives, once");
            assert_eq!(player.media.last(), Some(&(timestamp, payload.clone())));
        }
    }

    fn leave(self, net: &mut Net) {
        net.remove(self.publisher.at);
        self.players.iter().for_each(|player| net.remove(player.at));
    }
}

/// How much the hostile connection takes of what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appetite {
    All,
    Bits,
    Nothing,
}

struct Hostile {
    at: Place,
    appetite: Appetite,
    /// A send that does not end.
    in_flight: Option<Piece>,
}

impl Hostile {
    fn connect(net: &mut Net, dice: &mut Dice) -> Self {
        let at = net.connect(dice.roll(2));
        net.receive(at, &HANDSHAKE);
        assert_eq!(net.take(at).map(|bytes| bytes.len()), Some(HANDSHAKE.len()));
        let appetite = [Appetite::All, Appetite::Bits, Appetite::Nothing][dice.roll(3)];
        Self { at, appetite, in_flight: None }
    }

    fn read(&mut self, net: &mut Net, dice: &mut Dice) {
        match self.appetite {
            Appetite::All => drop(net.take(self.at)),
            Appetite::Bits => {
                for _ in 0..4 {
                    let Transmit::Send(piece) = net.cores[self.at.shard].transmit(self.at.id) else { return };
                    let count = 1 + dice.roll(piece.len());
                    net.sent(self.at, piece, count);
                }
            }
            Appetite::Nothing if self.in_flight.is_none() => {
                if let Transmit::Send(piece) = net.cores[self.at.shard].transmit(self.at.id) {
                    self.in_flight = Some(piece);
                }
            }
            Appetite::Nothing => {}
        }
    }
}
