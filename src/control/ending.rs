//! How the process ends: it serves, leaves (if it is to), ends, and gives its exit code.
//!
//! [`run`] owns that order, and is driven by signals, by orders (`POST /api/drain`, a successor that has taken over) and by the
//! fleet's end. What a leaving node does when is [`super::course`]'s; here it is carried out. Leaving is bounded by its
//! timeout, ending by [`SHUTDOWN_DEADLINE`]; a second signal cuts both short.

use std::{future::pending, sync::Arc};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    EXIT_SIGNALLED, EXIT_SOFTWARE,
    admin::Node,
    args::{Drain, Face, Settings},
    course::{Act, Course, Mode},
    progress,
    systemd::Manager,
    upgrade,
};
use crate::{
    limits::{DRAIN_ORDERS, DRAIN_POLL, SHUTDOWN_DEADLINE, STREAMS_PATIENCE},
    shard::{fleet::FleetEnd, leaving::Departure},
};

/// Why the node leaves.
#[derive(Debug)]
pub(super) enum Leave {
    /// SIGTERM or SIGINT.
    Signal,
    /// An operator's request.
    Api(Drain),
    /// Another process of this node has the listeners: they are let go of here, and go on taking connections there.
    Successor,
}

/// What is asked of the control thread while it serves. The answer says whether it is done.
#[derive(Debug)]
pub(super) enum Order {
    Leave(Leave, oneshot::Sender<bool>),
    /// The process that took over is gone: connections are taken here again.
    Resume(oneshot::Sender<bool>),
    /// Takes back an order to leave, as long as listeners are open.
    Stay(oneshot::Sender<bool>),
}

pub(super) type Orders = mpsc::Receiver<Order>;

pub(super) fn orders() -> (mpsc::Sender<Order>, Orders) {
    mpsc::channel(DRAIN_ORDERS)
}

/// What can make the process leave or end.
pub(super) struct Causes {
    pub(super) signals: Signals,
    pub(super) orders: Orders,
    pub(super) ended: oneshot::Receiver<FleetEnd>,
    pub(super) manager: Option<Arc<Manager>>,
}

/// What became of a node that was to leave.
enum Outcome {
    /// It ends in order.
    End,
    /// It serves on after all.
    Stay,
    /// It leaves in another way, and is asked by whomever this is for.
    Leave(Leave),
    /// It has this exit code.
    Exit(u8),
}

/// Serves until something ends the process, and ends it; the exit code.
pub(super) async fn run(node: &Arc<Node>, settings: &Settings, mut causes: Causes) -> u8 {
    let mut next = None;
    loop {
        let asked = next.take().map(|leave| (leave, None));
        let (leave, answer) = match asked {
            Some(asked) => asked,
            None => tokio::select! {
                end = &mut causes.ended => return exit_code(end),
                _ = causes.signals.next() => (Leave::Signal, None),
                Some(order) = causes.orders.recv() => match order {
                    Order::Leave(leave, answer) => (leave, Some(answer)),
                    Order::Stay(answer) | Order::Resume(answer) => {
                        let _ = answer.send(false);
                        continue;
                    }
                },
            },
        };
        let by_signal = matches!(leave, Leave::Signal);
        let drain = match leave {
            Leave::Signal => settings.drain.at_signal.then(|| settings.drain.plan.clone()),
            Leave::Api(drain) => {
                upgrade::pass_on(&drain, &node.fleet);
                Some(drain)
            }
            Leave::Successor => Some(settings.drain.plan.succeeded(settings.upgrade_timeout)),
        };
        let Some(drain) = drain else { break };
        node.board.drains(drain.mode);
        if let Some(answer) = answer {
            let _ = answer.send(true);
        }
        match leave_service(node, &drain, by_signal, &mut causes).await {
            Outcome::End => break,
            Outcome::Stay => {}
            Outcome::Leave(leave) => next = Some(leave),
            Outcome::Exit(code) => return code,
        }
    }
    if let Face::Relay { .. } = settings.face {
        progress::end();
    }
    node.set_ready(false);
    node.board.ends();
    causes.manager.iter().for_each(|manager| manager.stopping());
    end(node, causes).await
}

