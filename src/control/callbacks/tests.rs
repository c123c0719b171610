//! What requests say, what replies mean, and the queue against a server that answers as a test wants.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc as std_mpsc,
    thread,
};

use http_body_util::BodyExt;
use hyper::{StatusCode, body::Bytes};

use super::{
    client::Reply,
    request::{SIGNATURE, request},
    *,
};
use crate::{
    rtmp::{key::StreamKey, server::ClientWords},
    shard::questions::{Decision, Question, Subject, Ticket},
};

fn plan(port: u16) -> Plan {
    let url = |event: &Event| format!("http://127.0.0.1:{port}/{}", event.label()).parse().ok();
    Plan {
        urls: std::array::from_fn(|index| url(&Event::ALL[index])),
        format: Format::Json,
        timeout: Duration::from_secs(5),
        failure_allows: false,
        concurrency: 4,
        secret: None,
        ca: None,
        node: "edge-1".to_owned(),
    }
}

fn question(event: Event, client: u64, number: u64) -> Question {
    let is_connect = event == Event::Connect;
    let subject = Subject {
        client,
        secure: client == 66,
        shard: 1,
        peer: ([192, 0, 2, 7], 40_000).into(),
        app: "live?a=b".to_owned(),
        tc_url: "rtmp://host/live?a=b".to_owned(),
        words: ClientWords {
            flash_version: "FMLE/3.0".to_owned(),
            page_url: "http://p/?x&y".to_owned(),
            ..Default::default()
        },
        key: (!is_connect).then(|| StreamKey::new("", "live", "a b\"&show").expect("a key")),
        query: if is_connect { String::new() } else { "token=s%2Fe+c&x=\"\u{e9} \r\n".to_owned() },
    };
    let ticket = matches!(event, Event::Connect | Event::Publish | Event::Play);
    let ticket = ticket.then_some(Ticket { shard: 1, conn: 3, number });
    Question { event, ticket, subject: Arc::new(subject), unix_s: 1_700_000_000 }
}

/// When requests go out: long after what they are about.
const SENT_S: u64 = 1_700_000_900;

fn written(plan: &Plan, question: &Question) -> (hyper::HeaderMap, String) {
    let signer = plan.secret.clone().map(Signer::new);
    let url = plan.urls[0].clone().expect("a URL");
    let request = request(plan, &url, signer.as_ref(), question, SENT_S).expect("a request");
    let headers = request.headers().clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let body = runtime.block_on(request.into_body().collect()).expect("a body").to_bytes();
    (headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[test]
fn json_says_who_wants_what() {
    let (headers, body) = written(&plan(1), &question(Event::Publish, 65, 9));
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "event": "publish", "time": 1_700_000_000_u64, "node": "edge-1", "shard": 1,
        "client": {
            "id": 65, "address": "192.0.2.7", "port": 40_000, "protocol": "rtmp",
            "flashVer": "FMLE/3.0", "swfUrl": "", "pageUrl": "http://p/?x&y",
        },
        "app": "live?a=b", "tcUrl": "rtmp://host/live?a=b",
        "stream": { "key": "live/a b\"&show", "name": "a b\"&show", "query": "token=s%2Fe+c&x=\"\u{e9} \r\n" },
    });
    assert_eq!(body, expected);
    assert_eq!(headers["content-type"], "application/json");
    let (_, body) = written(&plan(1), &question(Event::Connect, 65, 9));
    assert!(!body.contains("stream"), "{body}");
    assert!(written(&plan(1), &question(Event::Connect, 66, 9)).1.contains("\"protocol\":\"rtmps\""));
}

#[test]
fn forms_are_nginx_rtmps_and_cannot_be_broken_out_of() {
    let plan = Plan { format: Format::NginxRtmp, ..plan(1) };
    let session = "app=live&flashver=FMLE%2F3.0&swfurl=&tcurl=rtmp%3A%2F%2Fhost%2Flive%3Fa%3Db&\
                   pageurl=http%3A%2F%2Fp%2F%3Fx%26y&addr=192.0.2.7&clientid=65";
    let (name, arguments) = ("name=a%20b%22%26show", "token=s%2Fe+c&x=%22%C3%A9%20%0D%0A");
    for (event, call) in [
        (Event::Connect, "call=connect&a=b".to_owned()),
        (Event::Publish, format!("call=publish&{name}&type=live&{arguments}")),
        (Event::Play, format!("call=play&{name}&start=0&duration=0&reset=0&{arguments}")),
        (Event::PublishDone, format!("call=publish_done&{name}&{arguments}")),
        (Event::PlayDone, format!("call=play_done&{name}&{arguments}")),
    ] {
        let (headers, body) = written(&plan, &question(event, 65, 9));
        assert_eq!(body, format!("{session}&{call}"));
        assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    }
}

