use std::{
    net::{Ipv4Addr, TcpListener},
    sync::mpsc,
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;
use crate::shard::{
    config::DriverChoice,
    runtime::ShardRuntime,
    testing::{Folder, black_hole},
};

const PATIENCE: Duration = Duration::from_secs(10);
const DRIVERS: [DriverChoice; 2] = [DriverChoice::Auto, DriverChoice::Legacy];

/// Names the tests know, and one that is never answered for.
fn desk() -> DialDesk {
    DialDesk::with(|question| match question {
        Question::Roots => Answer::Roots(Err("no roots".to_owned())),
        Question::Addresses(name) => Answer::Addresses(match name.as_str() {
            "nowhere" => Ok(Vec::new()),
            "hangs" => {
                std::thread::sleep(Duration::from_millis(700));
                Err("too late".to_owned())
            }
            // "a+b": both of them.
            _ => name.split('+').map(|ip| ip.parse::<IpAddr>().map_err(|_| format!("{name} is unknown"))).collect(),
        }),
    })
}

/// Runs `test` with a dialler on a runtime of `driver`, whose answers come as they would over a bell.
fn with_dialler<R>(driver: DriverChoice, test: impl AsyncFnOnce(Rc<Dialler>) -> R) -> R {
    let (mut runtime, _) = ShardRuntime::build(driver).expect("a runtime");
    runtime.block_on(async {
        let (say, hear) = mpsc::channel();
        let deliver: Deliver = Arc::new(move |id, answer| drop(say.send((id, answer))));
        let dialler = Rc::new(Dialler::new(desk(), deliver, SocketOptions::default()).expect("an epoll set"));
        let watching = Rc::clone(&dialler);
        monoio::spawn(async move { watching.watch().await });
        let answering = Rc::clone(&dialler);
        monoio::spawn(async move {
            loop {
                monoio::time::sleep(Duration::from_millis(1)).await;
                for (id, answer) in hear.try_iter() {
                    answering.answered(id, answer);
                }
            }
        });
        test(dialler).await
    })
}

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.to_owned(), port, secure: false }
}

async fn dial(dialler: &Dialler, to: &Endpoint, patience: Duration) -> Result<Connected, DialError> {
    dialler.dial(to, patience, &Rc::default()).await.expect("nobody gave it up")
}

fn listener(host: impl std::net::ToSocketAddrs) -> TcpListener {
    TcpListener::bind(host).expect("a free port")
}

/// Where the sockets of this machine come from that are on their way to `port`, or connected to it, by IPv4; `all`: or were.
fn sockets_to(port: u16, all: bool) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let from = |line: &str| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        // SYN_SENT and ESTABLISHED.
        let counts = words[2].ends_with(&format!(":{port:04X}")) && (all || ["01", "02"].contains(&words[3]));
        counts.then(|| words[1].to_owned())
    };
    table.lines().skip(1).filter_map(from).collect()
}

/// How many of them there are that were not there `before`.
fn new_sockets_to(port: u16, before: &[String]) -> usize {
    sockets_to(port, false).iter().filter(|socket| !before.contains(socket)).count()
}

/// A port at which `taken` addresses listen.
fn listeners(taken: &[&str]) -> (Vec<TcpListener>, u16) {
    for _ in 0..100 {
        let first = TcpListener::bind((taken[0], 0)).expect("a free port");
        let port = first.local_addr().expect("bound").port();
        let others = taken[1..].iter().map(|ip| TcpListener::bind((*ip, port))).collect::<Result<Vec<_>, _>>();
        if let Ok(others) = others {
            return (std::iter::once(first).chain(others).collect(), port);
        }
    }
    panic!("no port is free at {taken:?}");
}

/// A port of nobody at 127.0.0.1: bound, so that nobody else gets it, but not listened on.
fn refusing() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let port = socket.local_addr().expect("bound").as_socket().expect("IPv4").port();
    (socket, port)
}

