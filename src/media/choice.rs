//! Which tracks of a stream a player receives: what it asked for, and what becomes of that.
//!
//! A [`TrackChoice`] is written `v1,a2`: a kind and a track id, at most [`PICKED_TRACKS_MAX`] of them; `v*` and `a*` are
//! all tracks of a kind, `v-` and `a-` none, `all` is `v*,a*`. A kind that is not named has its default track, 0. It
//! becomes [`Tracks`] by what the player can take: one that did not announce Multitrack gets the first track named of each
//! kind.

use std::{fmt, str::FromStr};

use crate::{limits::PICKED_TRACKS_MAX, rtmp::message::Kind};

/// In place of a number of tracks.
const ALL: u8 = 0xF;

const _: () = assert!(PICKED_TRACKS_MAX < ALL as usize);

/// The tracks of one form of a stream: so many of video and of audio, or all. Players are many: it has seven bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tracks {
    /// Of video in the high nibble, of audio in the low one.
    counts: u8,
    /// Video's, then audio's, each in ascending order.
    ids: [u8; PICKED_TRACKS_MAX],
}

/// The tracks of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked<'a> {
    /// Messages as they are.
    All,
    /// These, in ascending order. One alone comes unwrapped, several in Multitrack messages.
    Listed(&'a [u8]),
}

impl Tracks {
    /// What every player can take: track 0 of either kind.
    pub const DEFAULT: Self = Self { counts: 0x11, ids: [0; PICKED_TRACKS_MAX] };
    /// Every message as it came.
    pub const ALL: Self = Self { counts: ALL << 4 | ALL, ids: [0; PICKED_TRACKS_MAX] };

    /// The tracks of `kind`. Data has none, and is for everybody.
    pub fn of(&self, kind: Kind) -> Picked<'_> {
        let (video, audio) = (self.counts >> 4, self.counts & 0xF);
        let (count, begin) = match kind {
            Kind::Video => (video, 0),
            Kind::Audio if video == ALL => (audio, 0),
            Kind::Audio => (audio, video),
            Kind::Data => return Picked::All,
        };
        if count == ALL {
            return Picked::All;
        }
        Picked::Listed(self.ids.get(begin.into()..usize::from(begin + count)).unwrap_or_default())
    }

    /// Whether anything of `kind` can be among them.
    pub fn wants(&self, kind: Kind) -> bool {
        self.of(kind) != Picked::Listed(&[])
    }

    /// The video track at whose keyframes players may begin.
    pub fn lead(&self) -> u8 {
        match self.of(Kind::Video) {
            Picked::Listed([first, ..]) => *first,
            _ => 0,
        }
    }
}

impl fmt::Debug for Tracks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracks").field("video", &self.of(Kind::Video)).field("audio", &self.of(Kind::Audio)).finish()
    }
}

/// Ids in the order they were named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct List {
    count: u8,
    ids: [u8; PICKED_TRACKS_MAX],
}

impl List {
    fn ids(&self) -> &[u8] {
        self.ids.get(..self.count.into()).unwrap_or_default()
    }

    /// False if there is no room.
    fn push(&mut self, id: u8) -> bool {
        if self.ids().contains(&id) {
            return true;
        }
        let slot = self.ids.get_mut(usize::from(self.count));
        let has_room = slot.is_some();
        if let Some(slot) = slot {
            *slot = id;
            self.count += 1;
        }
        has_room
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Nothing,
    None,
    All,
    Listed(List),
}

/// What a player, or the operator for players that say nothing, asks for. The default is everything for players that
/// announced Multitrack and track 0 for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackChoice {
    video: Asked,
    audio: Asked,
}

/// What is wrong with a text that should choose tracks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackChoiceError {
    #[error("expected tracks such as v1,a2 (v* all video, a- no audio) or all, not '{0}'")]
    Item(String),
    #[error("track ids are 0 to 255, not '{0}'")]
    Id(String),
    #[error("at most {PICKED_TRACKS_MAX} tracks can be chosen; v* and a* are all of a kind")]
    TooMany,
    #[error("'{0}' contradicts what was chosen before it")]
    Contradiction(String),
    #[error("neither audio nor video is left")]
    Nothing,
}