/// As readers of forms do: names without case and blanks, the last of a name counts, `a[b]` is of `a`.
fn read_form(body: &str) -> std::collections::BTreeMap<String, String> {
    let text = |part: &str| {
        percent_encoding::percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().trim().to_owned()
    };
    let pairs = body.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let name = |name| text(name).to_lowercase().split('[').next().unwrap_or_default().trim().to_owned();
    pairs.map(|(key, value)| (name(key), text(value))).collect()
}

#[test]
fn a_clients_arguments_are_not_taken_for_what_the_node_says() {
    let plan = Plan { format: Format::NginxRtmp, ..plan(1) };
    let mut question = question(Event::Publish, 65, 9);
    let honest = read_form(&written(&plan, &question).1);
    let forged = "addr=10.0.0.1&name=other&NAME=x&%6Eame=x&+name=x&name%20=x&name[]=x&name%5Ba%5D=x&app=vip&call=play&name;type=x\
                  &clientid&tcurl=&my=own&&name%00=x";
    std::sync::Arc::make_mut(&mut question.subject).query = forged.to_owned();
    let body = written(&plan, &question).1;
    let read = read_form(&body);
    for field in ["addr", "name", "app", "call", "type", "clientid", "tcurl"] {
        assert_eq!(read.get(field), honest.get(field), "{field} of {body}");
    }
    assert_eq!(read.get("my").map(String::as_str), Some("own"));
}

#[test]
fn signatures_are_of_the_time_of_sending_and_the_body() {
    let unsigned = plan(1);
    let signed = Plan { secret: Some(Arc::from(&b"0123456789abcdef"[..])), ..unsigned.clone() };
    let question = question(Event::Play, 65, 9);
    assert!(!written(&unsigned, &question).0.contains_key(SIGNATURE));
    let (headers, body) = written(&signed, &question);
    let signature = Signer::new(Arc::from(&b"0123456789abcdef"[..])).sign(SENT_S, body.as_bytes());
    assert!(body.contains("\"time\":1700000000"), "the event's own: {body}");
    assert_eq!(headers[SIGNATURE].to_str().ok(), signature.as_deref());
    // What Python's hmac says of it.
    let text = Signer::new(Arc::from(&b"Jefe"[..])).sign(7, b"what do ya want for nothing?");
    assert_eq!(text.as_deref(), Some("t=7,v1=239f4b39fd23f4376db46b239fae471e7c6824b3931bc60f4c0b745bef8de34f"));
    assert!(!format!("{signed:?}").contains("0123456789"), "a secret is not shown");
}

