use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::net::UnixListener,
    sync::mpsc,
};

use monoio::{LegacyDriver, RuntimeBuilder};

use super::*;
use crate::shard::{config::DriverChoice, runtime::ShardRuntime};

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

/// A listener whose backlog is full: further connections are neither accepted nor refused. The sockets fill it.
fn black_hole(ip: Ipv4Addr) -> (socket2::Socket, u16, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    hole.bind(&SocketAddr::from((ip, 0)).into()).expect("a free port");
    hole.listen(0).expect("it listens");
    let addr = hole.local_addr().expect("bound");
    let fill = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a flag");
            let _ = socket.connect(&addr);
            socket
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    (hole, addr.as_socket().expect("IPv4").port(), fill)
}

/// Sockets of this process, and what they are connected to: tests run beside each other, so only the given port counts.
fn sockets_to(port: u16) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("Linux").flatten() {
        let Ok(fd) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        // SAFETY: looked at only; a descriptor that was closed meanwhile, or is another's by now, fails or does not count.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let connecting_to = |fd| {
            let socket = socket2::SockRef::from(fd);
            let bound = socket.local_addr().ok()?.as_socket()?;
            // One that is still connecting has no peer, but a local port of its own.
            (bound.port() != port && bound.port() != 0).then(|| socket.peer_addr().ok()?.as_socket())
        };
        count += usize::from(connecting_to(&fd).flatten().is_some_and(|peer| peer.port() == port));
    }
    count
}
