//! Many players at once, each with all it received and when.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::common::{
    flv,
    packets::Track,
    rtmp::{AUDIO, Got, Peer, VIDEO},
};

/// Audio or video that came.
#[derive(Clone)]
struct Arrival {
    at: Instant,
    track: Track,
    timestamp: u32,
    payload: Vec<u8>,
}

struct Player {
    received: Vec<Arrival>,
    disconnected: bool,
}

/// Players that read until they are told to stop.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    players: Vec<JoinHandle<Player>>,
}

impl Crowd {
    /// Players of connections that have asked to play.
    pub fn of(peers: Vec<Peer>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let play = |peer| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || play(peer, &stop))
        };
        let players = peers.into_iter().map(play).collect();
        Self { stop, players }
    }

    /// What all of them have received by now.
    pub fn leave(self) -> Attendance {
        self.stop.store(true, Ordering::Relaxed);
        Attendance(self.players.into_iter().map(|player| player.join().expect("it reads, nothing more")).collect())
    }
}

fn play(mut peer: Peer, stop: &AtomicBool) -> Player {
    let mut player = Player { received: Vec::new(), disconnected: false };
    while !stop.load(Ordering::Relaxed) {
        let message = match peer.next(Duration::from_millis(200)) {
            Got::Message(message) => message,
            Got::TimedOut => continue,
            Got::Closed => {
                player.disconnected = true;
                break;
            }
        };
        let track = match message.type_id {
            AUDIO => Track::Audio,
            VIDEO => Track::Video,
            _ => continue,
        };
        let (at, timestamp) = (Instant::now(), message.timestamp);
        player.received.push(Arrival { at, track, timestamp, payload: message.payload });
    }
    player
}

/// What the players of a crowd received.
pub struct Attendance(Vec<Player>);

impl Attendance {
    /// The longest that any player waited for sound or for a picture in a stretch of time.
    pub fn longest_wait(&self, stretch: [Instant; 2]) -> Duration {
        let longest = |player: &Player, track: Track| {
            let of_track = player.received.iter().filter(|arrival| arrival.track == track);
            let within = of_track.map(|arrival| arrival.at).filter(|at| (stretch[0]..stretch[1]).contains(at));
            let times: Vec<_> = [stretch[0]].into_iter().chain(within).chain([stretch[1]]).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("two times at least")
        };
        let waits = self.0.iter().flat_map(|player| [Track::Audio, Track::Video].map(|track| longest(player, track)));
        waits.max().expect("a crowd")
    }

    /// Nobody was disconnected, and every player received packets of the source one after the other and none twice, at
    /// times that are all of one timeline, with one gap at most.
    #[track_caller]
    pub fn assert_one_timeline(&self, source: &Path) {
        let source = Source::read(source);
        for (index, player) in self.0.iter().enumerate() {
            let who = format!("player {index} of {}", self.0.len());
            assert!(!player.disconnected, "{who} was disconnected");
            source.assert_one_timeline(&who, player);
        }
    }
}

/// Where each packet of the source stands: in its track, and in time.
struct Source {
    places: HashMap<Vec<u8>, (Track, usize, u32)>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let mut counts = HashMap::<Track, usize>::new();
        let mut places = HashMap::new();
        for tag in flv::tags(path) {
            let track = match tag.type_id {
                flv::AUDIO => Track::Audio,
                flv::VIDEO => Track::Video,
                _ => continue,
            };
            let count = counts.entry(track).or_default();
            // Sequence headers and the end of the sequence have no place.
            if tag.body[1] == 1 {
                let before = places.insert(tag.body, (track, *count, tag.timestamp));
                assert!(before.is_none(), "the source has packets that cannot be told apart");
                *count += 1;
            }
        }
        Self { places }
    }

    #[track_caller]
    fn assert_one_timeline(&self, who: &str, player: &Player) {
        let mut offset = None;
        for track in [Track::Audio, Track::Video] {
            let (mut last, mut gaps) = (None, Vec::new());
            for arrival in player.received.iter().filter(|arrival| arrival.track == track) {
                let Some((_, place, time)) = self.places.get(&arrival.payload).filter(|place| place.0 == track) else {
                    assert!(arrival.payload[1] == 0, "{who}: {track:?} that was never sent, after {last:?}");
                    continue;
                };
                let ours = arrival.timestamp.wrapping_sub(*time);
                let first = *offset.get_or_insert(ours);
                assert_eq!(ours, first, "{who}: {track:?} {place} is off the timeline, after {last:?}");
                if let Some(last) = last {
                    assert!(*place > last, "{who}: {track:?} {place} came after {last}");
                    if *place > last + 1 {
                        gaps.push(last + 1..*place);
                    }
                }
                last = Some(*place);
            }
            assert!(last.is_some(), "{who}: no {track:?}");
            assert!(gaps.len() <= 1, "{who}: {track:?} lacks {gaps:?}");
        }
    }
}
