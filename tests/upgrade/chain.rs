//! Chains of upgrades whose middle ends: whoever takes connections is one process, and goes on with what the oldest has.

use crate::{
    common::{
        moving::{GOP, frame, number},
        rtmp::Peer,
        seconds,
        server::{Driver, Server, lives},
        wait_for,
    },
    ends::kill,
};

const BACK: &str = "connections are taken here again";

/// Three processes, of which the first has `old` and the second `mid`.
struct Chain {
    server: Server,
    first: u32,
    second: u32,
    old: (Peer, u32),
    _mid: (Peer, u32),
}

impl Chain {
    fn new() -> Self {
        let mut server = Server::start(Driver::Auto, 2, &["--unpublish-grace-s", "20"]);
        let first = server.pid();
        let mut old = Peer::publisher(server.rtmp, "old");
        old.0.send(&frame(old.1, 0));
        server.wait_messages("old", 1);
        server.upgrade();
        let second = server.pid();
        let mut mid = Peer::publisher(server.rtmp, "mid");
        mid.0.send(&frame(mid.1, 0));
        server.wait_messages("mid", 1);
        server.upgrade();
        Self { server, first, second, old, _mid: mid }
    }

    /// Ends the second, and returns once the first has heard that the third goes on.
    fn end_second(&mut self, signal: &str) {
        kill(self.second, signal);
        self.server.wait_said("the process that took over from it serves on");
        self.server.wait_gone_process(self.second, seconds(10));
    }
}

/// All of 20 players get what is published, wherever the kernel has them go.
fn all_are_served_by_one(server: &Server, name: &str) {
    let (mut publisher, stream) = Peer::publisher(server.rtmp, name);
    publisher.send(&frame(stream, 0));
    server.wait_messages(name, 1);
    for player_number in 0..20 {
        let mut player = Peer::player(server.rtmp, name);
        assert!(player.next_media().is_some(), "player {player_number}");
    }
}

fn the_middle_ends(signal: &str) {
    let mut chain = Chain::new();
    let mut players = ["old", "mid"].map(|name| Peer::player(chain.server.rtmp, name));
    assert!(players.iter_mut().all(|player| player.next_media().is_some()));
    chain.end_second(signal);

    all_are_served_by_one(&chain.server, "new");
    // Its name is free: what it carried is lost, and nothing else.
    all_are_served_by_one(&chain.server, "mid");
    let (old, stream) = &mut chain.old;
    let [of_old, _] = &mut players;
    let mut sent = 0;
    wait_for("the oldest stream to go on", seconds(10), || {
        sent += GOP;
        old.send(&frame(*stream, sent));
        of_old.next_media().and_then(|media| number(&media)).filter(|number| *number == sent)
    });
    assert!(Peer::player(chain.server.rtmp, "old").next_media().is_some());
    assert_eq!(chain.server.get("/readyz").expect("the admin listener").0, 200);

    // Another upgrade is one as ever, and the oldest still within reach.
    chain.server.upgrade();
    assert!(Peer::player(chain.server.rtmp, "old").next_media().is_some());
    all_are_served_by_one(&chain.server, "newest");

    let newest = chain.server.pid();
    chain.server.signal("TERM");
    chain.server.wait_gone_process(newest, seconds(10));
    chain.server.wait_said("nobody takes connections");
    assert!(std::net::TcpStream::connect(chain.server.rtmp).is_err());
    std::thread::sleep(seconds(1));
    let log = chain.server.log();
    assert!(!log.contains(BACK) && !log.contains("cannot accept"), "{log}");
    assert!(lives(chain.first) && chain.old.0.is_served());
}

#[test]
fn the_middle_is_killed() {
    the_middle_ends("KILL");
}

#[test]
fn the_middle_ends_in_order() {
    the_middle_ends("TERM");
}

#[test]
fn the_oldest_takes_connections_again_once_all_behind_it_have_died() {
    for signal in ["KILL", "TERM"] {
        let mut chain = Chain::new();
        chain.end_second(signal);
        assert!(!chain.server.log().contains(BACK));
        kill(chain.server.pid(), "KILL");
        chain.server.wait_said(BACK);
        chain.server.forget_successor();
        chain.server.forget_successor();
        assert_eq!(chain.server.pid(), chain.first);
        assert_eq!(chain.server.get("/readyz").expect("the admin listener").0, 200);
        all_are_served_by_one(&chain.server, "new");
        // And it can be replaced as before.
        chain.server.upgrade();
        assert!(Peer::player(chain.server.rtmp, "old").next_media().is_some());
    }
}

#[test]
fn the_oldest_takes_connections_again_if_the_newest_dies_while_the_middle_ends_in_order() {
    let mut chain = Chain::new();
    let newest = chain.server.pid();
    // It does not get to see the end of the middle.
    kill(newest, "STOP");
    kill(chain.second, "TERM");
    chain.server.wait_gone_process(chain.second, seconds(15));
    kill(newest, "KILL");
    chain.server.wait_said(BACK);
    chain.server.forget_successor();
    chain.server.forget_successor();
    assert_eq!(chain.server.pid(), chain.first);
    all_are_served_by_one(&chain.server, "new");
}

#[test]
fn the_one_before_takes_connections_again_and_is_replaced_as_before() {
    let mut chain = Chain::new();
    kill(chain.server.pid(), "KILL");
    chain.server.wait_said(BACK);
    chain.server.forget_successor();
    assert_eq!(chain.server.pid(), chain.second);
    all_are_served_by_one(&chain.server, "new");
    chain.server.upgrade();
    chain.end_second("KILL");
    all_are_served_by_one(&chain.server, "newer");
    assert!(Peer::player(chain.server.rtmp, "old").next_media().is_some());
    assert_eq!(chain.server.log().matches(BACK).count(), 1);
}
