use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn an_ordinary_stream_passes_untouched() {
    let mut timeline = Timeline::new(None);
    for raw in [0, 40, 80, 5_000, 0x00FF_FFFF, 0x0100_0000] {
        assert_eq!(timeline.media(Kind::Video, 0, raw, at(0)), raw);
    }
}

#[test]
fn the_wrap_is_no_step_back() {
    let mut timeline = Timeline::new(None);
    for raw in [u32::MAX - 40, u32::MAX, 39, 79] {
        assert_eq!(timeline.media(Kind::Video, 0, raw, at(0)), raw);
    }
}

#[test]
fn a_clock_of_31_bits_goes_on_across_its_wrap() {
    const WRAP: u32 = 1 << 31;
    let mut timeline = Timeline::new(None);
    timeline.media(Kind::Video, 0, WRAP - 40, at(0));
    timeline.media(Kind::Audio, 0, WRAP - 20, at(0));
    // Late, as on a network: the distances are the encoder's nevertheless.
    assert_eq!(timeline.media(Kind::Video, 0, 0, at(900)), WRAP);
    assert_eq!(timeline.media(Kind::Audio, 0, 3, at(900)), WRAP + 3);
    assert_eq!(timeline.media(Kind::Video, 0, 40, at(900)), WRAP + 40);
    // Again after as long, now at 2^32.
    let days = u64::from(WRAP);
    timeline.media(Kind::Video, 0, WRAP / 2, at(days / 2));
    timeline.media(Kind::Video, 0, WRAP - 60, at(days));
    assert_eq!(timeline.media(Kind::Video, 0, WRAP - 1, at(days)), u32::MAX);
    assert_eq!(timeline.media(Kind::Video, 0, 39, at(days)), 39);
    // A restart is none: it is not so near.
    let mut timeline = Timeline::new(None);
    timeline.media(Kind::Video, 0, WRAP - 1_200, at(0));
    let restarted = timeline.media(Kind::Video, 0, 0, at(100));
    assert_eq!(restarted, WRAP - 1_100);
}

#[test]
fn reordering_is_held_at_the_last_value() {
    let mut timeline = Timeline::new(None);
    assert_eq!(timeline.media(Kind::Audio, 0, 1_000, at(0)), 1_000);
    assert_eq!(timeline.media(Kind::Audio, 0, 990, at(0)), 1_000);
    assert_eq!(timeline.media(Kind::Audio, 0, 1_010, at(0)), 1_010);
}

#[test]
fn an_encoder_restart_moves_all_tracks_by_one_offset() {
    let mut timeline = Timeline::new(None);
    timeline.media(Kind::Video, 0, 500_000, at(0));
    timeline.media(Kind::Audio, 0, 500_010, at(10));
    let video = timeline.media(Kind::Video, 0, 0, at(110));
    assert_eq!(video, 500_110);
    // Audio still drains its old clock, then starts anew too.
    assert_eq!(timeline.media(Kind::Audio, 0, 500_031, at(111)), 500_031);
    assert_eq!(timeline.media(Kind::Audio, 0, 23, at(112)), video + 23);
    assert_eq!(timeline.media(Kind::Video, 0, 40, at(150)), video + 40);
}

#[test]
fn a_publisher_that_comes_back_goes_on_where_the_first_ended() {
    let mut first = Timeline::new(None);
    first.media(Kind::Video, 0, 10_000, at(10_000));
    first.media(Kind::Audio, 0, 10_020, at(10_020));
    let resume = first.resume(at(10_050)).expect("media was sent");
    let mut second = Timeline::new(Some(resume));
    assert_eq!(second.header(Kind::Video, 0, 0), 10_020);
    assert_eq!(second.media(Kind::Video, 0, 7, at(12_050)), 12_020);
    assert_eq!(second.media(Kind::Audio, 0, 0, at(12_050)), 12_013);
    assert_eq!(second.media(Kind::Audio, 0, 30, at(12_050)), 12_043);
}

