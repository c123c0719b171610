//! One publisher: sends each frame when it is due, never earlier, and without skipping any when it was held up. Asked to
//! reconnect, it connects there too and goes over at its next keyframe.

use crate::engine::Bench;
use crate::link::{Link, Received};
use crate::moving::{Leaving, Leg};
use crate::pacing::{Frame, Schedule};
use crate::payload::{AAC_SEQUENCE_HEADER, AVC_SEQUENCE_HEADER, Stamp, Track};
use crate::shared::Settings;
use crate::sys::{Ready, monotonic_ns};
use shardcast::rtmp::client::{ClientConfig, ClientEvent, ClientRole, ClientSession};
use shardcast::rtmp::message::Kind;
use std::time::Duration;

/// Bytes that may wait for a server that does not read; beyond them the publisher fails.
const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// An unpaced publisher is ahead of its verified players by at most this.
const AHEAD_BYTES: u64 = 2 << 20;
/// What an unpaced publisher sends in one turn, and what it lets wait for a server that reads slowly.
const TURN_BYTES: usize = 256 * 1024;
/// From one turn of an unpaced publisher to the next, and to the next when it had to wait.
const TURN_NS: u64 = 10_000;
const WAIT_NS: u64 = 100_000;

pub struct Publisher {
    pub stream: usize,
    link: Link,
    session: ClientSession,
    /// `None` until the server allows to publish.
    schedule: Option<Schedule>,
    tc_url: String,
    /// Where it was asked to go, and whether it may publish there.
    next: Option<Box<(Leg, bool)>>,
    /// Where it was.
    leaving: Option<Box<Leaving>>,
}

/// A session for stream `stream`, its handshake seeded from the stream and the time.
pub fn session(settings: &Settings, stream: usize, role: ClientRole, now_ns: u64) -> ClientSession {
    let config = ClientConfig {
        chunk_bytes: settings.chunk_bytes,
        ..ClientConfig::new(role, &settings.tc_url, &settings.app, &settings.names[stream])
    };
    ClientSession::new(config, now_ns ^ (stream as u64) << 48, Duration::from_nanos(now_ns))
}

impl Publisher {
    pub fn connect(settings: &Settings, stream: usize, token: u64, bench: &Bench) -> Result<Self, String> {
        let link = Link::connect(settings.publish_address, &bench.epoll, token, None)
            .and_then(|link| link.over_tls(settings.publish_secure))
            .map_err(|e| format!("connect: {e}"))?;
        let session = session(settings, stream, ClientRole::Publish, monotonic_ns());
        let tc_url = settings.tc_url.clone();
        Ok(Self { stream, link, session, schedule: None, tc_url, next: None, leaving: None })
    }

    /// Reads and writes what it can. Returns true when the server just allowed to publish: frames are due from now on.
    pub fn ready(&mut self, ready: Ready, settings: &Settings, bench: &mut Bench) -> Result<bool, String> {
        if ready.write {
            self.link.writable().map_err(|e| format!("connect: {e}"))?;
        }
        let mut asked = None;
        let allowed = ready.read && self.read(bench, &mut asked)?;
        if allowed {
            self.begin(settings);
        }
        if let Some(reference) = asked {
            let leg = Leg::to(
                reference.as_deref(),
                &self.tc_url,
                settings,
                self.stream,
                ClientRole::Publish,
                ready.token,
                bench,
            );
            match leg {
                Ok(leg) => self.next = Some(Box::new((leg, false))),
                Err(reason) => bench.tally.reason(reason),
            }
        }
        if let Err(reason) = self.serve_next(ready, bench) {
            self.next = None;
            bench.tally.reason(format!("asked to reconnect: {reason}"));
        }
        self.leaving.take_if(|leaving| !leaving.ready(bench));
        self.flush(bench)?;
        Ok(allowed)
    }

    /// Goes on with the handshake and the commands at the server it was asked to go to.
    fn serve_next(&mut self, ready: Ready, bench: &mut Bench) -> Result<(), String> {
        let Some((leg, live)) = self.next.as_deref_mut() else { return Ok(()) };
        let count = leg.receive(ready, bench)?;
        let mut input = &bench.buffer[..count];
        let now = Duration::from_nanos(monotonic_ns());
        while let Some(event) = leg.session.receive(&mut input, now).map_err(|e| e.to_string())? {
            *live |= event == ClientEvent::Publishing;
        }
        leg.flush(bench)
    }

    /// Goes over to the next server: the frame to come is a keyframe. What was sent to the old one stays sent.
    fn move_on(&mut self, settings: &Settings, timestamp_ms: u32) {
        let Some((leg, _)) = self.next.take_if(|next| next.1).map(|next| *next) else { return };
        let old = Leg {
            link: std::mem::replace(&mut self.link, leg.link),
            session: std::mem::replace(&mut self.session, leg.session),
            tc_url: std::mem::replace(&mut self.tc_url, leg.tc_url),
        };
        self.leaving = Some(Box::new(Leaving::from(old)));
        self.send_headers(settings, timestamp_ms);
    }