#[test]
fn addresses_and_names_are_connected_to() {
    for driver in DRIVERS {
        let (listening, port) = listeners(&["127.0.0.1"]);
        with_dialler(driver, async |dialler| {
            for host in ["127.0.0.1", "127.0.0.1+127.0.0.1"] {
                let connected = dial(&dialler, &tcp(host, port), PATIENCE).await.expect("it listens");
                let (accepted, client) = listening[0].accept().expect("it connected");
                assert_eq!(connected.peer, accepted.local_addr().expect("bound"));
                let socket = Socket::from(connected.socket);
                assert_eq!(socket.local_addr().expect("bound").as_socket(), Some(client));
                assert!(socket.tcp_nodelay().expect("an option"));
            }
            assert!(dialler.waiting.borrow().is_empty());
        });
    }
}

#[test]
fn ipv6_is_preferred_and_ipv4_follows() {
    for driver in DRIVERS {
        let (mut listening, port) = listeners(&["127.0.0.1", "::1"]);
        with_dialler(driver, async |dialler| {
            let to = tcp("127.0.0.1+::1", port);
            assert!(dial(&dialler, &to, PATIENCE).await.expect("both listen").peer.is_ipv6());
            drop(listening.pop());
            let begun = Instant::now();
            assert!(dial(&dialler, &to, PATIENCE).await.expect("one listens").peer.is_ipv4());
            assert!(begun.elapsed() < limits::DIAL_ATTEMPT_PAUSE, "a refusal is not waited after");
        });
    }
}

#[test]
fn an_address_that_is_silent_is_passed_over_and_its_socket_closed() {
    for driver in DRIVERS {
        let (_hole, port, _fill) = black_hole(Ipv4Addr::new(127, 0, 0, 2));
        let good = listener((Ipv4Addr::LOCALHOST, port));
        let before = sockets_to(port, true);
        with_dialler(driver, async |dialler| {
            let begun = Instant::now();
            let connected = dial(&dialler, &tcp("127.0.0.2+127.0.0.1", port), PATIENCE).await.expect("one listens");
            assert_eq!(connected.peer, good.local_addr().expect("bound"));
            let took = begun.elapsed();
            assert!(took >= limits::DIAL_ATTEMPT_PAUSE && took < PATIENCE / 2, "{took:?}");
            assert_eq!(new_sockets_to(port, &before), 1, "the other is closed");
            drop(connected);
            assert_eq!(new_sockets_to(port, &before), 0);
        });
    }
}

#[test]
fn patience_ends_a_dial_and_closes_its_sockets() {
    for driver in DRIVERS {
        let (_hole, port, _fill) = black_hole(Ipv4Addr::new(127, 0, 0, 2));
        let before = sockets_to(port, true);
        with_dialler(driver, async |dialler| {
            let (begun, patience) = (Instant::now(), Duration::from_millis(300));
            let error = dial(&dialler, &tcp("127.0.0.2", port), patience).await.expect_err("it is silent");
            let text = error.to_string();
            assert!(matches!(error, DialError::TimedOut { stage: Stage::Connect { addresses: 1 }, .. }), "{text}");
            assert!(text.contains(&format!("127.0.0.2:{port}: connecting took longer than 300ms")), "{text}");
            assert!(begun.elapsed() >= patience && begun.elapsed() < PATIENCE / 2);
            assert_eq!(new_sockets_to(port, &before), 0);
        });
    }
}

#[test]
fn a_refusal_says_where() {
    let (_held, port) = refusing();
    for driver in DRIVERS {
        with_dialler(driver, async |dialler| {
            let error = dial(&dialler, &tcp("127.0.0.1", port), PATIENCE).await.expect_err("nobody listens");
            assert!(matches!(error, DialError::Refused { .. }));
            let text = error.to_string();
            assert!(text.contains(&format!("127.0.0.1:{port} refuses")), "{text}");
        });
    }
}

#[test]
fn names_that_are_not_found_say_so_and_hold_up_nobody() {
    let (_listening, port) = listeners(&["127.0.0.1"]);
    for driver in DRIVERS {
        with_dialler(driver, async |dialler| {
            let error = dial(&dialler, &tcp("nowhere", 1), PATIENCE).await.expect_err("no address");
            assert_eq!(error.to_string(), "nowhere has no address: check the name");
            let error = dial(&dialler, &tcp("misspelt", 1), PATIENCE).await.expect_err("unknown");
            assert!(error.to_string().starts_with("cannot find misspelt: misspelt is unknown: check"), "{error}");
            let hanging = Rc::clone(&dialler);
            let hung = monoio::spawn(async move {
                dial(&hanging, &tcp("hangs", 1), Duration::from_millis(400)).await.map(|connected| connected.peer)
            });
            let begun = Instant::now();
            let good = dial(&dialler, &tcp("127.0.0.1+127.0.0.1", port), PATIENCE).await;
            assert!(good.is_ok() && begun.elapsed() < Duration::from_millis(300), "{good:?}");
            let error = hung.await.expect_err("too late");
            assert!(matches!(error, DialError::TimedOut { stage: Stage::Names, .. }), "{error}");
        });
    }
}