#[test]
fn replies_mean_what_their_format_says() {
    let reply = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).expect("a status");
        let body = Bytes::copy_from_slice(body.as_bytes());
        let location = Some("rtmp://elsewhere\n/live".to_owned());
        Reply { status, location, encoding: None, is_json: false, body }
    };
    let ask = |format, status, body: &str| answer::decision(format, &reply(status, body), true);
    let refused = |why: &str| Decision::Refused(why.to_owned());
    let failed = |decision: &Decision| matches!(decision, Decision::Failed(_));
    for (status, body) in
        [(200, ""), (204, ""), (200, "OK"), (201, "{}"), (200, "{\"allow\":true}"), (200, "[]"), (200, "\u{feff} ")]
    {
        assert_eq!(ask(Format::Json, status, body), Decision::Allowed, "{status} {body}");
        assert_eq!(ask(Format::NginxRtmp, status, body), Decision::Allowed, "{status} {body}");
    }
    assert_eq!(ask(Format::Json, 200, "{\"allow\":false}"), refused("refused"));
    assert_eq!(ask(Format::Json, 200, "\u{feff}{\"allow\":false}"), refused("refused"));
    let no = || reply(200, "no");
    let empty = Reply { encoding: Some("gzip".to_owned()), ..reply(204, "") };
    assert_eq!(answer::decision(Format::Json, &empty, true), Decision::Allowed);
    let unread = Reply { encoding: Some("gzip".to_owned()), ..no() };
    let bytes = Reply { body: Bytes::from_static(b"\x1f\x8b\x08"), ..no() };
    for odd in [unread, bytes, Reply { is_json: true, ..no() }] {
        assert!(failed(&answer::decision(Format::Json, &odd, true)), "{odd:?}");
        assert_eq!(answer::decision(Format::Json, &odd, false), Decision::Allowed, "nobody asked: {odd:?}");
    }
    assert_eq!(ask(Format::Json, 200, "{\"allow\":false,\"reason\":\"go\\r\\naway\\u0000\"}"), refused("go  away"));
    assert_eq!(ask(Format::Json, 403, "{\"reason\":\"no\"}"), refused("no"));
    assert_eq!(ask(Format::Json, 404, "<html>"), refused("refused"));
    let long = format!("{{\"reason\":\"{}\"}}", "\u{e9}".repeat(1_000));
    assert_eq!(ask(Format::Json, 403, &long), refused(&"\u{e9}".repeat(limits::CALLBACK_REASON_LETTERS_MAX)));
    for (status, body) in [
        (500, ""),
        (503, "{\"allow\":true}"),
        (302, ""),
        (200, "{\"allow\":"),
        (200, "{\"allow\":\"false\"}"),
        (200, "{\"allow\":null}"),
        (200, "{\"allow\":false,\"allow\":true}"),
        (200, "false"),
        (200, "[[["),
        (200, "[false]"),
        (304, ""),
    ] {
        assert!(failed(&ask(Format::Json, status, body)), "{status} {body}");
    }
    for status in [302, 403, 500] {
        assert_eq!(ask(Format::NginxRtmp, status, ""), refused("refused"));
    }
    let said = answer::remark(Format::NginxRtmp, &reply(302, "")).expect("nobody is redirected");
    assert!(said.contains("\"rtmp://elsewhere /live\": clients are not redirected"), "{said}");
    assert!(answer::remark(Format::NginxRtmp, &reply(403, "")).is_none());
    assert!(answer::remark(Format::Json, &reply(302, "")).is_none());
}

/// An HTTP server that hands each request to the test, which answers it.
struct Backend {
    port: u16,
    requests: std_mpsc::Receiver<(String, TcpStream)>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (say, requests) = std_mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let say = say.clone();
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
                    while let Some(request) = read(&mut reader) {
                        if say.send((request, stream.try_clone().expect("a descriptor"))).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    fn next(&self) -> (String, TcpStream) {
        self.requests.recv_timeout(Duration::from_secs(10)).expect("a request")
    }

    fn is_quiet(&self) -> bool {
        self.requests.recv_timeout(Duration::from_millis(100)).is_err()
    }
}

/// The path of a request.
fn read(reader: &mut impl BufRead) -> Option<String> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        path = path.or_else(|| line.split(' ').nth(1).map(ToOwned::to_owned));
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    path
}

fn answer(stream: &mut TcpStream, status: u16) {
    let _ = write!(stream, "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n");
}

/// Callbacks that run on a thread of their own.
struct Running {
    desk: questions::Desk,
    counts: Arc<Counts>,
    decisions: std_mpsc::Receiver<(u64, Decision)>,
}

fn start(plan: &Plan) -> Running {
    let callbacks = Callbacks::new(plan).expect("they start");
    let (desk, counts) = (callbacks.for_shards().desk.expect("a desk"), callbacks.counts());
    let (say, decisions) = std_mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let Callbacks { client, plan, counts, questions, sender } = callbacks;
        drop(sender);
        let decide = move |ticket: Ticket, decision| drop(say.send((ticket.number, decision)));
        runtime.block_on(Dispatcher::new(client, plan, None, counts, decide).run(questions));
    });
    Running { desk, counts, decisions }
}

impl Running {
    fn next(&self) -> (u64, Decision) {
        self.decisions.recv_timeout(Duration::from_secs(10)).expect("a decision")
    }
}

