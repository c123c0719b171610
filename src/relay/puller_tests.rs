use super::*;
use crate::{
    limits::{PULL_LINGER_DEFAULT, UPSTREAM_CONNECT_DEFAULT, UPSTREAM_FIRST_BYTE_DEFAULT, UPSTREAM_STALL_DEFAULT},
    relay::template::Template,
    rtmp::key::StreamKey,
};

const CONNECT: Duration = UPSTREAM_CONNECT_DEFAULT;
const STALL: Duration = UPSTREAM_STALL_DEFAULT;
const LINGER: Duration = PULL_LINGER_DEFAULT;
const BEGINS: Heard = Heard::Media { begins: true };
const HALFWAY: Heard = Heard::Media { begins: false };

struct Rig {
    puller: Puller,
    health: HealthBook,
    now: Duration,
}

impl Rig {
    fn new(sources: usize) -> Self {
        let key = StreamKey::new("", "live", "show").unwrap();
        let source = |number| Template::parse(&format!("rtmp://n{number}")).unwrap().fill(&key);
        let sources = (0..sources).map(source).collect();
        let puller = Puller::new(sources, Timing::default(), LINGER, 11);
        Self { puller, health: HealthBook::new(3), now: Duration::from_secs(1_000) }
    }

    fn orders(&mut self) -> Vec<Order> {
        let orders = std::iter::from_fn(|| self.puller.next(self.now, &mut self.health)).take(20).collect::<Vec<_>>();
        assert!(self.puller.deadline().is_none_or(|deadline| deadline > self.now));
        orders
    }

    fn wanted(&mut self) -> Vec<Order> {
        self.puller.want(self.now);
        self.orders()
    }

    fn heard(&mut self, leg: Leg, heard: Heard) -> Vec<Order> {
        self.puller.hear(leg, heard, self.now, &mut self.health);
        self.orders()
    }

    /// What is ordered when `time` has passed, and at every deadline before.
    fn passed(&mut self, time: Duration) -> Vec<Order> {
        let end = self.now + time;
        let mut orders = Vec::new();
        while let Some(deadline) = self.puller.deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            orders.extend(self.orders());
        }
        self.now = end;
        orders
    }

    /// What is ordered at the next deadline.
    fn due(&mut self) -> Vec<Order> {
        self.now = self.puller.deadline().unwrap();
        self.orders()
    }

    /// `time` passes while `legs` send.
    fn sent(&mut self, legs: &[Leg], time: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        for _ in 0..time.as_millis() / 500 {
            orders.extend(self.passed(Duration::from_millis(500)));
            for leg in legs {
                orders.extend(self.heard(*leg, BEGINS));
            }
        }
        orders
    }

    /// What is ordered next while `legs` send.
    fn ordered(&mut self, legs: &[Leg]) -> Vec<Order> {
        let step = Duration::from_millis(500);
        (0..100).map(|_| self.sent(legs, step)).find(|orders| !orders.is_empty()).unwrap_or_default()
    }

    fn live(sources: usize) -> Self {
        let mut rig = Self::new(sources);
        assert_eq!(rig.wanted(), [Order::Open { leg: 0, source: 0 }]);
        assert_eq!(rig.heard(0, Heard::Connected), []);
        assert_eq!(rig.heard(0, BEGINS), [Order::GoLive { leg: 0 }]);
        rig
    }

    fn steady(sources: usize) -> Self {
        let mut rig = Self::live(sources);
        assert_eq!(rig.sent(&[0], RELAY_STEADY), []);
        rig
    }

    /// The primary failed, and a backup serves as leg 1.
    fn on_backup() -> Self {
        let mut rig = Self::steady(2);
        assert_eq!(rig.heard(0, Heard::Failed(Fault::Broken)), [Order::Open { leg: 1, source: 1 }]);
        assert_eq!(rig.heard(1, Heard::Connected), []);
        assert_eq!(rig.heard(1, HALFWAY), [Order::GoLive { leg: 1 }]);
        rig
    }
}

