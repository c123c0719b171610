//! Clients that wait for a decision about what they ask for: nothing of theirs is lost, handled early or answered twice.

use std::sync::Arc;

use super::rig::{INTER, KEY, Rig, SOUND};
use crate::{
    limits::{ASSEMBLY_BYTES_SHARD_MIN, DECISION_GRACE, MEMORY_BYTES_MIN, READ_BYTES, UNREAD_BYTES_MAX},
    rtmp::{
        client::ClientRole,
        message::{Kind, type_id},
        server::PlayRefusal,
    },
    shard::{
        close::{CloseReason, RefuseReason},
        leaving::Departure,
        listen_addr::{SUCCESSOR_SHOWN_AS, UNIX_PEER},
        passing::Passing,
        predecessor::{Elder, Predecessor},
        questions::{Callbacks, Decision, Event, Ticket},
        reconnect::ReconnectRequest,
    },
};

const DENIED: &str = "NetStream.Publish.Denied";
const STARTED: &str = "NetStream.Publish.Start";

fn rig(cores: usize, events: &[Event]) -> Rig {
    Rig::with(cores, |config| {
        for event in events {
            config.callbacks.events[*event as usize] = true;
        }
    })
}

/// Client and question of one that waits to be let do something.
fn waiting(rig: &mut Rig, role: ClientRole) -> (usize, Ticket) {
    let peer = rig.connect(0, role, "show");
    rig.settle();
    let ticket = rig.questions.last().and_then(|question| question.ticket).expect("it is asked");
    assert!(rig.cores[0].is_held(rig.peers[peer].id));
    (peer, ticket)
}

fn refused(why: &str) -> Decision {
    Decision::Refused(why.to_owned())
}

#[test]
fn nothing_is_asked_where_nobody_is_to_be() {
    let mut rig = rig(1, &[Event::PublishDone]);
    let publisher = rig.publish(0, "show");
    rig.play(0, "show");
    assert!(rig.questions.is_empty());
    rig.lose(publisher, CloseReason::PeerReset);
    assert_eq!(rig.asked(), ["publish_done live/show"]);
    rig.empty();
}

#[test]
fn who_plays_at_the_process_that_took_over_is_told_of_there() {
    let mut rig = rig(1, &[Event::PlayDone]);
    let publisher = rig.publish(0, "show");
    let successor = rig.connect_from(0, SUCCESSOR_SHOWN_AS, ClientRole::Play, "show");
    rig.settle();
    assert_eq!(rig.peers[successor].events, ["Playing"]);
    rig.lose(successor, CloseReason::PeerClosed);
    rig.lose(publisher, CloseReason::PeerClosed);
    assert!(rig.asked().is_empty());
    rig.empty();
}

#[test]
fn clients_of_a_process_and_of_its_successor_are_numbered_apart() {
    let numbers = |generation: Option<u8>| {
        let mut rig = Rig::with(1, |config| {
            config.callbacks.events[Event::Connect as usize] = true;
            let (_old, new) = Passing::pair().expect("descriptors");
            config.predecessor = generation.map(|of| Arc::new(Predecessor::new([Elder { pid: 1, passing: new }], of)));
        });
        for _ in 0..20 {
            waiting(&mut rig, ClientRole::Play);
        }
        rig.questions.iter().map(|question| question.subject.client).collect::<Vec<_>>()
    };
    let (first, second) = (numbers(None), numbers(Some(0)));
    assert!(first.iter().all(|number| !second.contains(number)), "{first:?} {second:?}");
}

#[test]
fn a_publish_begins_once_it_is_allowed_and_a_play_too() {
    let mut rig = rig(2, &[Event::Publish, Event::Play, Event::PlayDone]);
    let (publisher, _) = waiting(&mut rig, ClientRole::Publish);
    rig.pass_ms(1_500);
    assert!(rig.peers[publisher].statuses(1).is_empty() && rig.metrics[0].publishers.get() == 0);
    rig.decide(Decision::Allowed);
    assert_eq!(rig.peers[publisher].events, ["Publishing"]);
    let player = rig.connect(1, ClientRole::Play, "show?token=a");
    rig.settle();
    let question = rig.questions.last().expect("it is asked");
    assert_eq!((question.subject.query.as_str(), question.subject.app.as_str()), ("token=a", "live"));
    rig.video(publisher, 0, KEY);
    assert!(rig.seen(player, 1).is_empty());
    rig.decide(Decision::Allowed);
    assert_eq!(rig.seen(player, 1), [KEY]);
    rig.lose(player, CloseReason::PeerClosed);
    assert_eq!(rig.asked(), ["publish live/show", "play live/show", "play_done live/show"]);
    rig.empty();
}