#[test]
fn a_clients_requests_go_one_after_the_other_and_others_beside_them() {
    let backend = Backend::start();
    let running = start(&plan(backend.port));
    assert!(running.desk.take(question(Event::Publish, 1, 1)));
    let (first, mut held) = backend.next();
    assert_eq!(first, "/publish");
    assert!(running.desk.take(question(Event::PublishDone, 1, 2)) && running.desk.take(question(Event::Play, 1, 3)));
    assert!(backend.is_quiet(), "the client has one under way");
    assert!(running.desk.take(question(Event::Connect, 2, 4)));
    let (path, mut stream) = backend.next();
    assert_eq!(path, "/connect");
    answer(&mut stream, 403);
    assert_eq!(running.next(), (4, Decision::Refused("refused".to_owned())));
    answer(&mut held, 200);
    assert_eq!(running.next(), (1, Decision::Allowed));
    let (path, mut stream) = backend.next();
    assert_eq!(path, "/publish_done");
    answer(&mut stream, 500);
    let (path, mut stream) = backend.next();
    assert_eq!(path, "/play");
    answer(&mut stream, 500);
    assert!(matches!(running.next(), (3, Decision::Failed(_))));
    let count = |event, outcome| running.counts.outcome(event, outcome);
    assert_eq!((count(Event::Publish, Outcome::Allowed), count(Event::Connect, Outcome::Denied)), (1, 1));
    assert_eq!((count(Event::PublishDone, Outcome::Failed), count(Event::Play, Outcome::Failed)), (1, 1));
}

#[test]
fn what_was_asked_is_answered_when_nobody_is_left_to_ask() {
    let backend = Backend::start();
    let Running { desk, counts, decisions } = start(&Plan { concurrency: 1, ..plan(backend.port) });
    for number in 0..2 {
        assert!(desk.take(question(Event::Play, number, number)));
    }
    let (_, mut first) = backend.next();
    drop(desk);
    assert!(backend.is_quiet(), "one at a time");
    answer(&mut first, 200);
    answer(&mut backend.next().1, 403);
    let decided: Vec<_> = decisions.iter().collect();
    assert_eq!(decided, [(0, Decision::Allowed), (1, Decision::Refused("refused".to_owned()))]);
    assert!(counts.is_idle());
}

#[test]
fn whoever_asks_for_much_waits_behind_itself() {
    let backend = Backend::start();
    let running = start(&Plan { concurrency: 1, ..plan(backend.port) });
    for number in 0..50 {
        assert!(running.desk.take(question(Event::Play, number, number)));
    }
    let (_, mut first) = backend.next();
    let mut other = question(Event::Play, 50, 50);
    Arc::make_mut(&mut other.subject).peer = ([198, 51, 100, 9], 40_000).into();
    assert!(running.desk.take(other));
    assert!(backend.is_quiet(), "one at a time");
    answer(&mut first, 200);
    answer(&mut backend.next().1, 200);
    answer(&mut backend.next().1, 200);
    let decided = [running.next(), running.next(), running.next()].map(|(number, _)| number);
    assert!(decided.contains(&50), "{decided:?}");
}

#[test]
fn one_address_does_not_fill_the_queue() {
    let backend = Backend::start();
    let running = start(&Plan { concurrency: 1, ..plan(backend.port) });
    assert!(running.desk.take(question(Event::Play, 0, 0)));
    let (_, mut first) = backend.next();
    let most = limits::CALLBACKS_ASKED_PER_ADDRESS_MAX as u64;
    for number in 1..=most + 1 {
        assert!(running.desk.take(question(Event::Play, number, number)));
    }
    let (number, decision) = running.next();
    assert_eq!((number, matches!(decision, Decision::Failed(_))), (most + 1, true), "{decision:?}");
    assert_eq!(running.counts.queued() as u64, most);
    answer(&mut first, 200);
    assert_eq!(running.next(), (0, Decision::Allowed));
    assert_eq!(running.counts.outcome(Event::Play, Outcome::Overflow), 1);
}

