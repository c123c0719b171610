//! When a node that leaves does what: a plan over time without clocks and sockets.
//!
//! Behind an anycast route (`anycast`) withdrawing the route breaks what flows, so clients move first; only then readiness goes,
//! and connections are taken until the routes have followed. A load balancer (`lb`) keeps what flows, so readiness goes first.
//! A node whose listeners another process has taken (`successor`) keeps its readiness, which is that of both. All bounds come
//! from [`Drain`]; its timeout is never exceeded.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use super::args::Drain;
use crate::limits::DRAIN_REST;

/// The order in which clients, readiness and listeners go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Anycast,
    Lb,
    Successor,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anycast => "anycast",
            Self::Lb => "lb",
            Self::Successor => "successor",
        })
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Clients begin to move.
    Move,
    /// Whoever is left goes, over this long: those who did not heed the request, and those who came since.
    MoveRest { over: Duration },
    /// `/readyz` turns 503.
    Unready,
    /// The listeners are closed: nobody can connect any more.
    Refuse,
    /// The listeners are another process's.
    Release,
    /// The streams end.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Do(Act),
    /// Until nobody is left to move, or this moment.
    Moved(Instant),
    /// For this long, or until this moment.
    Wait(Duration, Instant),
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Course {
    steps: VecDeque<Step>,
    /// When the step at the front began.
    since: Instant,
}

impl Course {
    pub(super) fn new(drain: &Drain, now: Instant) -> Self {
        let end = now + drain.timeout;
        let converge = drain.converge.min(drain.timeout / 2);
        let rest = DRAIN_REST.min(drain.timeout / 4);
        let move_rest = Step::Do(Act::MoveRest { over: rest / 2 });
        let steps: &[Step] = match drain.mode {
            Mode::Anycast => &[
                Step::Do(Act::Move),
                Step::Moved(end - converge - rest),
                Step::Do(Act::Unready),
                Step::Wait(converge, end),
                Step::Do(Act::Refuse),
                move_rest,
                Step::Moved(end),
                Step::Do(Act::End),
            ],
            Mode::Lb => &[
                Step::Do(Act::Unready),
                Step::Wait(converge, end),
                Step::Do(Act::Move),
                Step::Moved(end - rest),
                Step::Do(Act::Refuse),
                move_rest,
                Step::Moved(end),
                Step::Do(Act::End),
            ],
            Mode::Successor => &[
                Step::Do(Act::Release),
                Step::Do(Act::Move),
                Step::Moved(end - rest),
                move_rest,
                Step::Moved(end),
                Step::Do(Act::End),
            ],
        };
        Self { steps: steps.iter().copied().collect(), since: now }
    }

    /// Whether the listeners are gone, so that there is no way back.
    pub(super) fn is_past_return(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step, Step::Do(Act::Refuse | Act::Release)))
    }

    /// What to do now; `moved`: nobody is left who is to leave. To be asked again until there is nothing.
    pub(super) fn next(&mut self, now: Instant, moved: bool) -> Option<Act> {
        loop {
            let over = match *self.steps.front()? {
                Step::Do(_) => true,
                Step::Moved(by) => moved || now >= by,
                Step::Wait(time, by) => now >= by.min(self.since + time),
            };
            if !over {
                return None;
            }
            let step = self.steps.pop_front();
            self.since = now;
            if let Some(Step::Do(act)) = step {
                return Some(act);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn drain(mode: Mode, timeout_s: u32, converge_s: u32) -> Drain {
        Drain { mode, url: None, timeout: SECOND * timeout_s, window: SECOND, converge: SECOND * converge_s }
    }

    /// The acts of a drain whose clients are gone in second `gone`, each with the second it is done in.
    fn acts(drain: &Drain, gone: u32) -> Vec<(u32, Act)> {
        let start = Instant::now();
        let mut course = Course::new(drain, start);
        let mut acts = Vec::new();
        for second in 0..100 {
            while let Some(act) = course.next(start + SECOND * second, second >= gone) {
                acts.push((second, act));
            }
        }
        acts
    }

    const REST: Act = Act::MoveRest { over: Duration::from_millis(1_500) };

    #[test]
    fn behind_anycast_readiness_goes_once_clients_have_and_listeners_last() {
        let drain = drain(Mode::Anycast, 30, 5);
        let expected = [(0, Act::Move), (7, Act::Unready), (12, Act::Refuse), (12, REST), (12, Act::End)];
        assert_eq!(acts(&drain, 7), expected);
        let bounded = [(0, Act::Move), (22, Act::Unready), (27, Act::Refuse), (27, REST), (30, Act::End)];
        assert_eq!(acts(&drain, 1_000), bounded);
    }

    #[test]
    fn behind_a_balancer_readiness_goes_first() {
        let drain = drain(Mode::Lb, 30, 5);
        let expected = [(0, Act::Unready), (5, Act::Move), (9, Act::Refuse), (9, REST), (9, Act::End)];
        assert_eq!(acts(&drain, 9), expected);
        assert_eq!(acts(&drain, 1_000).last(), Some(&(30, Act::End)));
    }

    #[test]
    fn what_a_successor_takes_over_is_not_refused() {
        let drain = drain(Mode::Anycast, 30, 5).succeeded();
        assert_eq!(acts(&drain, 3), [(0, Act::Release), (0, Act::Move), (3, REST), (3, Act::End)]);
    }

    #[test]
    fn there_is_a_way_back_until_listeners_go() {
        let start = Instant::now();
        let mut course = Course::new(&drain(Mode::Anycast, 30, 5), start);
        for (second, past) in [(0, false), (8, false), (11, false), (12, false), (14, true)] {
            while course.next(start + SECOND * second, second >= 8).is_some() {}
            assert_eq!(course.is_past_return(), past, "in second {second}");
        }
    }

    #[test]
    fn no_timeout_is_exceeded() {
        for mode in [Mode::Anycast, Mode::Lb, Mode::Successor] {
            for (timeout_s, converge_s) in [(0, 0), (0, 60), (4, 60), (20, 19)] {
                let last = acts(&drain(mode, timeout_s, converge_s), 1_000).pop();
                assert_eq!(last, Some((timeout_s, Act::End)), "{mode} {timeout_s} {converge_s}");
            }
        }
    }
}