#[test]
fn whatever_address_a_balancer_names_its_client_is_a_client() {
    for peer in [SUCCESSOR_SHOWN_AS, UNIX_PEER] {
        let mut rig = rig(1, &[Event::Publish]);
        let publisher = rig.connect(0, ClientRole::Publish, "show");
        let core = &mut rig.cores[0];
        assert!(core.name_client(rig.peers[publisher].id, peer));
        rig.settle();
        assert_eq!(rig.asked(), ["publish live/show"]);
        assert!(rig.cores[0].is_held(rig.peers[publisher].id));
        rig.cores[0].remove(rig.peers[publisher].id);
        assert_eq!(rig.metrics[0].successors.get(), 0);
    }
}

#[test]
fn a_refusal_reaches_the_client_with_its_reason_and_the_publisher_may_try_again() {
    let mut rig = rig(1, &[Event::Publish, Event::Play, Event::PublishDone, Event::PlayDone]);
    let (publisher, _) = waiting(&mut rig, ClientRole::Publish);
    rig.decide(refused("no such key"));
    assert_eq!(rig.peers[publisher].statuses(1), [DENIED]);
    assert!(String::from_utf8_lossy(&rig.peers[publisher].raw).contains("no such key"));
    rig.command(publisher, 1, "publish", |out| {
        out.string("other");
    });
    rig.decide(Decision::Allowed);
    assert_eq!(rig.peers[publisher].statuses(1).last().map(String::as_str), Some(STARTED));
    let (player, _) = waiting(&mut rig, ClientRole::Play);
    rig.decide(refused("members only"));
    assert_eq!(rig.peers[player].statuses(1), ["NetStream.Play.Failed"]);
    assert_eq!((rig.refused(RefuseReason::Access), rig.closed(CloseReason::PlayRefused)), (2, 1));
    rig.empty();
    assert_eq!(rig.asked().last().map(String::as_str), Some("publish_done live/other"), "of what began only");
}

#[test]
fn an_answer_to_nobody_is_ignored() {
    let mut rig = rig(1, &[Event::Publish]);
    let (first, late) = waiting(&mut rig, ClientRole::Publish);
    rig.lose(first, CloseReason::PeerClosed);
    rig.decide_as(late, Decision::Allowed);
    // The next one has its place.
    let (second, ticket) = waiting(&mut rig, ClientRole::Publish);
    assert_eq!((ticket.conn, ticket.number == late.number), (late.conn, false));
    rig.decide_as(late, Decision::Allowed);
    assert!(rig.cores[0].is_held(rig.peers[second].id) && rig.metrics[0].publishers.get() == 0);
    rig.decide_as(ticket, Decision::Allowed);
    rig.decide_as(ticket, refused("too late"));
    rig.video(second, 0, KEY);
    assert_eq!(rig.peers[second].events, ["Publishing"]);
    assert_eq!(rig.metrics[0].messages_received.get(), 1);
    rig.empty();
}

#[test]
fn what_was_allowed_and_does_not_come_about_is_told_as_its_end() {
    let events = &[Event::Publish, Event::PublishDone, Event::Play, Event::PlayDone];
    for (decision, told) in [(Decision::Allowed, true), (refused("no"), false)] {
        // The client is gone before the answer.
        let mut rig = rig(1, events);
        let (publisher, ticket) = waiting(&mut rig, ClientRole::Publish);
        rig.lose(publisher, CloseReason::PeerClosed);
        assert_eq!(rig.asked(), ["publish live/show"]);
        rig.decide_as(ticket, decision.clone());
        let done = told.then_some("publish_done live/show");
        assert_eq!(rig.asked()[1..], done.into_iter().collect::<Vec<_>>()[..]);
        rig.decide_as(ticket, decision);
        assert_eq!(rig.questions.len(), 1 + usize::from(told), "once");
        rig.empty();
    }
    // Somebody else has the name.
    let mut rig = rig(1, events);
    let (first, _) = waiting(&mut rig, ClientRole::Publish);
    rig.decide(Decision::Allowed);
    let (second, _) = waiting(&mut rig, ClientRole::Publish);
    rig.decide(Decision::Allowed);
    assert_eq!(rig.asked(), ["publish live/show", "publish live/show", "publish_done live/show"]);
    rig.lose(second, CloseReason::PeerClosed);
    rig.lose(first, CloseReason::PeerClosed);
    assert_eq!(rig.asked()[3..], ["publish_done live/show"]);
    rig.empty();
}