/// Goes through the course of `drain`.
async fn leave_service(node: &Arc<Node>, drain: &Drain, by_signal: bool, causes: &mut Causes) -> Outcome {
    let mut course = Course::new(drain, Instant::now().into_std());
    tracing::info!(mode = %drain.mode, url = drain.url.as_deref().unwrap_or_default(), "draining");
    loop {
        while let Some(act) = course.next(Instant::now().into_std(), have_left(node, drain)) {
            match act {
                Act::Unready => node.set_ready(false),
                Act::Move => leave(node, drain.departure()).await,
                Act::MoveRest { over } => leave(node, Departure { request: None, over, others_stay: false }).await,
                Act::Refuse => node.fleet.stop_accepting(),
                Act::Release => node.fleet.lend_listeners(),
                Act::End => return Outcome::End,
            }
        }
        tokio::select! {
            end = &mut causes.ended => return Outcome::Exit(exit_code(end)),
            number = causes.signals.next() => {
                return match (by_signal, drain.mode) {
                    (true, _) => Outcome::Exit(stopped_at_once(node, number)),
                    // Whoever ends the service ends it here, too, and the way it is to end is the same.
                    (false, Mode::Successor) => Outcome::Leave(Leave::Signal),
                    (false, _) => Outcome::End,
                };
            }
            Some(order) = causes.orders.recv() => match order {
                Order::Stay(answer) if !course.is_past_return() => {
                    tracing::info!("the drain is taken back: the node stays");
                    stay(node);
                    let _ = answer.send(true);
                    return Outcome::Stay;
                }
                Order::Resume(answer) if drain.mode == Mode::Successor => {
                    let taken = node.fleet.take_listeners_back();
                    if let Err(error) = &taken {
                        tracing::error!("cannot take connections again: {error}");
                    }
                    let is_back = taken.is_ok();
                    if is_back {
                        stay(node);
                    }
                    let _ = answer.send(is_back);
                    if is_back {
                        return Outcome::Stay;
                    }
                }
                Order::Leave(leave @ Leave::Api(_), answer) if drain.mode == Mode::Successor => {
                    let _ = answer.send(true);
                    return Outcome::Leave(leave);
                }
                Order::Leave(_, answer) | Order::Stay(answer) | Order::Resume(answer) => drop(answer.send(false)),
            },
            () = sleep(DRAIN_POLL) => {}
        }
    }
}

/// Whether nobody is left who is to leave. A process that was replaced stays, too, as long as its successor has the streams of
/// the one before through it.
fn have_left(node: &Node, drain: &Drain) -> bool {
    let serves_behind = drain.mode == Mode::Successor && node.fleet.predecessor().is_some();
    node.fleet.left().is_nobody() && !serves_behind
}

/// All clients leave as `departure` says.
async fn leave(node: &Arc<Node>, departure: Departure) {
    let node = Arc::clone(node);
    let said = tokio::task::spawn_blocking(move || {
        let asked = node.fleet.leave(&departure, STREAMS_PATIENCE);
        (asked, node.fleet.left())
    });
    if let Ok((asked, left)) = said.await {
        tracing::info!(asked, players = left.players, publishers = left.publishers, "clients are leaving");
    }
}

/// The node serves as before.
fn stay(node: &Node) {
    node.fleet.stay();
    node.set_ready(true);
    node.board.serves();
}

/// Ends all streams in order.
async fn end(node: &Node, causes: Causes) -> u8 {
    let Causes { mut signals, orders, ended, .. } = causes;
    // Nobody carries them out any more: who gave one, or gives one yet, hears at once that it is refused.
    drop(orders);
    upgrade::say_goodbye(&node.fleet);
    tracing::info!("ending: players get their last messages; again to stop at once");
    node.fleet.shutdown();
    tokio::select! {
        end = ended => exit_code(end),
        number = signals.next() => stopped_at_once(node, number),
        () = sleep(SHUTDOWN_DEADLINE) => {
            tracing::error!("the shards did not end in {SHUTDOWN_DEADLINE:?}");
            EXIT_SOFTWARE
        }
    }
}

fn stopped_at_once(node: &Node, signal: u8) -> u8 {
    upgrade::say_goodbye(&node.fleet);
    tracing::warn!("stopped at once by a second signal");
    signalled(signal)
}

/// As shells say it.
fn signalled(signal: u8) -> u8 {
    EXIT_SIGNALLED + signal
}

fn exit_code(end: Result<FleetEnd, oneshot::error::RecvError>) -> u8 {
    match end {
        Ok(FleetEnd::Orderly) => {
            tracing::info!("ended");
            0
        }
        Ok(FleetEnd::Panicked { shard }) => {
            tracing::error!(shard, "a shard panicked: the process ends");
            EXIT_SOFTWARE
        }
        Ok(FleetEnd::Hung { shard }) => {
            tracing::error!(shard, "a shard has hung: the process ends");
            EXIT_SOFTWARE
        }
        Err(_) => {
            tracing::error!("the fleet's watch panicked: the process ends");
            EXIT_SOFTWARE
        }
    }
}

/// SIGINT and SIGTERM. SIGPIPE is ignored by the standard library's start.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn catch() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            Some(()) = self.interrupt.recv() => 2,
            Some(()) = self.terminate.recv() => 15,
            else => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_the_shards_is_the_exit_code() {
        assert_eq!(exit_code(Ok(FleetEnd::Orderly)), 0);
        assert_eq!(exit_code(Ok(FleetEnd::Panicked { shard: 1 })), 70);
        assert_eq!(exit_code(Ok(FleetEnd::Hung { shard: 0 })), 70);
        let (sender, watched) = oneshot::channel::<FleetEnd>();
        drop(sender);
        let gone = watched.blocking_recv().expect_err("nobody sends");
        assert_eq!(exit_code(Err(gone)), 70);
        assert_eq!((signalled(2), signalled(15)), (130, 143));
    }
}
