use super::*;

fn on(role: Role, tracks: &[u8]) -> Result<(Role, TrackSet), TagError> {
    Ok((role, tracks.iter().copied().collect()))
}

fn video(payload: &[u8]) -> Result<(Role, TrackSet), TagError> {
    classify_video(payload).map(|tag| (tag.role, tag.tracks))
}

fn audio(payload: &[u8]) -> Result<(Role, TrackSet), TagError> {
    classify_audio(payload).map(|tag| (tag.role, tag.tracks))
}

/// Payload, its role, its tracks.
type Case = (&'static [u8], Role, &'static [u8]);

const VIDEO: &[Case] = &[
    (b"", Role::Empty, &[0]),
    // Legacy: AVC, HEVC as codec 12, others.
    (b"\x17\0\0\0\0\x01avcC", Role::SequenceHeader, &[0]),
    (b"\x17\x01\0\0\x28nalu", Role::Keyframe, &[0]),
    (b"\x27\x01\xFF\xFF\xD8nalu", Role::Coded, &[0]),
    (b"\x37\x01\0\0\0nalu", Role::Coded, &[0]),
    (b"\x47\x01\0\0\0nalu", Role::Coded, &[0]),
    (b"\x17\x02\0\0\0", Role::SequenceEnd, &[0]),
    (b"\x17\x02", Role::SequenceEnd, &[0]),
    (b"\x57\x00", Role::Command, &[0]),
    (b"\x17\x03", Role::Unknown, &[0]),
    (b"\x1C\0\0\0\0hvcC", Role::SequenceHeader, &[0]),
    (b"\x1C\x01\0\0\0nalu", Role::Keyframe, &[0]),
    (b"\x2C\x01\0\0\0nalu", Role::Coded, &[0]),
    (b"\x12h263", Role::Keyframe, &[0]),
    (b"\x22h263", Role::Coded, &[0]),
    (b"\x52\x01", Role::Command, &[0]),
    // Enhanced, one track.
    (b"\x90hvc1conf", Role::SequenceHeader, &[0]),
    (b"\x91hvc1\0\0\0nalu", Role::Keyframe, &[0]),
    (b"\x93hvc1nalu", Role::Keyframe, &[0]),
    (b"\xA3hvc1nalu", Role::Coded, &[0]),
    (b"\xC3hvc1nalu", Role::Coded, &[0]),
    (b"\x93????data", Role::Keyframe, &[0]),
    (b"\x92av01", Role::SequenceEnd, &[0]),
    (b"\x94av01\x02\0\x09colorInfo", Role::ColorInfo, &[0]),
    (b"\xD4av01\x02\0\x09colorInfo", Role::ColorInfo, &[0]),
    (b"\x95av01desc", Role::SequenceHeader, &[0]),
    (b"\xD1\x00", Role::Command, &[0]),
    (b"\x98", Role::Unknown, &[0]),
    (b"\x9Fabcd", Role::Unknown, &[0]),
    // ModEx: one, two, with a 16-bit size, before a command, before Multitrack.
    (b"\x97\x02\0\0\x05\x03hvc1nalu", Role::Keyframe, &[0]),
    (b"\x97\x02\0\0\x05\x07\x00x\x10hvc1conf", Role::SequenceHeader, &[0]),
    (b"\xA7\xFF\0\x01xy\x01hvc1nalu", Role::Coded, &[0]),
    (b"\xD7\x00x\x01\x00", Role::Command, &[0]),
    (b"\x97\x00x\x06\x03hvc1\x00nalu", Role::Keyframe, &[0]),
    // Multitrack: one track, many tracks, many tracks of many codecs, reserved.
    (b"\x96\x03hvc1\x00nalu", Role::Keyframe, &[0]),
    (b"\x96\x03hvc1\x01nalu", Role::Keyframe, &[1]),
    (b"\xA6\x03hvc1\x00nalu", Role::Coded, &[0]),
    (b"\x96\x00hvc1\x07conf", Role::SequenceHeader, &[7]),
    (b"\x96\x13hvc1\x00\0\0\x02ab\xFF\0\0\x03cde", Role::Keyframe, &[0, 255]),
    (b"\x96\x13hvc1\x01\0\0\x02ab\x02\0\0\x00", Role::Keyframe, &[1, 2]),
    (b"\x96\x20hvc1\x00\0\0\x02abav01\x01\0\0\x01c", Role::SequenceHeader, &[0, 1]),
    (b"\x96\x23hvc1\x01\0\0\x02ab", Role::Keyframe, &[1]),
    (b"\x96\x14hvc1\x00\0\0\x01a\x01\0\0\x01b", Role::ColorInfo, &[0, 1]),
    (b"\x96\x04av01\x01\x02\0\x09colorInfo", Role::ColorInfo, &[1]),
    // A command comes before Multitrack, by the order in which the specification reads.
    (b"\xD6\x00", Role::Command, &[0]),
    (b"\xD6\x04av01\x01\x02\0\x09colorInfo", Role::Command, &[0]),
    (b"\x96\x3312345", Role::Unknown, &[]),
    (b"\x96\x09hvc1\x02", Role::Unknown, &[2]),
];