#[test]
fn a_quick_return_never_steps_back_on_any_track() {
    let mut second = Timeline::new(Some(Resume { sent: 1_000, ended_at: at(0) }));
    assert_eq!(second.media(Kind::Video, 0, 500, at(1)), 1_040);
    assert_eq!(second.media(Kind::Audio, 0, 400, at(1)), 1_000);
}

#[test]
fn a_message_of_several_tracks_steps_back_on_none_of_them() {
    let mut timeline = Timeline::new(None);
    let both: TrackSet = [0, 1].into_iter().collect();
    assert_eq!(timeline.media(Kind::Video, 1, 110, at(0)), 110);
    assert_eq!(timeline.media_of(Kind::Video, &both, 100, at(0)), 110);
    assert_eq!(timeline.media(Kind::Video, 0, 105, at(0)), 110);
    assert_eq!(timeline.media_of(Kind::Video, &both, 140, at(40)), 140);
    assert_eq!(timeline.media(Kind::Video, 1, 130, at(40)), 140);
    assert_eq!(timeline.media_of(Kind::Video, &TrackSet::EMPTY, 150, at(40)), 150);
}

#[test]
fn a_leap_of_an_hour_passes_and_one_of_weeks_does_not() {
    let mut timeline = Timeline::new(None);
    timeline.media(Kind::Video, 0, 1_000, at(0));
    timeline.media(Kind::Audio, 0, 1_010, at(10));
    let hour = 3_600_000;
    assert_eq!(timeline.media(Kind::Video, 0, 1_040 + hour, at(40)), 1_040 + hour);
    assert_eq!(timeline.media(Kind::Audio, 0, 1_050 + hour, at(50)), 1_050 + hour);
    for leap in [1_u32 << 31, (1 << 31) - 1, 25 * 24 * hour / 10] {
        let before = timeline.media(Kind::Video, 0, 1_080 + hour, at(80));
        assert_eq!(timeline.media(Kind::Video, 0, (1_120 + hour).wrapping_add(leap), at(180)), before + 100);
        let audio = timeline.media(Kind::Audio, 0, (1_130 + hour).wrapping_add(leap), at(190));
        assert_eq!(audio, before + 110);
        timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, 1_040 + hour, at(40));
        timeline.media(Kind::Audio, 0, 1_050 + hour, at(50));
    }
}

#[test]
fn a_track_that_stumbles_once_keeps_its_distance_to_the_others() {
    for stumble in [5_000_u32, 300_000, 3_600_000, 1 << 30, 1 << 31, u32::MAX - 5_000, u32::MAX - (1 << 30)] {
        let mut timeline = Timeline::new(None);
        let distance = (0..200_u32).map(|frame| {
            let (time, now) = (100_000 + frame * 40, at(u64::from(frame) * 40));
            let raw = if frame == 100 { time.wrapping_add(stumble) } else { time };
            let video = timeline.media(Kind::Video, 0, raw, now);
            let audio = timeline.media(Kind::Audio, 0, time + 10, now);
            audio.wrapping_sub(video) as i32
        });
        let last = distance.last().expect("200 frames");
        assert!((10 - 80..=10 + 80).contains(&last), "{stumble}: audio is {last} ms after video");
    }
}

#[test]
fn tracks_that_restart_seconds_apart_end_up_on_one_clock() {
    let mut timeline = Timeline::new(None);
    timeline.media(Kind::Video, 0, 500_000, at(0));
    timeline.media(Kind::Audio, 0, 500_010, at(10));
    let video = timeline.media(Kind::Video, 0, 0, at(40));
    for late in 1..75 {
        timeline.media(Kind::Video, 0, late * 40, at(40 + u64::from(late) * 40));
        timeline.media(Kind::Audio, 0, 500_010 + late * 40, at(50 + u64::from(late) * 40));
    }
    assert_eq!(timeline.media(Kind::Audio, 0, 3_000, at(3_050)), video + 3_000);
    assert_eq!(timeline.media(Kind::Video, 0, 3_000, at(3_060)), video + 3_000);
}