#[test]
fn a_dial_can_be_given_up_at_every_stage() {
    for driver in DRIVERS {
        let (_hole, port, _fill) = black_hole(Ipv4Addr::new(127, 0, 0, 2));
        let before = sockets_to(port, true);
        with_dialler(driver, async |dialler| {
            for to in [tcp("hangs", 1), tcp("127.0.0.2", port)] {
                let (waiting, dialling) = (Rc::<Waiting>::default(), Rc::clone(&dialler));
                let held = Rc::clone(&waiting);
                let task = monoio::spawn(async move { dialling.dial(&to, PATIENCE, &held).await.is_none() });
                monoio::time::sleep(Duration::from_millis(50)).await;
                let begun = Instant::now();
                waiting.give_up();
                assert!(task.await, "no result");
                assert!(begun.elapsed() < PATIENCE / 2);
                assert!(dialler.waiting.borrow().is_empty());
            }
            assert_eq!(new_sockets_to(port, &before), 0);
        });
    }
}

#[test]
fn socket_files_are_connected_to() {
    let folder = Folder::new("dial");
    let path = folder.path("node.sock");
    let to = Endpoint::Unix(path.clone());
    for driver in DRIVERS {
        with_dialler(driver, async |dialler| {
            let error = dial(&dialler, &to, PATIENCE).await.expect_err("there is no such file");
            assert!(error.to_string().contains("node.sock: No such file"), "{error}");
            assert!(error.to_string().ends_with("start the node that listens there, or correct the path"), "{error}");
            // One connection may wait; the next finds no room until it is accepted.
            let hole = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            hole.bind(&SockAddr::unix(&path).expect("short")).expect("a new file");
            hole.listen(0).expect("it listens");
            let first = dial(&dialler, &to, PATIENCE).await.expect("there is room");
            let error = dial(&dialler, &to, Duration::from_millis(100)).await.expect_err("there is none");
            assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
            let (waiting, accepting) = (Rc::clone(&dialler), to.clone());
            let second = monoio::spawn(async move { dial(&waiting, &accepting, PATIENCE).await.is_ok() });
            monoio::time::sleep(Duration::from_millis(50)).await;
            let _accepted = hole.accept().expect("one waits");
            assert!(second.await);
            drop((first, hole));
            let error = dial(&dialler, &to, PATIENCE).await.expect_err("nobody listens");
            assert!(matches!(error, DialError::Refused { .. }), "{error}");
            std::fs::remove_file(&path).expect("it is there");
        });
    }
}

#[test]
fn tls_needs_roots_and_a_name() {
    with_dialler(DriverChoice::Auto, async |dialler| {
        for (host, part) in [("127.0.0.1", "no TLS: no roots"), ("not a name", "neither a DNS name nor an address")] {
            let to = Endpoint::Tcp { host: host.to_owned(), port: 1, secure: true };
            let error = dial(&dialler, &to, PATIENCE).await.expect_err("it cannot be checked");
            assert!(error.to_string().contains(part), "{error}");
        }
    });
}

#[test]
fn many_dials_at_once_each_get_their_own() {
    let (listening, port) = listeners(&["127.0.0.1"]);
    for driver in DRIVERS {
        with_dialler(driver, async |dialler| {
            let tasks = (0..50).map(|_| {
                let dialler = Rc::clone(&dialler);
                monoio::spawn(async move { dial(&dialler, &tcp("127.0.0.1+127.0.0.1", port), PATIENCE).await })
            });
            let mut clients = std::collections::HashSet::new();
            for task in tasks.collect::<Vec<_>>() {
                let connected = task.await.expect("it listens");
                let _accepted = listening[0].accept().expect("it connected");
                let socket = Socket::from(connected.socket);
                assert!(clients.insert(socket.local_addr().expect("bound").as_socket().expect("IPv4")));
            }
        });
    }
}