    fn read(&mut self, bench: &mut Bench, asked: &mut Option<Option<String>>) -> Result<bool, String> {
        let mut allowed = false;
        let count = match self.link.receive(&mut bench.buffer).map_err(|e| format!("publisher: {e}"))? {
            Received::Bytes(count) => count,
            Received::Nothing => return Ok(false),
            Received::End => return Err("the server closed a publisher's connection".into()),
        };
        let now = Duration::from_nanos(monotonic_ns());
        let mut at = 0;
        loop {
            let mut input = &bench.buffer[at..count];
            let event = self.session.receive(&mut input, now).map_err(|e| format!("publisher: {e}"))?;
            at = count - input.len();
            match event {
                None => return Ok(allowed),
                Some(ClientEvent::Publishing) => allowed = true,
                Some(ClientEvent::Reconnect { tc_url, .. }) => *asked = Some(tc_url),
                Some(ClientEvent::Status { code, description, level }) if level == "error" => {
                    return Err(format!("the server refused a publisher: {code} {description}"));
                }
                Some(ClientEvent::Ended) => return Err("the server ended a publisher's stream".into()),
                Some(_) => {}
            }
        }
    }

    fn send_headers(&mut self, settings: &Settings, timestamp_ms: u32) {
        self.session.send_metadata(&metadata(settings));
        self.session.send_media(Kind::Video, timestamp_ms, AVC_SEQUENCE_HEADER);
        if settings.shape.audio {
            self.session.send_media(Kind::Audio, timestamp_ms, AAC_SEQUENCE_HEADER);
        }
    }

    /// Streams of one run begin at different parts of a frame's duration, as independent encoders would.
    fn begin(&mut self, settings: &Settings) {
        self.send_headers(settings, 0);
        let frame_ns = 1_000_000_000 / settings.shape.frames_per_second.max(1);
        let offset_ns = frame_ns * self.stream as u64 / settings.names.len().max(1) as u64;
        self.schedule = Some(Schedule::new(settings.shape, monotonic_ns() + offset_ns));
    }

    /// When the next frame is due, in ns; `None` while not publishing.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.schedule.as_ref().map(Schedule::next_due_ns)
    }

    /// Frames sent so far, by track.
    pub fn sent(&self) -> [u64; 2] {
        self.schedule.as_ref().map_or([0; 2], Schedule::taken)
    }

    /// Sends as much as fits while no more than [`AHEAD_BYTES`] are under way to verified players, which have `seen` so
    /// many video frames; frames are due when they are sent. Returns when to be called again.
    pub fn send_unpaced(&mut self, seen: Option<u64>, bench: &mut Bench) -> Result<u64, String> {
        let Some(schedule) = &mut self.schedule else { return Ok(u64::MAX) };
        let mut turn_bytes = 0;
        while turn_bytes < TURN_BYTES && self.session.output().len() < TURN_BYTES {
            let now_ns = monotonic_ns();
            let sent = schedule.taken()[Track::Video.index()];
            let seen = seen.unwrap_or(sent);
            if !bench.window.contains(&now_ns) || sent.saturating_sub(seen) * schedule.mean_bytes() > AHEAD_BYTES {
                break;
            }
            let frame = schedule.take();
            turn_bytes += frame.bytes;
            Self::send(self.stream, &mut self.session, Frame { due_ns: now_ns, ..frame }, bench);
        }
        self.flush(bench)?;
        Ok(monotonic_ns() + if turn_bytes > 0 { TURN_NS } else { WAIT_NS })
    }

    fn send(stream: usize, session: &mut ClientSession, frame: Frame, bench: &mut Bench) {
        let stamp = Stamp {
            stream: u32::try_from(stream).unwrap_or(u32::MAX),
            track: frame.track,
            sequence: frame.sequence,
            due_ns: frame.due_ns,
            keyframe: frame.keyframe,
        };
        let payload = bench.frames.write(&stamp, frame.bytes);
        session.send_media(frame.track.kind(), frame.timestamp_ms, payload);
        bench.tally.frames_sent += 1;
        if bench.window.contains(&frame.due_ns) {
            bench.tally.late.record_ns(monotonic_ns().saturating_sub(frame.due_ns));
        }
    }

    /// Sends all frames due by now.
    pub fn send_due(&mut self, settings: &Settings, bench: &mut Bench) -> Result<(), String> {
        let now_ns = monotonic_ns();
        while let Some(schedule) = &mut self.schedule
            && schedule.next_due_ns() <= now_ns
            && schedule.next_due_ns() < bench.window.end
        {
            let frame = schedule.take();
            if frame.keyframe {
                self.move_on(settings, frame.timestamp_ms);
            }
            Self::send(self.stream, &mut self.session, frame, bench);
        }
        self.leaving.take_if(|leaving| !leaving.ready(bench));
        self.flush(bench)
    }

    fn flush(&mut self, bench: &mut Bench) -> Result<(), String> {
        let output = self.session.output();
        self.link.flush(&bench.epoll, output).map_err(|e| format!("publisher: {e}"))?;
        bench.tally.publisher_backlog_max = bench.tally.publisher_backlog_max.max(output.len());
        if output.len() > BACKLOG_BYTES_MAX {
            return Err(format!("the server left {} MiB of a publisher unread", BACKLOG_BYTES_MAX >> 20));
        }
        Ok(())
    }
}

/// The `onMetaData` body: its name and an ECMA array of numbers (AMF0, 2.2, 2.4 and 2.10).
fn metadata(settings: &Settings) -> Vec<u8> {
    let properties = [
        ("width", 1_280.0),
        ("height", 720.0),
        ("framerate", settings.shape.frames_per_second as f64),
        ("videocodecid", 7.0),
        ("videodatarate", settings.shape.video_bits_per_second as f64 / 1_000.0),
        ("audiocodecid", 10.0),
    ];
    let mut body = vec![2];
    text(&mut body, "onMetaData");
    body.extend_from_slice(&[8, 0, 0, 0, 6]);
    for (name, value) in properties {
        text(&mut body, name);
        body.push(0);
        body.extend_from_slice(&value.to_be_bytes());
    }
    body.extend_from_slice(&[0, 0, 9]);
    body
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}
