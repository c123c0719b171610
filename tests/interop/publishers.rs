//! The publishers: how each is run, what it is expected not to manage, and what it needs.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    common::{
        amf,
        clients::gst_publish,
        flv::{self, Recording},
        media::publish_file,
        packets::Track,
        rtmp::{DATA, Peer, message},
        seconds,
        server::Server,
        tool::{Client, Ended, new_ffmpeg, python, require, scratch},
    },
    contents::{Content, EXTENDED_FROM_MS, remux},
    verdict::Expect,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publisher {
    Ffmpeg5,
    FfmpegNew,
    PyAv,
    Rtmp2Sink,
    RtmpSink,
    /// The suite's own, for what no client sends at will.
    Raw,
}

const BEGINS_AT_0: &str = "its muxer (flvmux) begins every stream at 0";
const WRAPS_AT_31_BITS: &str =
    "its muxer writes 31 bits of a timestamp, so it wraps at 2^31; Shardcast takes that for the wrap it is";
const MUXER_REFUSES: &str = "its FLV muxer has no Enhanced RTMP";

impl Publisher {
    pub const ALL: [Self; 6] = [Self::Ffmpeg5, Self::FfmpegNew, Self::PyAv, Self::Rtmp2Sink, Self::RtmpSink, Self::Raw];

    pub fn title(self) -> &'static str {
        match self {
            Self::Ffmpeg5 => "FFmpeg 5.1",
            Self::FfmpegNew => "current FFmpeg",
            Self::PyAv => "PyAV",
            Self::Rtmp2Sink => "GStreamer rtmp2sink",
            Self::RtmpSink => "GStreamer rtmpsink",
            Self::Raw => "test suite",
        }
    }

    pub fn needs(self) -> &'static str {
        match self {
            Self::Ffmpeg5 | Self::FfmpegNew => "`-re -c copy -f flv`, nothing else",
            Self::PyAv => "`add_stream_from_template(stream, opaque=True)` to pass on what it has no encoder for",
            Self::Rtmp2Sink => "`flvmux streamable=true`",
            Self::RtmpSink => "`flvmux streamable=true`; `live=1` behind the URL",
            Self::Raw => "publishes the timestamps it is told",
        }
    }

    /// Contents it is tried with.
    pub fn tries(self, content: &Content) -> bool {
        self != Self::Raw || content.shift_ms > 0
    }

    fn is_gstreamer(self) -> bool {
        matches!(self, Self::Rtmp2Sink | Self::RtmpSink)
    }

    pub fn expects(self, content: &Content) -> Expect {
        match self {
            Self::Ffmpeg5 if content.enhanced => {
                Expect::Unable { why: MUXER_REFUSES, words: "not compatible with flv" }
            }
            _ if self.is_gstreamer() && content.enhanced => Expect::Unable { why: MUXER_REFUSES, words: "not-linked" },
            _ if self.is_gstreamer() && content.shift_ms > 0 => Expect::Noted(BEGINS_AT_0),
            Self::Ffmpeg5 | Self::FfmpegNew | Self::PyAv if content.wraps() => Expect::Noted(WRAPS_AT_31_BITS),
            _ => Expect::Able,
        }
    }

    /// Tries to publish what it is expected to refuse, from a container that it can read.
    pub fn try_in_vain(self, content: &Content, url: &str) -> Ended {
        let file = scratch("refused.mkv");
        remux(content.path(), &file);
        let client = if self.is_gstreamer() {
            let pad = if content.has(Track::Video) { "video_0" } else { "audio_0" };
            let file = file.display();
            // The muxer refuses, whatever is behind it. GStreamer may hang behind its own error.
            let pipeline = format!(
                "filesrc location={file} ! matroskademux name=d d.{pad} ! queue ! flvmux streamable=true ! fakesink"
            );
            let mut command = Command::new(require("timeout"));
            command.args(["-k", "1", "8", require("gst-launch-1.0"), "-q"]).args(pipeline.split_whitespace());
            Client::spawn(&mut command)
        } else {
            publish_file(require("ffmpeg"), &file, content.shift_ms, url)
        };
        client.wait(seconds(20))
    }

    fn element(self) -> &'static str {
        if self == Self::RtmpSink { "rtmpsink" } else { "rtmp2sink" }
    }

    pub fn start(self, content: &'static Content, server: &Server, url: &str) -> Publishing {
        let (path, shift_ms) = (content.path(), content.shift_ms);
        let sent = scratch("sent.flv");
        let by = match self {
            Self::Ffmpeg5 => By::Client(publish_file(require("ffmpeg"), path, shift_ms, url)),
            Self::FfmpegNew => By::Client(publish_file(new_ffmpeg(), path, shift_ms, url)),
            Self::PyAv => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/pyav_publish.py");
                let mut command = Command::new(python());
                By::Client(Client::spawn(command.arg(script).arg(path).args([url, &shift_ms.to_string()])))
            }
            Self::Rtmp2Sink | Self::RtmpSink => {
                By::Client(gst_publish(path, &content.tracks(), shift_ms, self.element(), url, &sent))
            }
            Self::Raw => By::Thread(publish_raw(server.rtmp, url, path, shift_ms)),
        };
        Publishing { publisher: self, content, by, sent }
    }
}

enum By {
    Client(Client),
    Thread(JoinHandle<()>),
}

pub struct Publishing {
    publisher: Publisher,
    content: &'static Content,
    by: By,
    /// What GStreamer's muxer wrote.
    sent: PathBuf,
}

impl Publishing {
    /// Waits for its end, and returns what it sent.
    #[track_caller]
    pub fn finish(self) -> Recording {
        match self.by {
            By::Client(client) => drop(client.finish(seconds(self.content.seconds + 20))),
            By::Thread(thread) => thread.join().expect("the raw publisher published all"),
        }
        let of_source = self.content.recording();
        if !self.publisher.is_gstreamer() {
            return Recording { packets: of_source.packets.clone(), headers: of_source.headers.clone() };
        }
        let sent = flv::read(&self.sent);
        assert_eq!(sent.packets.len(), of_source.packets.len(), "GStreamer sends the whole source");
        let first = sent.packets[0].dts as u64;
        assert!(first < EXTENDED_FROM_MS / 2, "GStreamer's muxer began at {first} ms, not at 0: correct the ledger");
        sent
    }
}

/// Publishes the tags of a file as they are, at their own pace.
fn publish_raw(server: SocketAddr, url: &str, path: &Path, shift_ms: u64) -> JoinHandle<()> {
    let name = url.rsplit_once('/').expect("a URL has a name").1.to_owned();
    let tags = flv::tags(path);
    std::thread::spawn(move || {
        let (mut peer, stream) = Peer::publisher(server, &name);
        peer.use_chunk_size(4_096);
        let began = Instant::now();
        for tag in tags {
            let due = Duration::from_millis(tag.timestamp.into());
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            let is_data = tag.type_id == DATA;
            let payload = if is_data { [amf::string("@setDataFrame"), tag.body].concat() } else { tag.body };
            // Modulo 2^32, as timestamps are.
            let timestamp = if is_data { 0 } else { tag.timestamp.wrapping_add(shift_ms as u32) };
            assert!(peer.send(&message(4, tag.type_id, stream, timestamp, payload)), "the server takes it");
        }
        assert!(peer.is_served());
    })
}
