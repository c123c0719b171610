//! Runs: one publisher with one content and every player, on a server of its own. A few run at once.

use std::{
    sync::{Condvar, Mutex, OnceLock},
    thread,
};

use crate::{
    common::{
        packets::Joined,
        server::{Driver, Server},
    },
    contents::{CONTENTS, Content},
    players::{Player, Playing},
    publishers::Publisher,
    verdict::{Expect, Verdict, refusal},
};

/// What came of one run.
pub struct Run {
    pub content: &'static Content,
    pub publisher: Verdict,
    pub players: Vec<(Player, Verdict)>,
}

/// Clients mostly wait for the clip's time to pass, so several runs fit on few cores.
const AT_ONCE: usize = 6;

/// The publisher's runs, made once.
pub fn runs(publisher: Publisher) -> &'static [Run] {
    static RUNS: [OnceLock<Vec<Run>>; Publisher::ALL.len()] = [const { OnceLock::new() }; Publisher::ALL.len()];
    RUNS[publisher as usize].get_or_init(|| {
        let contents = CONTENTS.iter().filter(|content| publisher.tries(content));
        thread::scope(|scope| {
            let threads: Vec<_> = contents.map(|content| scope.spawn(|| run(publisher, content))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a run judges its clients' failures")).collect()
        })
    })
}

#[track_caller]
pub fn assert_as_expected(publisher: Publisher) {
    let mut failures = String::new();
    for run in runs(publisher) {
        let publisher = [(publisher.title(), &run.publisher)];
        let players = run.players.iter().map(|(player, verdict)| (player.title(), verdict));
        for (who, verdict) in publisher.into_iter().chain(players) {
            if let Verdict::Failed(why) = verdict {
                failures.push_str(&format!("{}: {who}: {why}\n", run.content.title));
            }
        }
    }
    assert!(failures.is_empty(), "{} with\n{failures}", publisher.title());
}

fn run(publisher: Publisher, content: &'static Content) -> Run {
    content.path();
    let _place = Place::wait();
    let server = Server::start(Driver::Uring, 2, &["--unpublish-grace-s", "1"]);
    let expects = publisher.expects(content);
    let mut run = Run { content, publisher: Verdict::Yes(None), players: Vec::new() };
    if let Expect::Unable { why, words } = expects {
        let ended = publisher.try_in_vain(content, &server.url("refused"));
        run.publisher = refusal(why, words, &ended);
        return run;
    }
    run.publisher = expects.judge(|| run.players = watched(publisher, content, &server));
    run
}

/// Publishes before all players, some of which join later. Panics if the publisher fails.
fn watched(publisher: Publisher, content: &'static Content, server: &Server) -> Vec<(Player, Verdict)> {
    let url = server.url("show");
    let early = gather(content, server, &url);
    let publishing = publisher.start(content, server, &url);
    server.wait_running_for("show", content.late_ms);
    // A publisher that had to wait for the processor is not that far yet.
    server.wait_messages("show", content.late_messages());
    let late = Player::LATE.map(|player| player.start(content, &url, Joined::Late));
    let sent = publishing.finish();

    let (again, once): (Vec<Playing>, Vec<Playing>) =
        early.into_iter().chain(late).partition(|playing| playing.player == Player::RtmpSrc);
    let connections = once.len() + again.len() + 1;
    let playing = once.into_iter().chain(again);
    playing.map(|playing| (playing.player, playing.finish(server, connections, &sent))).collect()
}

/// Every player, waiting for the stream. One run's clients start at a time: that is when they need the processor.
fn gather(content: &'static Content, server: &Server, url: &str) -> Vec<Playing> {
    static STARTS: Mutex<()> = Mutex::new(());
    let _alone = STARTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let players = Player::ALL.map(|player| player.start(content, url, Joined::Early));
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= players.len() as f64);
    players.into()
}

static PLACES: Mutex<usize> = Mutex::new(AT_ONCE);
static LEFT: Condvar = Condvar::new();

/// One of [`AT_ONCE`].
struct Place;

impl Place {
    fn wait() -> Self {
        let places = PLACES.lock().expect("nobody panics with it");
        let mut places = LEFT.wait_while(places, |places| *places == 0).expect("nobody panics with it");
        *places -= 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *PLACES.lock().expect("nobody panics with it") += 1;
        LEFT.notify_one();
    }
}