impl FromStr for TrackChoice {
    type Err = TrackChoiceError;

    fn from_str(text: &str) -> Result<Self, TrackChoiceError> {
        if text == "all" {
            return Ok(Self { video: Asked::All, audio: Asked::All });
        }
        if text == "default" {
            return Ok(Self::default());
        }
        let mut choice = Self::default();
        for item in text.split(',') {
            choice.add(item)?;
        }
        if (choice.video, choice.audio) == (Asked::None, Asked::None) {
            return Err(TrackChoiceError::Nothing);
        }
        let listed = |asked| if let Asked::Listed(list) = asked { list.ids().len() } else { 1 };
        if listed(choice.video) + listed(choice.audio) > PICKED_TRACKS_MAX {
            return Err(TrackChoiceError::TooMany);
        }
        Ok(choice)
    }
}

impl TrackChoice {
    fn add(&mut self, item: &str) -> Result<(), TrackChoiceError> {
        let shown = || item.chars().take(16).collect::<String>();
        let asked = match item.chars().next() {
            Some('v') => &mut self.video,
            Some('a') => &mut self.audio,
            _ => return Err(TrackChoiceError::Item(shown())),
        };
        let id = &item[1..];
        match (id, *asked) {
            ("*", Asked::Nothing) => *asked = Asked::All,
            ("-", Asked::Nothing) => *asked = Asked::None,
            ("*", Asked::All) | ("-", Asked::None) => {}
            ("*" | "-", _) | (_, Asked::All | Asked::None) => return Err(TrackChoiceError::Contradiction(shown())),
            (_, Asked::Nothing | Asked::Listed(_)) => {
                if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(TrackChoiceError::Item(shown()));
                }
                let id = id.parse().map_err(|_| TrackChoiceError::Id(shown()))?;
                let mut list = if let Asked::Listed(list) = *asked { list } else { List::default() };
                if !list.push(id) {
                    return Err(TrackChoiceError::TooMany);
                }
                *asked = Asked::Listed(list);
            }
        }
        Ok(())
    }

    /// What a player receives of it. `multitrack`: it announced that it takes Multitrack messages.
    pub fn resolve(&self, multitrack: bool) -> Tracks {
        if *self == Self::default() {
            return if multitrack { Tracks::ALL } else { Tracks::DEFAULT };
        }
        let one = |id: u8| List { count: 1, ids: [id; PICKED_TRACKS_MAX] };
        let resolved = |asked| match asked {
            Asked::All if multitrack => None,
            Asked::None => Some(List::default()),
            Asked::Listed(mut list) if multitrack => {
                list.ids[..usize::from(list.count)].sort_unstable();
                Some(list)
            }
            Asked::Listed(list) => Some(one(list.ids[0])),
            Asked::All | Asked::Nothing => Some(one(0)),
        };
        let (video, audio) = (resolved(self.video), resolved(self.audio));
        let count = |list: Option<List>| list.map_or(ALL, |list| list.count);
        let mut tracks = Tracks { counts: count(video) << 4 | count(audio), ids: [0; PICKED_TRACKS_MAX] };
        let ids = [video, audio].into_iter().flatten();
        let ids = ids.flat_map(|list| list.ids.into_iter().take(list.count.into()));
        tracks.ids.iter_mut().zip(ids).for_each(|(slot, id)| *slot = id);
        tracks
    }
}