const AUDIO: &[Case] = &[
    (b"", Role::Empty, &[0]),
    (b"\xAF\x00\x12\x10", Role::SequenceHeader, &[0]),
    (b"\xAF\x01aac", Role::Coded, &[0]),
    (b"\xAF\x02", Role::Unknown, &[0]),
    (b"\x2Fmp3", Role::Coded, &[0]),
    (b"\x2F", Role::Coded, &[0]),
    (b"\x90OpusHead", Role::SequenceHeader, &[0]),
    (b"\x91Opusdata", Role::Coded, &[0]),
    (b"\x91????data", Role::Coded, &[0]),
    (b"\x92Opus", Role::SequenceEnd, &[0]),
    (b"\x94Opus\x01\x02", Role::ChannelConfig, &[0]),
    (b"\x93", Role::Unknown, &[0]),
    (b"\x97\x02\0\0\x05\x01Opusdata", Role::Coded, &[0]),
    (b"\x97\x00x\x05\x01Opus\x03data", Role::Coded, &[3]),
    (b"\x95\x00Opus\x01Head", Role::SequenceHeader, &[1]),
    (b"\x95\x11mp4a\x00\0\0\x01a\x01\0\0\x01b", Role::Coded, &[0, 1]),
    (b"\x95\x24mp4a\x00\0\0\x01aac-3\x05\0\0\x01b", Role::ChannelConfig, &[0, 5]),
    (b"\x95\xF1", Role::Unknown, &[]),
];

#[test]
fn video_tags_have_their_roles_and_tracks() {
    for &(payload, role, tracks) in VIDEO {
        assert_eq!(video(payload), on(role, tracks), "{}", payload.escape_ascii());
    }
}

#[test]
fn audio_tags_have_their_roles_and_tracks() {
    for &(payload, role, tracks) in AUDIO {
        assert_eq!(audio(payload), on(role, tracks), "{}", payload.escape_ascii());
    }
}

#[test]
fn multitrack_messages_are_told_from_others() {
    for &(payload, ..) in VIDEO {
        let behind_mod_ex = payload.starts_with(b"\x97\x00x\x06");
        let multitrack = behind_mod_ex || matches!(payload.first(), Some(0x96 | 0xA6));
        assert_eq!(classify_video(payload).map(|tag| tag.multitrack), Ok(multitrack), "{}", payload.escape_ascii());
    }
}

