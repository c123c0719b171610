//! A node with 500 players and 20 publishers leaves service, and another takes over: half of the clients know
//! ReconnectRequest, the others do not.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    common::{
        moving::{GOP, able_player, able_publisher, asked_to, frame, number},
        rtmp::{Got, Peer},
        seconds,
    },
    scene::start,
};

const STREAMS: usize = 20;
const PLAYERS: usize = 500;
/// Ten frames a second: a group of pictures lasts one.
const FRAME: Duration = Duration::from_millis(100);

/// What all clients of one run share.
#[derive(Clone)]
struct Stage {
    old: SocketAddr,
    new: SocketAddr,
    start: Instant,
    /// The old node has gone, and what is published now is enough.
    over: Arc<AtomicBool>,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.start.elapsed() > seconds(50)
    }
}

/// Publishes frames at their pace. One that can goes where it is asked to, one that cannot connects again, there, once it was
/// let go: both begin there with a keyframe. How many frames were sent.
fn publish(stage: &Stage, name: &str, is_able: bool) -> u32 {
    let connect = |addr| if is_able { able_publisher(addr, name) } else { Peer::publisher(addr, name) };
    let (mut peer, mut stream) = connect(stage.old);
    let (mut moved, mut asked) = (false, false);
    let (from, mut count) = (Instant::now(), 0);
    while !stage.is_over() {
        let due = FRAME * count;
        if let Some(early) = due.checked_sub(from.elapsed()) {
            // The wait is for messages, too.
            match peer.next(early) {
                Got::Message(message) => {
                    asked |= asked_to(&message).is_some();
                    if message.code().as_deref() == Some("NetStream.Unpublish.Success") && !moved {
                        assert!(!is_able && count.is_multiple_of(GOP) || count % GOP == 1, "{name} at frame {count}");
                        // What it sent last is the keyframe that was not taken any more.
                        count -= count % GOP;
                        (peer, stream) = connect(stage.new);
                        moved = true;
                    }
                }
                Got::Closed => thread::sleep(early),
                Got::TimedOut => {}
            }
            continue;
        }
        if asked && !moved && count.is_multiple_of(GOP) {
            (peer, stream) = connect(stage.new);
            moved = true;
        }
        peer.send(&frame(stream, count));
        count += 1;
    }
    assert!(moved, "{name} has not moved");
    count
}

/// What became of a player.
struct Story {
    numbers: Vec<u32>,
    was_asked: bool,
    was_told: bool,
}

/// Plays until the old node lets go of it. One that can goes where it is asked to, and leaves the old node once it has the
/// same from there.
fn play(stage: &Stage, name: &str, is_able: bool) -> Story {
    let mut old = Some(if is_able { able_player(stage.old, name) } else { Peer::player(stage.old, name) });
    let mut new: Option<Peer> = None;
    let mut story = Story { numbers: Vec::new(), was_asked: false, was_told: false };
    let patience = Duration::from_millis(50);
    let mut ahead = Vec::new();
    while !stage.is_over() {
        if let Some(peer) = &mut old {
            match peer.next(patience) {
                Got::Message(message) => {
                    story.numbers.extend(number(&message));
                    story.was_told |= message.code().as_deref() == Some("NetStream.Play.UnpublishNotify");
                    if asked_to(&message).is_some() {
                        story.was_asked = true;
                        new = Some(able_player(stage.new, name));
                    }
                }
                Got::Closed => old = None,
                Got::TimedOut => {}
            }
        }
        if let Some(peer) = &mut new {
            if let Got::Message(message) = peer.next(if old.is_some() { Duration::from_millis(1) } else { patience }) {
                ahead.extend(number(&message));
            }
            // It has had what comes before that.
            if ahead.first().is_some_and(|first| story.numbers.last().is_some_and(|last| last + 1 >= *first)) {
                old = None;
            }
            if old.is_none() {
                let last = story.numbers.last().copied();
                story.numbers.extend(ahead.drain(..).filter(|number| last.is_none_or(|last| *number > last)));
            }
        } else if old.is_none() {
            break;
        }
    }
    story
}

#[test]
fn five_hundred_players_and_twenty_publishers_are_moved_or_end_at_a_keyframe() {
    let new = start(2, "");
    let flags = format!(
        "--drain-reconnect-url rtmp://{}/live --drain-timeout-s 20 --drain-window-s 6 --drain-converge-s 1",
        new.rtmp
    );
    let mut old = start(2, &flags);
    let over = Arc::new(AtomicBool::new(false));
    let stage = Stage { old: old.rtmp, new: new.rtmp, start: Instant::now(), over: over.clone() };
    let spawn = |task: Box<dyn FnOnce() -> Story + Send>| {
        thread::Builder::new().stack_size(512 * 1024).spawn(task).expect("a thread")
    };
    let publishers: Vec<_> = (0..STREAMS)
        .map(|index| {
            let stage = stage.clone();
            thread::spawn(move || publish(&stage, &format!("s{index}"), index % 2 == 0))
        })
        .collect();
    old.wait_metric("shardcast_publishers", &[], |count| count == STREAMS as f64);
    // Of each stream half of the players can reconnect.
    let players: Vec<_> = (0..PLAYERS)
        .map(|index| {
            let (stage, is_able) = (stage.clone(), (index / STREAMS).is_multiple_of(2));
            (is_able, spawn(Box::new(move || play(&stage, &format!("s{}", index % STREAMS), is_able))))
        })
        .collect();
    old.wait_metric("shardcast_players", &[], |count| count == PLAYERS as f64);
    old.wait_metric("shardcast_players_waiting", &[], |count| count == 0.0);
    thread::sleep(seconds(1));

    let from = Instant::now();
    old.signal("TERM");
    assert_eq!(old.wait_exit(seconds(30)).code(), Some(0));
    assert!(from.elapsed() < seconds(21), "{:?}", from.elapsed());
    assert!(!old.log().contains("are still here"), "nobody was cut off");
    // The new node has all the streams, and plays on.
    new.wait_metric("shardcast_publishers", &[], |count| count == STREAMS as f64);
    thread::sleep(seconds(2));
    over.store(true, Ordering::Relaxed);
    let sent: Vec<u32> = publishers.into_iter().map(|publisher| publisher.join().expect("it publishes")).collect();
    for (index, (is_able, player)) in players.into_iter().enumerate() {
        let Story { numbers, was_asked, was_told } = player.join().expect("it plays");
        let what = format!("player {index}, able: {is_able}, {numbers:?}");
        assert_eq!(was_asked, is_able, "{what}");
        assert!(numbers.len() > GOP as usize, "{what}");
        let gap = numbers.windows(2).map(|pair| pair[1] - pair[0] - 1).max().unwrap_or(0);
        if is_able {
            assert!(gap <= GOP, "{gap} frames are missing: {what}");
            let last = numbers.last().copied().unwrap_or(0);
            assert!(last + 3 * GOP > sent[index % STREAMS], "it plays on at the new node: {what}");
        } else {
            assert_eq!(gap, 0, "{what}");
            assert!(was_told, "{what}");
            assert_eq!(numbers.last().map(|last| last % GOP), Some(GOP - 1), "its last group is whole: {what}");
        }
    }
}