impl fmt::Display for TrackChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("default");
        }
        let mut comma = "";
        for (letter, asked) in [('v', self.video), ('a', self.audio)] {
            let items = match asked {
                Asked::Nothing => Vec::new(),
                Asked::None => vec!["-".to_owned()],
                Asked::All => vec!["*".to_owned()],
                Asked::Listed(list) => list.ids().iter().map(u8::to_string).collect(),
            };
            for item in items {
                write!(f, "{comma}{letter}{item}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str) -> TrackChoice {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn fault(text: &str) -> TrackChoiceError {
        text.parse::<TrackChoice>().expect_err(text)
    }

    /// Video and audio of what a player gets that can take Multitrack, then of one that cannot.
    fn resolved(text: &str) -> [(Tracks, Tracks); 1] {
        [(choice(text).resolve(true), choice(text).resolve(false))]
    }

    #[test]
    fn who_says_nothing_gets_all_it_can_take() {
        assert_eq!(resolved("default"), [(Tracks::ALL, Tracks::DEFAULT)]);
        assert_eq!(resolved("all"), [(Tracks::ALL, Tracks::DEFAULT)]);
        assert_eq!(resolved("v0,a0"), [(Tracks::DEFAULT, Tracks::DEFAULT)]);
        assert_eq!(resolved("v0"), [(Tracks::DEFAULT, Tracks::DEFAULT)]);
    }

    #[test]
    fn a_kind_that_is_not_named_has_its_default_track() {
        for multitrack in [true, false] {
            let tracks = choice("v1").resolve(multitrack);
            assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::Listed(&[1]), Picked::Listed(&[0])));
            assert_eq!(tracks.lead(), 1);
            let tracks = choice("a2").resolve(multitrack);
            assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::Listed(&[0]), Picked::Listed(&[2])));
        }
    }

    #[test]
    fn a_kind_can_be_left_out() {
        let tracks = choice("a-,v3").resolve(false);
        assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::Listed(&[3]), Picked::Listed(&[])));
        assert!(tracks.wants(Kind::Video) && !tracks.wants(Kind::Audio) && tracks.wants(Kind::Data));
        let tracks = choice("v-").resolve(true);
        assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::Listed(&[]), Picked::Listed(&[0])));
    }

    #[test]
    fn several_tracks_are_for_those_who_can_take_them() {
        let asked = choice("v7,v2,a*,v7");
        let tracks = asked.resolve(true);
        assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::Listed(&[2, 7]), Picked::All));
        assert_eq!(tracks.lead(), 2);
        let tracks = asked.resolve(false);
        assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::Listed(&[7]), Picked::Listed(&[0])));
        let tracks = choice("v*,a1,a0").resolve(true);
        assert_eq!((tracks.of(Kind::Video), tracks.of(Kind::Audio)), (Picked::All, Picked::Listed(&[0, 1])));
        assert_eq!(tracks.lead(), 0);
        assert_eq!(choice("v2,v7").resolve(true), choice("v7,v2,a0").resolve(true), "one form, not two");
    }

    #[test]
    fn what_is_no_choice_says_why() {
        for text in ["", "1", "x1", "v", "v1,", ",", "v+1", "v 1", "V1", "vé", "v*1", "a--", "all,v1"] {
            assert!(matches!(fault(text), TrackChoiceError::Item(_)), "{text}");
        }
        for text in ["v256", "a99999999999999999999"] {
            assert!(matches!(fault(text), TrackChoiceError::Id(_)), "{text}");
        }
        for text in ["v1,v*", "v*,v-", "a-,a1", "a*,a1"] {
            assert!(matches!(fault(text), TrackChoiceError::Contradiction(_)), "{text}");
        }
        assert_eq!(fault("v1,v2,v3,v4,v5,v6"), TrackChoiceError::TooMany, "audio's default is one too");
        assert_eq!(fault("v1,v2,v3,v4,v5,v6,v7"), TrackChoiceError::TooMany);
        assert_eq!(fault("v-,a-"), TrackChoiceError::Nothing);
        assert!(fault(&"x".repeat(4_000)).to_string().len() < 120);
    }

    #[test]
    fn a_choice_prints_as_it_is_written() {
        for text in ["default", "v1,a2", "v3,v1,a*", "a-", "v*,a*"] {
            assert_eq!(choice(text).to_string(), text);
        }
        assert_eq!(size_of::<Tracks>(), 7);
    }
}
