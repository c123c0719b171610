//! What media messages mean to a relay: FLV 10.1 tags and Enhanced RTMP v2, looked at and, but for Multitrack messages,
//! never copied or changed.
//!
//! A publisher's audio and video payloads are [`tag`]s with a [`Role`] on one or more [`tracks`]; data payloads are
//! sorted by [`data`], after [`amf3_data`] made them readable for all. Which tracks a player receives is its [`choice`];
//! [`multitrack`] takes messages apart accordingly. Reserved values and unknown FourCCs pass as [`Role::Unknown`] or by the
//! role of their packet type; only tags whose own structure overruns them are refused. Pure functions, linear in the
//! payload's headers.

pub mod amf3_data;
pub mod choice;
pub mod data;
pub mod multitrack;
pub mod tag;
pub mod tracks;

pub use choice::{Picked, TrackChoice, TrackChoiceError, Tracks};
pub use data::{DataRole, SET_DATA_FRAME, announces_video, classify_data};
pub use tag::{Role, Tag, TagError, classify_audio, classify_video};
pub use tracks::TrackSet;
