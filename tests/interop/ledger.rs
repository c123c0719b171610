//! `docs/interop.md`: its tables, written from what the clients did and compared with what is committed.

use std::{path::Path, process::Command};

use crate::{
    common::tool::{new_ffmpeg, python, require},
    contents::{CONTENTS, Content},
    matrix::runs,
    players::Player,
    publishers::Publisher,
    verdict::Verdict,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/interop.md");
const BEGIN: &str = "<!-- From here on written by tests/interop: SHARDCAST_BLESS=1 cargo test --test interop -->\n";
const END: &str = "<!-- Up to here. -->\n";
/// Set, the page is renewed instead of compared.
const BLESS: &str = "SHARDCAST_BLESS";

/// Compares the committed tables, versions apart, with what the clients did.
#[track_caller]
pub fn assert_committed() {
    let written = render();
    assert!(!written.contains(FAILED), "a client failed; its publisher's test says how:\n{written}");
    let page = std::fs::read_to_string(PAGE).expect("docs/interop.md is there");
    let (head, rest) = page.split_once(BEGIN).expect("docs/interop.md has the line where its tables begin");
    let (committed, tail) = rest.split_once(END).expect("docs/interop.md has the line where its tables end");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(PAGE, [head, BEGIN, &written, END, tail].concat()).expect("docs/interop.md can be written");
        return;
    }
    assert_eq!(
        without_versions(committed),
        without_versions(&written),
        "docs/interop.md does not say what the clients did; look at the difference, and if it is right, renew the page: \
         {BLESS}=1 cargo test --test interop"
    );
}

const FAILED: &str = "FAILED";
/// The last column of the clients' table.
const TRIED_WITH: &str = "tried with";

/// The clients' table without its last column.
fn without_versions(tables: &str) -> String {
    let mut lines = Vec::new();
    let mut in_clients = false;
    for line in tables.lines() {
        in_clients = line.starts_with('|') && (in_clients || line.contains(TRIED_WITH));
        let cells = line.trim_end_matches('|').rsplit_once('|');
        lines.push(if in_clients { cells.map_or(line, |(cells, _)| cells) } else { line });
    }
    lines.join("\n")
}

fn render() -> String {
    let mut notes = Vec::new();
    let published = table("published by", Publisher::ALL.map(Publisher::title), |content, column| {
        let publisher = Publisher::ALL[column];
        let run = runs(publisher).iter().find(|run| std::ptr::eq(run.content, content));
        run.map(|run| cell(&mut notes, [&run.publisher]))
    });
    let played = table("played by", Player::ALL.map(Player::title), |content, column| {
        let player = Player::ALL[column];
        let of_content = Publisher::ALL.iter().flat_map(|publisher| runs(*publisher));
        let of_content = of_content.filter(|run| std::ptr::eq(run.content, content));
        let verdicts = of_content.flat_map(|run| &run.players).filter(|(who, _)| *who == player);
        Some(cell(&mut notes, verdicts.map(|(_, verdict)| verdict)))
    });
    let notes: Vec<String> =
        notes.iter().enumerate().map(|(index, note)| format!("{}. {note}.\n", index + 1)).collect();
    format!("\n{}\n{published}\n{played}\n{}\n", clients(), notes.concat())
}

/// Contents by clients.
fn table<const N: usize>(
    corner: &str,
    columns: [&str; N],
    mut cell: impl FnMut(&'static Content, usize) -> Option<String>,
) -> String {
    let mut lines = format!("| {corner} | {} |\n|---{}|\n", columns.join(" | "), "|---".repeat(N));
    for content in &CONTENTS {
        let cells: Vec<String> = (0..N).map(|column| cell(content, column).unwrap_or_else(|| "-".to_owned())).collect();
        lines.push_str(&format!("| {} | {} |\n", content.title, cells.join(" | ")));
    }
    lines
}

/// What several runs agree on: the worst of them.
fn cell<'v>(notes: &mut Vec<&'static str>, verdicts: impl IntoIterator<Item = &'v Verdict>) -> String {
    let mut noted = |note: &'static str| {
        let known = notes.iter().position(|known| *known == note);
        1 + known.unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        })
    };
    let mut text = "-".to_owned();
    for verdict in verdicts {
        match verdict {
            Verdict::Failed(_) => return FAILED.to_owned(),
            Verdict::No(why) => text = format!("no [{}]", noted(why)),
            Verdict::Yes(Some(note)) => text = format!("yes [{}]", noted(note)),
            Verdict::Yes(None) => "yes".clone_into(&mut text),
        }
    }
    text
}

/// What each client needs, and the version that was there when the page was renewed.
fn clients() -> String {
    let mut lines = format!("| client | needs | {TRIED_WITH} |\n|---|---|---|\n");
    let mut line = |title: &str, does: &str, needs: &str, version: &str| {
        lines.push_str(&format!("| {title}, {does} | {needs} | {version} |\n"));
    };
    let (debian, current) = (ffmpeg("ffmpeg"), ffmpeg(new_ffmpeg()));
    let pyav = said(
        python(),
        &["-c", "import av; print(av.__version__, 'with libavformat', *av.library_versions['libavformat'])"],
        "",
    );
    let gstreamer = said(Path::new(require("gst-launch-1.0")), &["--version"], "version ");
    for publisher in Publisher::ALL {
        let version = match publisher {
            Publisher::Ffmpeg5 => &debian,
            Publisher::FfmpegNew => &current,
            Publisher::PyAv => &pyav,
            Publisher::Rtmp2Sink | Publisher::RtmpSink => &gstreamer,
            Publisher::Raw => "",
        };
        line(publisher.title(), "publishing", publisher.needs(), version);
    }
    for player in Player::ALL {
        let version = match player {
            Player::Ffmpeg5 => debian.clone(),
            Player::FfmpegNew => current.clone(),
            Player::PyAv => pyav.clone(),
            Player::Mpv => said(Path::new(require("mpv")), &["--version"], "mpv "),
            Player::Rtmp2Src | Player::RtmpSrc => gstreamer.clone(),
            Player::RtmpDump => said(Path::new(require("rtmpdump")), &["--help"], "RTMPDump "),
        };
        line(player.title(), "playing", player.needs(), &version);
    }
    lines
}

fn ffmpeg(program: &str) -> String {
    said(Path::new(program), &["-version"], "ffmpeg version ")
}

/// The word that follows `before` in what a program says of itself; all of the line if nothing is before it.
fn said(program: &Path, arguments: &[&str], before: &str) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program was found");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().find_map(|line| line.split_once(before).map(|(_, behind)| behind.to_owned()));
    let found = found.unwrap_or_else(|| panic!("{} does not say its version:\n{text}", program.display()));
    if before.is_empty() { found } else { found.split_whitespace().next().unwrap_or_default().to_owned() }
}