#[test]
fn without_an_answer_the_operator_says_what_happens() {
    for allows in [false, true] {
        let callbacks = Callbacks { failure_allows: allows, ..Callbacks::default() };
        let wait = callbacks.patience + DECISION_GRACE;
        let mut rig = Rig::with(1, |config| {
            config.callbacks = callbacks;
            config.callbacks.events[Event::Publish as usize] = true;
            // Of silence while it waits nobody is to be accused.
            config.publisher_idle = std::time::Duration::from_millis(100);
        });
        let (publisher, ticket) = waiting(&mut rig, ClientRole::Publish);
        rig.pass(wait / 2);
        assert!(rig.cores[0].is_held(ticket.conn));
        rig.pass(wait);
        let expected = if allows { STARTED } else { DENIED };
        assert_eq!(rig.peers[publisher].statuses(1).first().map(String::as_str), Some(expected));
        rig.decide_as(ticket, Decision::Allowed);
        assert_eq!(rig.metrics[0].publishers.get(), 0, "too late, or silent for too long since");
        rig.empty();
    }
}

#[test]
fn what_came_behind_a_request_waits_for_it_and_keeps_its_order() {
    let mut rig = rig(1, &[Event::Publish, Event::Play]);
    let (peer, _) = waiting(&mut rig, ClientRole::Publish);
    rig.decide(Decision::Allowed);
    let (player, _) = waiting(&mut rig, ClientRole::Play);
    rig.decide(Decision::Allowed);
    // In one read: media of the first publish, a second one, its media, the end of the first, a play, and media of the second.
    rig.queue(peer, type_id::VIDEO, 1, KEY);
    rig.queue_command(peer, 0, "createStream", |_| {});
    rig.queue_command(peer, 0, "createStream", |_| {});
    rig.queue_command(peer, 2, "publish", |out| {
        out.string("second");
    });
    rig.queue(peer, type_id::VIDEO, 2, KEY);
    rig.queue(peer, type_id::VIDEO, 1, INTER);
    rig.queue_command(peer, 3, "play", |out| {
        out.string("second");
    });
    rig.queue(peer, type_id::AUDIO, 2, SOUND);
    rig.settle();
    assert_eq!(rig.asked()[2..], ["publish live/second"]);
    assert_eq!(rig.seen(player, 1), [KEY], "what came before the request");
    rig.decide(Decision::Allowed);
    assert_eq!(rig.asked()[3..], ["play live/second"]);
    assert_eq!(rig.seen(player, 1), [KEY, INTER]);
    assert_eq!(rig.metrics[0].messages_received.get(), 3, "the last one is behind the play");
    rig.decide(Decision::Allowed);
    assert_eq!(rig.metrics[0].messages_received.get(), 4);
    assert_eq!(rig.seen(peer, 3), [KEY]);
    assert_eq!(rig.metrics[0].tags_malformed.get(), 0);
    assert!(!rig.cores[0].is_held(rig.peers[peer].id));
    rig.empty();
}

#[test]
fn of_what_came_behind_a_refused_publish_the_rest_is_heard() {
    let mut rig = rig(1, &[Event::Publish]);
    let (peer, _) = waiting(&mut rig, ClientRole::Publish);
    let id = rig.peers[peer].id;
    // The rig does not send what a held connection says; a read has it already.
    rig.queue_command(peer, 1, "publish", |out| {
        out.string("other");
    });
    let rest = rig.peers[peer].session.take_output();
    for byte in rest.iter() {
        rig.cores[0].receive(id, &[*byte]);
    }
    rig.decide(refused("no"));
    assert_eq!(rig.asked(), ["publish live/show", "publish live/other"]);
    rig.decide(Decision::Allowed);
    assert_eq!(rig.peers[peer].statuses(1)[..3], [DENIED, "NetStream.Publish.Start", STARTED]);
    rig.empty();
}

