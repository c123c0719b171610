//! A primary that dies under 200 players, and comes back. Both sources have the stream from one origin.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    common::{
        media::{self, AAC, H264, PICTURE, SOUND},
        netns::{Cable, Namespace},
        rtmp::Peer,
        seconds,
        server::{Driver, Server},
        tool::{Client, require},
        wait_for,
    },
    crowd::Crowd,
};

const PLAYERS: usize = 200;
/// How long a source may be silent (`--upstream-stall-ms`), where nothing else tells that it is dead.
const STALL: Duration = seconds(2);
/// From there to media: what it may take to have a source go on, and the backup's next keyframe, as it has no GOP cache.
const RECOVERY: Duration = seconds(2);
const GOP: Duration = seconds(1);
/// When a primary that is well serves again at the latest: the second time that it is tried.
const RETURN: Duration = seconds(20);
/// How long the source plays: longer than any of these tests.
const SOURCE_SECONDS: u64 = 45;
/// On its own host.
const PRIMARY_PORT: u16 = 1935;

/// Its kernel says so at once.
#[test]
fn a_primary_that_is_killed() {
    let mut scene = Scene::new();
    let died = Instant::now();
    scene.primary = None;
    scene.wait_served_by("backup", died + RECOVERY);
    scene.primary = Some(start_primary(&scene.primary_host, &scene.cable, &scene.origin_url));
    scene.assert_unharmed(died, Duration::ZERO);
}

/// It is there, and says nothing.
#[test]
fn a_primary_that_is_stopped() {
    let scene = Scene::new();
    let died = Instant::now();
    scene.signal_primary("STOP");
    scene.wait_served_by("backup", died + STALL + RECOVERY);
    scene.signal_primary("CONT");
    scene.assert_unharmed(died, STALL);
}

/// Nothing comes from its host any more, nor gets there.
#[test]
fn a_primary_that_is_cut_off() {
    let scene = Scene::new();
    let died = Instant::now();
    scene.cable.pull_out();
    scene.wait_served_by("backup", died + STALL + RECOVERY);
    scene.cable.plug_in();
    scene.assert_unharmed(died, STALL);
}

/// The primary has a host of its own; origin, backup and edge share one with the players.
struct Scene {
    crowd: Crowd,
    edge: Server,
    primary: Option<Server>,
    _backup: Server,
    _origin: Server,
    origin_url: String,
    _publisher: Client,
    source: PathBuf,
    cable: Cable,
    primary_host: Namespace,
    host: Namespace,
}

impl Scene {
    /// All players have been served by the primary for a while.
    fn new() -> Self {
        let [host, primary_host] = [Namespace::new(), Namespace::new()];
        let cable = Cable::new(1, [&primary_host, &host]);
        let [primary_address, address] = cable.addresses;
        let listen = format!("{address}:{PRIMARY_PORT}");
        let origin = host.inside(|| Server::start(Driver::Auto, 1, &["--rtmp", &listen]));
        let backup_pull = format!("live/*={}", origin.url("{stream}"));
        let backup = host.inside(|| Server::start(Driver::Auto, 1, &["--gop-cache", "off", "--pull", &backup_pull]));
        let origin_url = format!("rtmp://{listen}/live/{{stream}}");
        let primary = start_primary(&primary_host, &cable, &origin_url);
        let sources =
            format!("live/*=rtmp://{primary_address}:{PRIMARY_PORT}/live/{{stream}},{}", backup.url("{stream}"));
        let edge = host.inside(|| Server::start(Driver::Auto, 2, &["--pull", &sources]));

        let source = media::encode(require("ffmpeg"), "long", SOURCE_SECONDS, &[PICTURE, SOUND, H264, AAC]);
        let publisher = host.inside(|| media::publish_file(require("ffmpeg"), &source, 0, &origin.url("show")));
        host.inside(|| origin.wait_live("show"));
        let peers = host.inside(|| (0..PLAYERS).map(|_| Peer::player(edge.rtmp, "show")).collect());
        let crowd = Crowd::of(peers);
        host.inside(|| {
            edge.wait_metric("shardcast_players", &[], |players| players == PLAYERS as f64);
            edge.wait_running_for("show", 2_000);
        });
        Self {
            crowd,
            edge,
            primary: Some(primary),
            _backup: backup,
            _origin: origin,
            origin_url,
            _publisher: publisher,
            source,
            cable,
            primary_host,
            host,
        }
    }

    fn signal_primary(&self, signal: &str) {
        self.primary.as_ref().expect("it runs").signal(signal);
    }

    #[track_caller]
    fn wait_served_by(&self, source: &str, deadline: Instant) {
        let patience = deadline.saturating_duration_since(Instant::now());
        self.host.inside(|| {
            wait_for(&format!("the {source} to serve"), patience, || {
                (self.edge.relays().pull("live/show", "state").as_deref() == Some(source)).then_some(())
            });
        });
    }

    /// Waits for the primary to serve again, and looks at what the players got since before it died.
    #[track_caller]
    fn assert_unharmed(self, died: Instant, detection: Duration) {
        self.wait_served_by("live", Instant::now() + RETURN);
        let returned = Instant::now();
        std::thread::sleep(2 * GOP);
        let players = self.host.inside(|| self.edge.metrics().sum("shardcast_players", &[]));
        assert_eq!(players, PLAYERS as f64);
        let attendance = self.crowd.leave();
        let (waited, bar) = (attendance.longest_wait([died, returned]), detection + RECOVERY + GOP);
        assert!(waited <= bar, "a player waited {waited:?} for media");
        let waited = attendance.longest_wait([returned, returned + GOP]);
        assert!(waited <= GOP, "a player waited {waited:?} when the primary was back");
        // The gap is where it died: there is none where it came back.
        attendance.assert_one_timeline(&self.source);
    }
}

fn start_primary(host: &Namespace, cable: &Cable, origin_url: &str) -> Server {
    let listen = format!("{}:{PRIMARY_PORT}", cable.addresses[0]);
    let pull = format!("live/*={origin_url}");
    host.inside(|| Server::start(Driver::Auto, 1, &["--rtmp", &listen, "--pull", &pull]))
}