#[test]
fn the_first_source_that_sends_is_the_streams() {
    let mut rig = Rig::new(3);
    assert_eq!(rig.puller.deadline(), None);
    assert_eq!(rig.wanted(), [Order::Open { leg: 0, source: 0 }]);
    assert_eq!(rig.wanted(), [], "who else asks changes nothing");
    assert_eq!(rig.heard(0, Heard::Failed(Fault::NotFound)), [Order::Open { leg: 1, source: 1 }]);
    assert_eq!(rig.heard(1, Heard::Connected), []);
    assert_eq!(rig.heard(1, Heard::Failed(Fault::NotFound)), [Order::Open { leg: 2, source: 2 }]);
    assert_eq!(rig.puller.live(), None);
    assert_eq!(rig.heard(2, HALFWAY), [Order::GoLive { leg: 2 }]);
    assert_eq!(rig.puller.live(), Some(2));
    assert_eq!(rig.puller.report().state, "backup");
    assert_eq!(rig.heard(0, BEGINS), [], "a leg that is gone is not heard any more");
}

#[test]
fn time_outs_are_its_own() {
    let mut rig = Rig::new(3);
    rig.wanted();
    assert_eq!(rig.passed(CONNECT - Duration::from_nanos(1)), []);
    assert_eq!(rig.passed(Duration::from_nanos(1)), [Order::Close { leg: 0 }, Order::Open { leg: 1, source: 1 }]);
    assert_eq!(rig.puller.report().last_fault, Some(Fault::Unreachable));
    rig.heard(1, Heard::Connected);
    let orders = rig.passed(UPSTREAM_FIRST_BYTE_DEFAULT);
    assert_eq!(orders, [Order::Close { leg: 1 }, Order::Open { leg: 2, source: 2 }]);
    assert_eq!(rig.puller.report().last_fault, Some(Fault::Silent));
    rig.heard(2, Heard::Connected);
    rig.heard(2, BEGINS);
    assert_eq!(rig.sent(&[2], RELAY_STEADY)[..0], []);
    rig.now += STALL;
    let orders = rig.orders();
    assert!(orders.contains(&Order::Close { leg: 2 }), "{orders:?}");
    assert_eq!(rig.puller.report().last_fault, Some(Fault::Stalled));
}

#[test]
fn a_stream_found_nowhere_is_missing_for_a_while() {
    let mut rig = Rig::new(2);
    rig.wanted();
    rig.heard(0, Heard::Failed(Fault::NotFound));
    assert_eq!(rig.heard(1, Heard::Failed(Fault::NotFound)), [Order::Missing]);
    assert!(rig.puller.is_missing(rig.now));
    assert_eq!(rig.wanted(), [], "no stampede");
    rig.puller.unwant(rig.now);
    assert_eq!(rig.orders(), [Order::Stop], "there is nothing to linger");
    assert!(!rig.puller.is_idle(rig.now), "the miss is remembered");
    assert_eq!(rig.wanted(), [], "and so is the pause");
    assert_eq!(rig.passed(BACK_OFF_FIRST), [Order::Open { leg: 2, source: 0 }]);
    assert!(!rig.puller.is_missing(rig.now), "whoever asks now may be lucky");
}

#[test]
fn who_asks_and_leaves_at_once_learns_nobody_a_thing_twice() {
    let mut rig = Rig::new(2);
    rig.wanted();
    rig.puller.unwant(rig.now);
    assert_eq!(rig.heard(0, Heard::Failed(Fault::NotFound)), [Order::Open { leg: 1, source: 1 }]);
    assert_eq!(rig.heard(1, Heard::Failed(Fault::NotFound)), [Order::Stop]);
    assert!(rig.puller.is_missing(rig.now));
    assert_eq!(rig.wanted(), []);
}

#[test]
fn an_asker_shortens_a_long_pause_but_not_below_the_memory_of_the_miss() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.wanted(), [Order::Open { leg: 0, source: 0 }]);
    for leg in 0..8 {
        assert_eq!(rig.heard(leg, Heard::Failed(Fault::NotFound)), [Order::Missing]);
        assert_eq!(rig.due(), [Order::Open { leg: leg + 1, source: 0 }]);
    }
    rig.heard(8, Heard::Failed(Fault::NotFound));
    assert!(rig.puller.deadline().unwrap() >= rig.now + BACK_OFF_MAX / 2);
    rig.puller.want(rig.now);
    assert_eq!(rig.puller.deadline(), Some(rig.now + MISS_MEMORY_MAX));
}

