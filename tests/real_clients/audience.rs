//! Players on every shard. The kernel chooses the shard of a connection, so players are added until each shard has one.

use std::collections::BTreeMap;

use crate::common::{
    packets::{self, Joined, Packet, Seen, assert_received, ffprobe},
    seconds,
    server::Server,
    tool::Client,
    wait_for,
};

/// Players, those that wait for their stream included.
const PLAYERS: &str = "shardcast_players";

/// With fair hashing each further player misses the empty one of two shards half of the time.
const PLAYERS_MAX: usize = 40;

/// Players that read packets as they come.
pub struct Audience {
    joined: Joined,
    players: Vec<Client>,
}

impl Audience {
    /// At least `count` players of a stream that is not published yet, waiting on every shard.
    pub fn before(server: &Server, url: &str, count: usize) -> Self {
        Self::gather(server, url, count, Joined::Early)
    }

    /// At least `count` further players of a stream that is being published, on every shard.
    pub fn meanwhile(server: &Server, url: &str, count: usize) -> Self {
        Self::gather(server, url, count, Joined::Late)
    }

    fn gather(server: &Server, url: &str, count: usize, joined: Joined) -> Self {
        let levels = || server.metrics().by_label(PLAYERS, "shard");
        let total = |levels: &BTreeMap<String, f64>| levels.values().sum::<f64>();
        let before = levels();
        let mut players: Vec<Client> = Vec::new();
        loop {
            let missing = count.saturating_sub(players.len()).max(1);
            players.extend((0..missing).map(|_| ffprobe(url)));
            let now = wait_for(&format!("{} more players", players.len()), seconds(10), || {
                Some(levels()).filter(|now| total(now) - total(&before) >= players.len() as f64)
            });
            if now.iter().all(|(shard, level)| *level > before.get(shard).copied().unwrap_or(0.0)) {
                return Self { joined, players };
            }
            assert!(players.len() < PLAYERS_MAX, "{PLAYERS_MAX} players, and still a shard without: {now:?}");
        }
    }

    /// Waits for the players to see the end of the stream and checks what each received.
    #[track_caller]
    pub fn assert_all_received(self, sent: &[Packet]) {
        for (index, player) in self.players.into_iter().enumerate() {
            let ended = player.finish(seconds(20));
            let who = format!("{:?} player {index}", self.joined);
            assert_received(&who, sent, &packets::probed(&ended), self.joined, Seen::AsReceived);
        }
    }
}