#[test]
fn truncated_and_overrunning_tags_are_refused() {
    let truncated = |offset, part| Err(TagError::Truncated { offset, part });
    let video: [(&[u8], Result<Tag, TagError>); 14] = [
        (b"\x17", truncated(1, "AVC packet type")),
        (b"\x17\x01\0\0", truncated(4, "composition time")),
        (b"\x93hvc", truncated(4, "FourCC")),
        (b"\xD1", truncated(1, "video command")),
        (b"\x97", truncated(1, "ModEx size")),
        (b"\x97\xFF\x01", truncated(3, "ModEx size")),
        (b"\x97\x05abc", truncated(5, "ModEx data")),
        (b"\x97\x00a", truncated(3, "ModEx type")),
        (b"\x96", truncated(1, "multitrack type")),
        (b"\x96\x03hvc1", truncated(6, "track id")),
        (b"\x96\x13hvc1\x00\0\0", truncated(9, "track size")),
        (b"\x96\x13hvc1\x09\0\0\x03ab", Err(TagError::TrackOverrun { offset: 6, track: 9, size: 3, left: 2 })),
        (b"\x96\x23hvc1\x00\0\0\x01aav0", truncated(14, "FourCC")),
        (b"\x96\x06hvc1\x00", Err(TagError::Nested { offset: 1, packet_type: 6 })),
    ];
    for (payload, expected) in video {
        assert_eq!(classify_video(payload), expected, "{}", payload.escape_ascii());
    }
    assert_eq!(classify_audio(b"\xAF"), truncated(1, "AAC packet type"));
    assert_eq!(classify_audio(b"\x91Op"), truncated(3, "FourCC"));
    assert_eq!(classify_audio(b"\x95\x07Opus\0"), Err(TagError::Nested { offset: 1, packet_type: 7 }));
}

#[test]
fn mod_ex_chains_are_bounded() {
    let chain = |links: usize| [&b"\x97"[..], &b"\x00x\x07".repeat(links - 1), b"\x00x\x03hvc1nalu"].concat();
    assert_eq!(video(&chain(MODEX_MAX)), on(Role::Keyframe, &[0]));
    assert!(matches!(classify_video(&chain(MODEX_MAX + 1)), Err(TagError::ModExChain { .. })));
}

#[test]
fn all_256_tracks_fit_and_no_more() {
    let tag = |count: usize| {
        let tracks: Vec<u8> = (0..count).flat_map(|track| [track as u8, 0, 0, 0]).collect();
        [b"\xA6\x13hvc1", &tracks[..]].concat()
    };
    assert_eq!(classify_video(&tag(256)).map(|tag| tag.tracks.len()), Ok(256));
    assert!(matches!(classify_video(&tag(257)), Err(TagError::Tracks { .. })));
}

#[test]
fn no_truncation_or_change_of_a_tag_panics() {
    for &(payload, ..) in VIDEO.iter().chain(AUDIO) {
        for cut in 0..payload.len() {
            // Any answer will do; a role other than the whole tag's is found by the tables above.
            let _ = (classify_video(&payload[..cut]), classify_audio(&payload[..cut]));
            let mut changed = payload.to_vec();
            for value in 0..=u8::MAX {
                changed[cut] = value;
                let _ = (classify_video(&changed), classify_audio(&changed));
            }
        }
    }
}

#[test]
fn the_tags_of_a_small_flv_file_have_their_roles() {
    let tags: [(u8, &[u8], Role); 6] = [
        (9, b"\x17\0\0\0\0\x01\x64\0\x1F\xFF\xE1", Role::SequenceHeader),
        (8, b"\xAF\0\x11\x90", Role::SequenceHeader),
        (9, b"\x17\x01\0\0\0\0\0\0\x04\x65\x88\x84\0", Role::Keyframe),
        (8, b"\xAF\x01\x21\x10\x04", Role::Coded),
        (9, b"\x27\x01\0\0\x28\0\0\0\x02\x41\x9A", Role::Coded),
        (9, b"\x17\x02\0\0\0", Role::SequenceEnd),
    ];
    let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for (kind, body, _) in tags {
        file.extend_from_slice(&[kind, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
        file.extend_from_slice(body);
        file.extend_from_slice(&(11 + body.len() as u32).to_be_bytes());
    }
    let (mut at, mut roles) = (13, Vec::new());
    while at < file.len() {
        let size = usize::from(file[at + 3]);
        let body = &file[at + 11..at + 11 + size];
        let tag = if file[at] == 8 { classify_audio(body) } else { classify_video(body) };
        roles.push(tag.unwrap().role);
        at += 11 + size + 4;
    }
    assert_eq!(roles, tags.map(|(_, _, role)| role));
}