#[test]
fn a_live_leg_that_breaks_is_replaced_by_the_others_and_last_by_itself() {
    let mut rig = Rig::steady(3);
    assert_eq!(rig.heard(0, Heard::Failed(Fault::Broken)), [Order::Open { leg: 1, source: 1 }]);
    assert_eq!(rig.heard(1, Heard::Failed(Fault::NotFound)), [Order::Open { leg: 2, source: 2 }]);
    assert_eq!(rig.heard(2, Heard::Failed(Fault::NotFound)), [Order::Open { leg: 3, source: 0 }]);
    assert_eq!(rig.heard(3, Heard::Failed(Fault::NotFound)), [], "players wait: it was live lately");
    assert!(!rig.puller.is_missing(rig.now));
    let (broken, mut leg) = (rig.now, 3);
    for _ in 0..10 {
        for source in 0..3 {
            leg += 1;
            let opened = Order::Open { leg, source };
            if source == 0 {
                assert_eq!(rig.due(), [opened]);
            }
            let orders = rig.heard(leg, Heard::Failed(Fault::NotFound));
            let expected = Order::Open { leg: leg + 1, source: source + 1 };
            if orders == [Order::Missing] {
                assert!(rig.now >= broken + LIVE_LATELY && source == 2, "but not for ever");
                return;
            }
            assert!(if source < 2 {
                orders == [expected]
            } else {
                orders.is_empty() && rig.now < broken + LIVE_LATELY
            });
        }
    }
    panic!("players wait for ever");
}

#[test]
fn a_source_that_breaks_at_once_is_not_asked_without_pause() {
    let mut rig = Rig::live(2);
    assert_eq!(rig.heard(0, Heard::Failed(Fault::Broken)), [Order::Open { leg: 1, source: 1 }]);
    rig.heard(1, Heard::Connected);
    assert_eq!(rig.heard(1, BEGINS), [Order::GoLive { leg: 1 }]);
    assert_eq!(rig.heard(1, Heard::Failed(Fault::Broken)), []);
    assert!(rig.puller.deadline().unwrap() >= rig.now + BACK_OFF_FIRST / 2);
}

#[test]
fn a_stream_that_ended_is_asked_for_elsewhere_and_then_again_after_a_pause() {
    let mut rig = Rig::steady(2);
    assert_eq!(rig.heard(0, Heard::Ended), [Order::Close { leg: 0 }, Order::Open { leg: 1, source: 1 }]);
    assert_eq!(rig.heard(1, Heard::Failed(Fault::NotFound)), []);
    assert_eq!(rig.passed(BACK_OFF_FIRST), [Order::Open { leg: 2, source: 0 }], "its publisher may be back");
}

#[test]
fn a_stream_returns_to_its_primary_at_a_keyframe_once_that_is_proven() {
    let mut rig = Rig::on_backup();
    assert_eq!(rig.ordered(&[1]), [Order::Open { leg: 2, source: 0 }]);
    rig.heard(2, Heard::Connected);
    assert_eq!(rig.heard(2, BEGINS), [], "one keyframe may be an old one");
    assert_eq!(rig.sent(&[1], RETURN_PROOF), []);
    assert_eq!(rig.heard(2, HALFWAY), [], "not in the middle of a GOP");
    assert_eq!(rig.puller.live(), Some(1));
    assert_eq!(rig.heard(2, BEGINS), [Order::GoLive { leg: 2 }, Order::Close { leg: 1 }]);
    assert_eq!(rig.puller.report().state, "live");
    assert_eq!(rig.sent(&[2], BACK_OFF_MAX), []);
}

#[test]
fn a_primary_that_breaks_soon_after_the_return_is_left_for_the_backup_at_once() {
    let mut rig = Rig::on_backup();
    // The backup has not served for long.
    rig.puller.return_at = Some(rig.now);
    assert_eq!(rig.orders(), [Order::Open { leg: 2, source: 0 }]);
    assert_eq!(rig.heard(2, Heard::Connected), []);
    assert_eq!(rig.ordered(&[1, 2]), [Order::GoLive { leg: 2 }, Order::Close { leg: 1 }]);
    assert_eq!(rig.heard(2, Heard::Failed(Fault::Broken)), [Order::Open { leg: 3, source: 1 }]);
}

