use super::*;
use crate::{relay::template::Template, rtmp::key::StreamKey};

fn pusher() -> Pusher {
    let key = StreamKey::new("", "live", "show").unwrap();
    Pusher::new(Template::parse("rtmp://h/app/key").unwrap().fill_secret(&key), Timing::default(), 5)
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(1_000_000 + ms)
}

/// Lets the pause that is due pass: when it connects again.
fn reopened(pusher: &mut Pusher, now: Duration) -> Duration {
    assert_eq!(pusher.next(now), None);
    let due = pusher.deadline().expect("another attempt is due");
    assert!(due > now);
    assert_eq!(pusher.next(due - Duration::from_nanos(1)), None);
    assert_eq!(pusher.next(due), Some(PushOrder::Open));
    due
}

#[test]
fn a_stream_is_pushed_from_its_beginning_to_its_end() {
    let mut pusher = pusher();
    assert_eq!((pusher.next(at(0)), pusher.deadline()), (None, None));
    pusher.begin(at(0));
    assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
    assert_eq!(pusher.next(at(0)), None);
    pusher.hear(PushHeard::Connected, at(10));
    pusher.hear(PushHeard::Publishing, at(20));
    assert!(pusher.is_publishing());
    assert_eq!(pusher.deadline(), None);
    pusher.finish(at(90_000));
    assert_eq!(pusher.next(at(90_000)), Some(PushOrder::Close));
    assert_eq!((pusher.next(at(90_000)), pusher.deadline()), (None, None));
    pusher.begin(at(90_001));
    assert_eq!(pusher.next(at(90_001)), Some(PushOrder::Open));
    assert_eq!(pusher.report().attempts, 2);
}

#[test]
fn a_target_that_keeps_failing_is_asked_less_and_less() {
    let mut pusher = pusher();
    pusher.begin(at(0));
    assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..8 {
        pusher.hear(PushHeard::Failed(Fault::Unreachable), now);
        let again = reopened(&mut pusher, now);
        pauses.push(again - now);
        now = again;
    }
    assert!(pauses[0] <= BACK_OFF_FIRST && pauses[7] >= BACK_OFF_MAX / 2 && pauses[7] <= BACK_OFF_MAX, "{pauses:?}");
}

#[test]
fn a_target_that_published_for_a_while_is_asked_again_soon() {
    for (published, soon) in [(RELAY_STEADY, true), (RELAY_STEADY / 2, false)] {
        let mut pusher = pusher();
        pusher.begin(at(0));
        assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
        let mut now = at(0);
        for _ in 0..6 {
            pusher.hear(PushHeard::Failed(Fault::Broken), now);
            now = reopened(&mut pusher, now);
        }
        pusher.hear(PushHeard::Publishing, now);
        now += published;
        pusher.hear(PushHeard::Failed(Fault::Broken), now);
        assert_eq!(reopened(&mut pusher, now) - now <= BACK_OFF_FIRST, soon);
    }
}

#[test]
fn a_refusal_is_followed_by_the_longest_pause() {
    let mut pusher = pusher();
    pusher.begin(at(0));
    assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
    pusher.hear(PushHeard::Refused, at(5));
    assert_eq!(pusher.report().last_fault, Some(Fault::Refused));
    assert!(reopened(&mut pusher, at(5)) - at(5) >= BACK_OFF_MAX / 2);
}

#[test]
fn time_outs_are_its_own() {
    let heard: [&[PushHeard]; 2] = [&[], &[PushHeard::Connected]];
    let timing = Timing::default();
    let limits = [timing.connect, PROGRESS_DEADLINE];
    let faults = [Fault::Unreachable, Fault::Silent];
    for ((heard, limit), fault) in heard.into_iter().zip(limits).zip(faults) {
        let mut pusher = pusher();
        pusher.begin(at(0));
        assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
        heard.iter().for_each(|heard| pusher.hear(*heard, at(0)));
        assert_eq!(pusher.deadline(), Some(at(0) + limit));
        assert_eq!(pusher.next(at(0) + limit - Duration::from_nanos(1)), None);
        assert_eq!(pusher.next(at(0) + limit), Some(PushOrder::Close));
        assert_eq!(pusher.report().last_fault, Some(fault));
        pusher.hear(PushHeard::Failed(Fault::Broken), at(0) + limit);
        assert_eq!(pusher.report().last_fault, Some(fault), "what is closed is not heard any more");
        reopened(&mut pusher, at(0) + limit);
    }
}

#[test]
fn a_target_that_publishes_has_no_deadline() {
    let mut pusher = pusher();
    pusher.begin(at(0));
    assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
    pusher.hear(PushHeard::Publishing, at(0));
    assert_eq!((pusher.deadline(), pusher.next(at(900_000))), (None, None));
}

#[test]
fn a_stream_that_ends_and_comes_back_does_not_shorten_a_pause() {
    let mut pusher = pusher();
    pusher.begin(at(0));
    assert_eq!(pusher.next(at(0)), Some(PushOrder::Open));
    pusher.hear(PushHeard::Refused, at(0));
    pusher.finish(at(1));
    assert_eq!(pusher.next(at(1)), None);
    pusher.begin(at(2));
    assert!(reopened(&mut pusher, at(2)) >= at(0) + BACK_OFF_MAX / 2);
    pusher.finish(at(60_000));
    assert_eq!(pusher.next(at(60_000)), Some(PushOrder::Close));
    assert_eq!(pusher.report().state, "idle");
}
