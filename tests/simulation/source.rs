//! An encoder: what a publisher sends when, decided by the seed.

use shardcast::rtmp::message::Kind;

use crate::{
    model::{Headers, Message, Role, slot},
    rng::Rng,
};

/// What a publisher's stream is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) video: bool,
    pub(crate) audio: bool,
    pub(crate) metadata: bool,
    pub(crate) video_interval: u64,
    pub(crate) audio_interval: u64,
    /// Frames from one keyframe to the next.
    pub(crate) gop: u64,
    pub(crate) key_bytes: usize,
    pub(crate) inter_bytes: usize,
    /// Begins in the middle of a GOP.
    pub(crate) headless: bool,
    pub(crate) base: u32,
    /// Audio's clock against video's.
    pub(crate) skew: u32,
    /// Its video has a second track now and then.
    pub(crate) tracked: bool,
}

impl Recipe {
    pub(crate) fn draw(rng: &mut Rng, fat: bool, calm: bool) -> Self {
        let video = rng.chance(85);
        Self {
            video,
            audio: !video || rng.chance(85),
            metadata: rng.chance(80),
            video_interval: rng.pick(&[33, 40, 40, 100]) * if calm { 2 } else { 1 },
            audio_interval: rng.pick(&[21, 23, 64]) * if calm { 2 } else { 1 },
            gop: rng.between(8, 60),
            key_bytes: if fat { rng.between(50_000, 200_000) } else { rng.between(300, 20_000) } as usize,
            inter_bytes: rng.between(20, 2_000) as usize,
            headless: rng.chance(15),
            base: rng.pick(&[0, 0, 0xFF_FFFF - 3_000, 0u32.wrapping_sub(4_000), 0x8000_0000 - 2_000, 123_456_789]),
            skew: rng.below(150) as u32,
            tracked: rng.chance(25),
        }
    }
}

pub(crate) struct Source {
    recipe: Recipe,
    next_video: u64,
    next_audio: u64,
    frame: u64,
    clock: u32,
    clock_began: u64,
    base: u32,
    headers: Headers,
    opened: bool,
    headers_sent: bool,
}

impl Source {
    pub(crate) fn new(recipe: Recipe, now: u64) -> Self {
        let frame = if recipe.headless && recipe.metadata && recipe.video { 1 } else { 0 };
        Self {
            recipe,
            next_video: now,
            next_audio: now,
            frame,
            clock: 0,
            clock_began: now,
            base: recipe.base,
            headers: [None; 3],
            opened: false,
            headers_sent: false,
        }
    }

    pub(crate) fn is_tracked(&self) -> bool {
        self.recipe.tracked
    }

    pub(crate) fn announces_video(&self) -> bool {
        self.recipe.video
    }

    fn raw(&self, kind: Kind, now: u64) -> u32 {
        let raw = self.base.wrapping_add((now - self.clock_began) as u32);
        if kind == Kind::Audio { raw.wrapping_add(self.recipe.skew) } else { raw }
    }

    /// Adds what is due by `now` to `out`, the session's messages.
    pub(crate) fn produce(&mut self, now: u64, rng: &mut Rng, out: &mut Vec<Message>) {
        self.open(rng, now, out);
        while self.next_video <= now || self.next_audio <= now {
            if rng.below(2_000) == 0 {
                self.restart(now);
            }
            if rng.chance(1) && !self.recipe.metadata {
                self.push(Kind::Data, Role::Cue, self.next_video.min(self.next_audio), 10, out);
            }
            if self.next_video <= self.next_audio {
                self.video(rng, out);
            } else {
                self.audio(rng, out);
            }
        }
    }

    fn open(&mut self, rng: &mut Rng, now: u64, out: &mut Vec<Message>) {
        if std::mem::replace(&mut self.opened, true) {
            return;
        }
        if !self.recipe.video {
            self.next_video = u64::MAX;
        }
        if !self.recipe.audio {
            self.next_audio = u64::MAX;
        }
        if self.recipe.metadata {
            self.header(Kind::Data, 0, now, out);
        }
        if rng.chance(90) {
            self.send_headers(rng, now, out);
        }
    }

    fn send_headers(&mut self, rng: &mut Rng, now: u64, out: &mut Vec<Message>) {
        self.headers_sent = true;
        if self.recipe.video {
            self.header(Kind::Video, rng.between(10, 60) as usize, now, out);
        }
        if self.recipe.audio {
            self.header(Kind::Audio, rng.between(2, 10) as usize, now, out);
        }
    }

    /// The encoder starts its clock anew.
    fn restart(&mut self, now: u64) {
        let elapsed = now - self.clock_began;
        if elapsed > 3_000 {
            self.clock += 1;
            self.clock_began = now;
            self.base = self.base.wrapping_add(elapsed as u32).wrapping_sub(2_500 + (elapsed / 2) as u32);
            self.next_video = if self.recipe.video { now } else { u64::MAX };
            self.next_audio = if self.recipe.audio { now } else { u64::MAX };
        }
    }

    fn video(&mut self, rng: &mut Rng, out: &mut Vec<Message>) {
        let at = self.next_video;
        self.next_video += self.recipe.video_interval;
        let key = self.frame.is_multiple_of(self.recipe.gop);
        self.frame += 1;
        if key && !self.headers_sent {
            self.send_headers(rng, at, out);
        }
        if key && rng.chance(30) {
            let change = rng.chance(50);
            for kind in [Kind::Data, Kind::Video, Kind::Audio] {
                match self.headers[slot(kind)] {
                    Some(_) if change && rng.chance(60) => {
                        self.header(kind, rng.between(2, 60) as usize, at, out);
                    }
                    Some(index) => {
                        let size = out[index as usize].size;
                        self.push(kind, out[index as usize].role, at, size, out);
                        if let Some(last) = out.last_mut() {
                            last.repeats = Some(index);
                        }
                    }
                    None => {}
                }
            }
        }
        let most = if key { self.recipe.key_bytes } else { self.recipe.inter_bytes };
        let size = rng.between(most as u64 / 2, most as u64) as usize;
        self.push(Kind::Video, if key { Role::Keyframe } else { Role::Coded }, at, size, out);
    }

    fn audio(&mut self, rng: &mut Rng, out: &mut Vec<Message>) {
        let at = self.next_audio;
        self.next_audio += self.recipe.audio_interval;
        if rng.below(500) == 0 && self.headers[slot(Kind::Audio)].is_some() {
            self.header(Kind::Audio, rng.between(2, 10) as usize, at, out);
        }
        let size = rng.between(1, 400) as usize;
        self.push(Kind::Audio, Role::Coded, at, size, out);
    }

    fn header(&mut self, kind: Kind, size: usize, at: u64, out: &mut Vec<Message>) {
        let role = if kind == Kind::Data { Role::Metadata } else { Role::SequenceHeader };
        self.headers[slot(kind)] = Some(out.len() as u32);
        self.push(kind, role, at, size, out);
    }

    fn push(&self, kind: Kind, role: Role, at: u64, size: usize, out: &mut Vec<Message>) {
        out.push(Message {
            kind,
            role,
            raw: self.raw(kind, at),
            clock: self.clock,
            size,
            headers: self.headers,
            repeats: None,
            taken_at: None,
            sent: None,
        });
    }
}