#[test]
fn a_primary_that_stays_away_is_tried_less_and_less_while_the_backup_serves() {
    let mut rig = Rig::on_backup();
    let mut tried = Vec::new();
    for _ in 0..600 {
        for order in rig.sent(&[1], Duration::from_millis(500)) {
            let Order::Open { leg, source: 0 } = order else { panic!("{order:?}") };
            tried.push(rig.now);
            assert_eq!(rig.heard(leg, Heard::Failed(Fault::NotFound)), []);
        }
    }
    let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() > 8 && pauses[0] < RETURN_FIRST * 2 + STALL, "{pauses:?}");
    assert!(pauses[4..].iter().all(|pause| *pause >= BACK_OFF_MAX / 2), "{pauses:?}");
    assert_eq!(rig.puller.live(), Some(1));
}

#[test]
fn a_leg_under_way_takes_over_when_the_one_that_serves_breaks() {
    let mut rig = Rig::on_backup();
    assert_eq!(rig.ordered(&[1]), [Order::Open { leg: 2, source: 0 }]);
    rig.heard(2, Heard::Connected);
    rig.heard(2, BEGINS);
    assert_eq!(rig.heard(1, Heard::Failed(Fault::Broken)), [Order::GoLive { leg: 2 }]);
}

#[test]
fn a_source_that_asks_us_to_go_elsewhere_serves_until_we_are_there() {
    let mut rig = Rig::steady(2);
    rig.puller.moved(9, rig.now);
    assert_eq!(rig.orders(), []);
    rig.puller.moved(0, rig.now);
    assert_eq!(rig.orders(), [Order::Open { leg: 1, source: 0 }]);
    rig.heard(1, Heard::Connected);
    assert_eq!(rig.heard(1, HALFWAY), []);
    assert_eq!(rig.sent(&[0], Duration::from_secs(1)), []);
    assert_eq!(rig.heard(1, BEGINS), [Order::GoLive { leg: 1 }, Order::Close { leg: 0 }]);
    rig.puller.moved(1, rig.now);
    assert_eq!(rig.sent(&[1], RETURN_FIRST / 2), [], "nobody sends us about at will");
    assert_eq!(rig.ordered(&[1]), [Order::Open { leg: 2, source: 0 }]);
    assert_eq!(rig.heard(2, Heard::Failed(Fault::Unreachable)), []);
    assert_eq!(rig.puller.live(), Some(1), "and who fails to take us leaves us where we are");
}

#[test]
fn a_pull_outlives_its_last_player_by_the_linger() {
    let mut rig = Rig::steady(2);
    rig.puller.unwant(rig.now);
    assert_eq!(rig.sent(&[0], LINGER - Duration::from_secs(1)), []);
    assert_eq!(rig.wanted(), []);
    assert_eq!(rig.sent(&[0], LINGER), [], "it is wanted again");
    rig.puller.unwant(rig.now);
    assert_eq!(rig.sent(&[0], LINGER), [Order::Close { leg: 0 }, Order::Stop]);
    assert!(rig.puller.is_idle(rig.now) && rig.puller.deadline().is_none());
    assert_eq!(rig.wanted(), [Order::Open { leg: 1, source: 0 }]);
}

#[test]
fn a_lingering_pull_that_breaks_is_over() {
    let mut rig = Rig::steady(2);
    rig.puller.unwant(rig.now);
    assert_eq!(rig.heard(0, Heard::Failed(Fault::Broken)), [Order::Stop]);
}

#[test]
fn a_node_out_of_reach_for_one_stream_is_asked_last_for_the_next() {
    let mut rig = Rig::new(2);
    rig.wanted();
    rig.passed(CONNECT);
    let other = Rig::new(2);
    rig.puller = other.puller;
    assert_eq!(rig.wanted(), [Order::Open { leg: 0, source: 1 }]);
    assert_eq!(rig.heard(0, Heard::Failed(Fault::NotFound)), [Order::Open { leg: 1, source: 0 }]);
    rig.heard(1, Heard::Connected);
    assert!(!rig.health.is_sick(&rig.puller.sources[0].endpoint, rig.now), "it is well again");
}