#[test]
fn no_more_are_under_way_than_may_and_those_that_waited_too_long_are_not_sent() {
    let backend = Backend::start();
    let running = start(&Plan { concurrency: 2, timeout: Duration::from_millis(400), ..plan(backend.port) });
    for number in 0..20 {
        assert!(running.desk.take(question(Event::Play, number, number)));
    }
    let silent = (backend.next(), backend.next());
    assert!(backend.is_quiet());
    assert_eq!((running.counts.under_way(), running.counts.queued()), (2, 18));
    for _ in 0..20 {
        assert!(matches!(running.next().1, Decision::Failed(_)));
    }
    assert!(backend.is_quiet(), "nobody waits for their answers any more");
    assert_eq!(running.counts.outcome(Event::Play, Outcome::Timeout), 20);
    drop(silent);
    let by = std::time::Instant::now() + Duration::from_secs(5);
    while !running.counts.is_idle() {
        assert!(std::time::Instant::now() < by, "{:?}", running.counts);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn beyond_the_queue_there_is_no_room() {
    // Nobody takes from it.
    let callbacks = Callbacks::new(&plan(1)).expect("they start");
    let desk = callbacks.for_shards().desk.expect("a desk");
    for number in 0..limits::CALLBACKS_QUEUED_MAX as u64 {
        assert!(desk.take(question(Event::Play, number, number)));
    }
    assert!(!desk.take(question(Event::Play, 0, 0)));
    for number in 0..limits::CALLBACKS_QUEUED_MAX as u64 {
        assert!(desk.take(question(Event::PlayDone, number, number)), "what is told has a queue of its own");
    }
    assert!(!desk.take(question(Event::PlayDone, 0, 0)));
    let counts = callbacks.counts();
    assert_eq!(counts.outcome(Event::Play, Outcome::Overflow), 1);
    assert_eq!(counts.outcome(Event::PlayDone, Outcome::Overflow), 1);
    assert_eq!(counts.queued(), 2 * limits::CALLBACKS_QUEUED_MAX);
}

#[test]
fn a_server_that_is_told_and_does_not_answer_holds_up_no_question() {
    let backend = Backend::start();
    let running = start(&Plan { concurrency: 2, ..plan(backend.port) });
    for number in 0..20 {
        assert!(running.desk.take(question(Event::PlayDone, number, number)));
    }
    let silent = (backend.next(), backend.next());
    assert_eq!((silent.0.0.as_str(), silent.1.0.as_str()), ("/play_done", "/play_done"));
    assert!(running.desk.take(question(Event::Publish, 100, 1)));
    let (path, mut stream) = backend.next();
    assert_eq!(path, "/publish");
    answer(&mut stream, 200);
    assert_eq!(running.next(), (1, Decision::Allowed));
    assert_eq!(running.counts.queued(), 18);
}

#[test]
fn of_one_client_the_newest_events_wait() {
    let backend = Backend::start();
    let running = start(&plan(backend.port));
    assert!(running.desk.take(question(Event::PublishDone, 1, 0)));
    let (_, mut held) = backend.next();
    let most = limits::CALLBACKS_TOLD_PER_CLIENT_MAX;
    for number in 0..3 * most as u64 {
        assert!(running.desk.take(question(Event::PlayDone, 1, number)));
    }
    assert!(running.desk.take(question(Event::Play, 1, 1)));
    let by = std::time::Instant::now() + Duration::from_secs(5);
    while running.counts.queued() != most + 1 {
        assert!(std::time::Instant::now() < by, "{:?}", running.counts);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(running.counts.outcome(Event::PlayDone, Outcome::Overflow), 2 * most as u64);
    answer(&mut held, 200);
    for _ in 0..most {
        let (path, mut stream) = backend.next();
        assert_eq!(path, "/play_done");
        answer(&mut stream, 200);
    }
    let (path, mut stream) = backend.next();
    assert_eq!(path, "/play", "the question was not forgotten");
    answer(&mut stream, 200);
    assert_eq!(running.next(), (1, Decision::Allowed));
}

#[test]
fn what_is_no_http_too_long_or_cut_short_is_a_failure() {
    let backend = Backend::start();
    let running = start(&plan(backend.port));
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {0}\r\n\r\n{1}", 20_000, "x".repeat(20_000));
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (number, said) in
        ["\x16\x03\x01", "", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", &long, &head]
            .iter()
            .enumerate()
    {
        let number = number as u64;
        assert!(running.desk.take(question(Event::Play, number, number)));
        let (_, mut stream) = backend.next();
        let _ = stream.write_all(said.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let (answered, decision) = running.next();
        assert!(answered == number && matches!(decision, Decision::Failed(_)), "{number}: {decision:?}");
    }
}