#[test]
fn the_players_of_a_connection_that_waits_are_sent_to() {
    let mut rig = rig(2, &[Event::Publish]);
    let publisher = rig.connect(0, ClientRole::Publish, "show");
    rig.settle();
    rig.decide(Decision::Allowed);
    let player = rig.play(1, "show");
    rig.video(publisher, 0, KEY);
    rig.also(player, 2, "publish", "reply");
    assert!(rig.cores[1].is_held(rig.peers[player].id));
    for n in 1..20 {
        rig.video(publisher, n * 40, INTER);
        rig.pass_ms(40);
    }
    assert_eq!(rig.seen(player, 1).len(), 20);
    rig.decide(refused("one way only"));
    assert_eq!(rig.peers[player].statuses(2), [DENIED]);
    rig.video(publisher, 1_000, KEY);
    assert_eq!(rig.seen(player, 1).len(), 21, "it plays on");
    rig.empty();
}

#[test]
fn an_orderly_end_does_not_wait_for_decisions() {
    let mut rig = rig(1, &[Event::Connect, Event::Publish]);
    let (connecting, late) = waiting(&mut rig, ClientRole::Publish);
    let player = rig.connect(0, ClientRole::Play, "show");
    rig.settle();
    rig.decide(Decision::Allowed);
    rig.also(player, 2, "publish", "reply");
    assert_eq!(rig.asked(), ["connect", "connect", "publish live/reply"]);
    rig.cores[0].shutdown();
    rig.settle();
    assert_eq!(rig.peers[player].statuses(2), [DENIED]);
    rig.decide_as(late, Decision::Allowed);
    rig.pass_ms(3_000);
    assert!(!rig.peers[connecting].open && !rig.peers[player].open && rig.cores[0].has_ended());
}

#[test]
fn what_is_allowed_too_late_for_an_orderly_end_is_told_as_its_end() {
    for (decision, told) in [(Decision::Allowed, 1), (refused("no"), 0)] {
        let mut rig = rig(1, &[Event::Publish, Event::PublishDone]);
        let (_, late) = waiting(&mut rig, ClientRole::Publish);
        rig.cores[0].shutdown();
        rig.settle();
        assert_eq!(rig.asked(), ["publish live/show"]);
        rig.decide_as(late, decision.clone());
        rig.decide_as(late, decision);
        assert_eq!(rig.asked()[1..], ["publish_done live/show"; 1][..told]);
        rig.empty();
    }
}

#[test]
fn who_waits_for_a_connect_is_not_asked_to_reconnect_before_its_answer() {
    let mut rig = rig(1, &[Event::Connect]);
    let (player, _) = waiting(&mut rig, ClientRole::Play);
    let request = ReconnectRequest {
        tc_url: None,
        description: "moving".to_owned(),
        over: std::time::Duration::ZERO,
        after_players: false,
    };
    assert_eq!(rig.cores[0].request_reconnect(request.into()), 1);
    rig.pass_ms(500);
    assert_eq!((rig.peers[player].statuses(0).len(), rig.metrics[0].reconnect_requests.get()), (0, 0));
    rig.decide(Decision::Allowed);
    rig.pass_ms(500);
    let events = &rig.peers[player].events;
    assert_eq!(events.iter().filter(|event| event.starts_with("Reconnect")).count(), 1, "{events:?}");
    assert_eq!(rig.metrics[0].reconnect_requests.get(), 1);
    rig.empty();
}

#[test]
fn a_play_that_fails_does_not_end_a_connection_that_waits_to_publish() {
    let mut rig = rig(1, &[Event::Publish]);
    let player = rig.play(0, "show");
    rig.also(player, 2, "publish", "reply");
    let id = rig.peers[player].id;
    assert!(rig.cores[0].is_held(id));
    rig.cores[0].refuse_play(id, 1, PlayRefusal::Failed, "no form of it is left", CloseReason::PlayRefused);
    rig.settle();
    assert!(rig.peers[player].open);
    rig.decide(Decision::Allowed);
    assert_eq!(rig.peers[player].statuses(2).last().map(String::as_str), Some(STARTED));
    rig.empty();
}