#[test]
fn a_header_takes_its_tracks_place_whatever_its_own_timestamp_is() {
    let mut timeline = Timeline::new(None);
    assert_eq!(timeline.header(Kind::Video, 0, 0), 0);
    assert_eq!(timeline.media(Kind::Video, 0, 1_000, at(0)), 1_000);
    for raw in [0, 1_000, 1_040, 900_000, u32::MAX] {
        assert_eq!(timeline.header(Kind::Video, 0, raw), 1_000);
    }
    assert_eq!(timeline.header(Kind::Audio, 0, 7_000), 1_000);
    assert_eq!(timeline.media(Kind::Audio, 0, 990, at(0)), 1_000);
    assert_eq!(timeline.media(Kind::Video, 0, 1_040, at(40)), 1_040);
}

#[test]
fn a_header_half_the_range_away_is_no_step_ahead() {
    let resume = Resume { sent: 3_000_000_000, ended_at: at(0) };
    let half = resume.sent.wrapping_add(1 << 31);
    assert_eq!(Timeline::new(Some(resume)).header(Kind::Video, 0, half), resume.sent);
    assert_eq!(Timeline::new(Some(resume)).header(Kind::Video, 0, half + 1), resume.sent);
}

#[test]
fn silence_has_its_own_time_and_starts_no_clock() {
    let mut timeline = Timeline::new(None);
    timeline.header(Kind::Audio, 0, 0);
    timeline.media(Kind::Video, 0, 5_000, at(0));
    for (raw, seen) in [(4_990, 4_990), (5_010, 5_010), (4_000, 5_010), (0, 5_010), (90_000, 5_010)] {
        assert_eq!(timeline.aside(Kind::Audio, 0, raw), seen, "{raw}");
    }
    assert_eq!(timeline.media(Kind::Audio, 0, 5_033, at(33)), 5_033);
}

#[test]
fn a_header_far_ahead_of_its_media_holds_nothing_back() {
    let mut timeline = Timeline::new(None);
    assert_eq!(timeline.header(Kind::Video, 0, 90_000), 90_000);
    assert_eq!(timeline.media(Kind::Video, 0, 20, at(0)), 20);
}

#[test]
fn data_keeps_its_own_time_near_media() {
    let mut timeline = Timeline::new(None);
    assert_eq!(timeline.data(0), 0);
    timeline.media(Kind::Video, 0, 20_000, at(0));
    for (raw, seen) in [(19_900, 19_900), (20_500, 20_500), (20_400, 20_500), (90_000, 20_500), (0, 20_500)] {
        assert_eq!(timeline.data(raw), seen, "{raw}");
    }
    timeline.media(Kind::Video, 0, 30_000, at(10_000));
    assert_eq!(timeline.data(0), 30_000);
}

#[test]
fn a_track_that_was_silent_for_weeks_goes_on_at_once() {
    let mut timeline = Timeline::new(None);
    timeline.media(Kind::Video, 0, 0, at(0));
    let day = 24 * 3_600_000;
    for days in 1..30 {
        assert_eq!(timeline.media(Kind::Audio, 0, days * day, at(u64::from(days * day))), days * day);
    }
    let video = timeline.media(Kind::Video, 0, 29 * day + 40, at(u64::from(29 * day + 40)));
    assert_eq!(video, 29 * day + 40);
    assert_eq!(timeline.media(Kind::Video, 0, 29 * day + 80, at(u64::from(29 * day + 80))), video + 40);
}

#[test]
fn any_order_of_timestamps_gives_an_order_that_never_falls() {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut timeline = Timeline::new(None);
    let mut last = [None; 4];
    for step in 0..20_000 {
        let track = random() as u8 % 4;
        let raw = if random() % 50 == 0 { random() } else { step * 20 };
        let sent = timeline.media(Kind::Audio, track, raw, at(u64::from(step)));
        let before: &mut Option<u32> = &mut last[usize::from(track)];
        assert!(before.is_none_or(|before| !is_after(before, sent)), "step {step}");
        *before = Some(sent);
    }
}
