//! The players: how each is run, what it is expected not to manage, and how what it got is read.

use std::{path::PathBuf, process::Command};

use crate::{
    common::{
        clients::{gst_play, rtmpdump},
        flv::{self, Recording},
        media,
        packets::{Joined, Packet, Seen, Track, assert_received},
        seconds,
        server::Server,
        tool::{Client, Ended, new_ffmpeg, python, require, scratch},
        wait_for,
    },
    contents::Content,
    verdict::{Expect, Verdict, refusal},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Player {
    Ffmpeg5,
    FfmpegNew,
    PyAv,
    Mpv,
    Rtmp2Src,
    RtmpSrc,
    RtmpDump,
}

const NOT_RECORDED: &str =
    "mpv plays to the end, but `--stream-record` writes no frame of it: that it ends in order is all that is checked";
const ENDS_WITH_2: &str = "rtmpdump gets every packet, yet where timestamps wrap at 2^32 it may end with status 2";
const NO_ENHANCED: &str = "its FLV demuxer (FFmpeg 5.1's) has no Enhanced RTMP";

impl Player {
    pub const ALL: [Self; 7] = [
        Self::Ffmpeg5,
        Self::FfmpegNew,
        Self::PyAv,
        Self::Mpv,
        Self::Rtmp2Src,
        Self::RtmpSrc,
        // Last: what was started last is seen to be there last.
        Self::RtmpDump,
    ];

    /// Those that join once more, while the stream runs.
    pub const LATE: [Self; 2] = [Self::FfmpegNew, Self::RtmpDump];

    pub fn title(self) -> &'static str {
        match self {
            Self::Ffmpeg5 => "FFmpeg 5.1",
            Self::FfmpegNew => "current FFmpeg",
            Self::PyAv => "PyAV",
            Self::Mpv => "mpv",
            Self::Rtmp2Src => "GStreamer rtmp2src",
            Self::RtmpSrc => "GStreamer rtmpsrc",
            Self::RtmpDump => "rtmpdump",
        }
    }

    pub fn needs(self) -> &'static str {
        match self {
            Self::Ffmpeg5 | Self::FfmpegNew | Self::PyAv | Self::Mpv => "nothing",
            Self::Rtmp2Src => "nothing; passes on every byte, whatever the codec",
            Self::RtmpSrc => {
                "nothing; passes on every byte, whatever the codec; connects again when a stream ends, so it waits for \
                 the next"
            }
            Self::RtmpDump => "`--live`; passes on every byte, whatever the codec",
        }
    }

    pub fn expects(self, content: &Content) -> Expect {
        match self {
            Self::Mpv if content.is_slow() => return Expect::Noted(NOT_RECORDED),
            Self::RtmpDump if content.wraps() => return Expect::Noted(ENDS_WITH_2),
            _ if !content.enhanced => return Expect::Able,
            _ => {}
        }
        let words = match (self, content.has(Track::Video)) {
            (Self::Ffmpeg5, true) => "dimensions not set",
            (Self::Ffmpeg5, false) => "incompatible with output codec id '0'",
            (Self::Mpv, true) => "Video codec (0) is not implemented",
            (Self::Mpv, false) => "Audio codec (9) is not implemented",
            _ => return Expect::Able,
        };
        Expect::Unable { why: NO_ENHANCED, words }
    }

    pub fn start(self, content: &'static Content, url: &str, joined: Joined) -> Playing {
        let file = scratch(&format!("{self:?}.flv"));
        let client = match self {
            Self::Ffmpeg5 => media::play(require("ffmpeg"), url, &file),
            Self::FfmpegNew => media::play(new_ffmpeg(), url, &file),
            Self::PyAv => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/pyav_play.py");
                Client::spawn(Command::new(python()).args([script, url]))
            }
            Self::Mpv => {
                let mut command = Command::new(require("mpv"));
                command.args(["--no-config", "--quiet", "--vo=null", "--ao=null", "--untimed"]);
                Client::spawn(command.arg(format!("--stream-record={}", file.display())).arg(url))
            }
            Self::Rtmp2Src => gst_play("rtmp2src", url, &file),
            Self::RtmpSrc => gst_play("rtmpsrc", url, &file),
            Self::RtmpDump => rtmpdump(url, &file),
        };
        Playing { player: self, content, joined, client, file }
    }

    /// Whether what it got went through a muxer of its own.
    fn seen(self) -> Seen {
        match self {
            Self::Ffmpeg5 | Self::FfmpegNew | Self::Mpv => Seen::Remuxed { slack_ms: 0 },
            Self::PyAv | Self::Rtmp2Src | Self::RtmpSrc | Self::RtmpDump => Seen::AsReceived,
        }
    }
}

/// A player at work.
pub struct Playing {
    pub player: Player,
    content: &'static Content,
    joined: Joined,
    client: Client,
    file: PathBuf,
}

impl Playing {
    /// Waits for its end and judges what it got of `sent`. rtmpsrc asks again when its stream has ended, and so has not
    /// ended before `server` has accepted `connections`; others are to be waited for before.
    pub fn finish(self, server: &Server, connections: usize, sent: &Recording) -> Verdict {
        let expects = self.player.expects(self.content);
        if let Expect::Unable { why, words } = expects {
            return refusal(why, words, &self.client.wait(seconds(20)));
        }
        let who = format!("{}, {:?}", self.player.title(), self.joined);
        let Self { player, content, joined, client, file } = self;
        expects.judge(|| {
            let ended = end(player, content, client, server, connections);
            if expects.note() == Some(NOT_RECORDED) {
                return;
            }
            let received = match ended {
                Some(ended) if player == Player::PyAv => printed(&ended),
                _ => {
                    let recording = flv::read(&file);
                    assert_eq!(sorted(&recording.headers), sorted(&sent.headers), "{who}: decoder configurations");
                    recording.packets
                }
            };
            assert_received(&who, &sent.packets, &received, joined, player.seen());
        })
    }
}

/// The end of an able player. rtmpsrc does not say that it ends.
fn end(player: Player, content: &Content, client: Client, server: &Server, connections: usize) -> Option<Ended> {
    match player {
        Player::RtmpSrc => {
            end_of_rtmpsrc(client, server, connections);
            None
        }
        Player::RtmpDump if content.wraps() => {
            let ended = client.wait(seconds(20));
            assert!(matches!(ended.status.code(), Some(0 | 2)), "rtmpdump ended with {}", ended.status);
            Some(ended)
        }
        _ => Some(client.finish(seconds(20))),
    }
}

fn end_of_rtmpsrc(mut client: Client, server: &Server, connections: usize) {
    wait_for("rtmpsrc to end or to ask again", seconds(20), || {
        let accepted = server.metrics().sum("shardcast_connections_accepted_total", &[]);
        (!client.is_running() || accepted as usize > connections).then_some(())
    });
    client.kill();
}

fn sorted(headers: &[(Track, String)]) -> Vec<(Track, String)> {
    let mut headers = headers.to_vec();
    headers.sort();
    headers
}

/// The packets that tests/interop/pyav_play.py printed.
fn printed(ended: &Ended) -> Vec<Packet> {
    let packet = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words[index].parse().unwrap_or_else(|_| panic!("PyAV printed {line:?}"));
        let track = if words[0] == "video" { Track::Video } else { Track::Audio };
        Packet { track, pts: number(1), dts: number(2), key: words[3] == "1", hash: words[4].to_owned() }
    };
    ended.stdout.lines().map(packet).collect()
}