#[test]
fn a_connection_that_waits_leaves_after_its_answer() {
    for decision in [Decision::Allowed, refused("no")] {
        let allowed = decision == Decision::Allowed;
        let mut rig = rig(1, &[Event::Publish]);
        let (publisher, _) = waiting(&mut rig, ClientRole::Publish);
        let over = std::time::Duration::ZERO;
        rig.cores[0].leave(Departure { request: None, over, others_stay: false });
        rig.pass_ms(300);
        assert!(rig.peers[publisher].open, "nobody has answered yet");
        rig.decide(decision);
        assert_eq!(
            rig.peers[publisher].statuses(1).last().map(String::as_str),
            Some(if allowed { STARTED } else { DENIED })
        );
        rig.pass_ms(300);
        if allowed {
            rig.video(publisher, 0, KEY);
        }
        assert_eq!((rig.peers[publisher].open, rig.closed(CloseReason::Drained)), (false, 1));
        rig.empty();
    }
}

#[test]
fn a_connect_waits_and_a_refused_one_is_told_and_closed() {
    let mut rig = rig(1, &[Event::Connect]);
    let (publisher, _) = waiting(&mut rig, ClientRole::Publish);
    let subject = rig.questions[0].subject.clone();
    assert_eq!((subject.app.as_str(), subject.tc_url.as_str()), ("live", "rtmp://host/live"));
    assert!(!subject.words.flash_version.is_empty() && subject.key.is_none());
    rig.decide(Decision::Allowed);
    assert_eq!(rig.peers[publisher].events, ["Publishing"]);
    let (other, _) = waiting(&mut rig, ClientRole::Play);
    assert_ne!(rig.questions[1].subject.client, subject.client);
    rig.decide(refused("not from there"));
    assert_eq!(rig.peers[other].statuses(0), ["NetConnection.Connect.Rejected"]);
    assert!(!rig.peers[other].open);
    assert_eq!((rig.closed(CloseReason::Connect), rig.refused(RefuseReason::Access)), (1, 1));
    rig.say(publisher, Kind::Video, 0, KEY);
    rig.empty();
}

#[test]
fn what_is_kept_of_many_is_bounded_too() {
    // Of the least memory there may be, each of four shards has the least for what is not whole or waits.
    let mut rig = Rig::with(4, |config| {
        config.callbacks.events[Event::Publish as usize] = true;
        config.ceilings.memory_bytes_max = Some(MEMORY_BYTES_MIN as u64);
    });
    let chunk = vec![0; READ_BYTES];
    let waiting: Vec<_> = (0..ASSEMBLY_BYTES_SHARD_MIN / READ_BYTES + 2)
        .map(|_| {
            let (_, ticket) = waiting(&mut rig, ClientRole::Publish);
            rig.cores[0].receive(ticket.conn, &chunk);
            ticket
        })
        .collect();
    rig.settle();
    let held = |rig: &Rig| rig.metrics[0].assembly_bytes.get();
    let closed = rig.closed(CloseReason::AssemblyBytes);
    assert!(closed >= 1 && closed < waiting.len() as u64 / 2, "{closed} are closed");
    assert!((1..=ASSEMBLY_BYTES_SHARD_MIN as i64).contains(&held(&rig)), "{}", held(&rig));
    for ticket in waiting {
        rig.decide_as(ticket, refused("not today"));
    }
    assert_eq!(held(&rig), 0, "what came behind them was read, or is gone");
}

#[test]
fn no_more_is_kept_than_a_read_has() {
    let mut rig = rig(1, &[Event::Publish]);
    let (peer, ticket) = waiting(&mut rig, ClientRole::Publish);
    let chunk = vec![0; READ_BYTES];
    rig.cores[0].receive(ticket.conn, &chunk);
    rig.cores[0].receive(ticket.conn, &chunk[..UNREAD_BYTES_MAX - READ_BYTES]);
    rig.settle();
    assert!(rig.peers[peer].open);
    assert_eq!(rig.metrics[0].assembly_bytes.get(), UNREAD_BYTES_MAX as i64);
    rig.cores[0].receive(ticket.conn, &[0]);
    rig.settle();
    assert!(!rig.peers[peer].open);
    assert_eq!(rig.metrics[0].assembly_bytes.get(), 0);
    assert_eq!(rig.closed(CloseReason::UnreadBytes), 1);
    rig.decide_as(ticket, Decision::Allowed);
    rig.empty();
}
