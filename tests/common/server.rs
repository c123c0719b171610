//! The server under test as a child process, and its admin interface as an operator sees it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::{not_checked, seconds, wait_for};

/// Which driver the shards run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Uring,
    Legacy,
    /// The server chooses.
    Auto,
}

impl Driver {
    fn flag(self) -> &'static str {
        match self {
            Driver::Uring => "uring",
            Driver::Legacy => "legacy",
            Driver::Auto => "auto",
        }
    }
}

/// A running server on ports the system chose. Dropping it kills the process; if the test failed, its log is shown.
pub struct Server {
    child: Child,
    /// Processes that took over, by pid; the last one serves.
    successors: Vec<u32>,
    pub rtmp: SocketAddr,
    rtmps: Option<SocketAddr>,
    pub admin: SocketAddr,
    /// What it said on stdout until it was ready.
    pub banner: String,
    log: Arc<Mutex<String>>,
}

/// The first `ADDR:PORT` in `text`.
fn first_address(text: &str) -> Option<SocketAddr> {
    text.split(|c: char| c.is_whitespace() || c == '/' || c == ',').find_map(|word| word.parse().ok())
}

/// Whether files can be fenced off here, as the node itself sees it. Says so if not.
#[track_caller]
pub fn has_landlock() -> bool {
    let server = Server::start(Driver::Auto, 1, &[]);
    server.wait_said("contained: ");
    let has = server.log().contains("files by Landlock");
    if !has {
        not_checked("this kernel has no Landlock");
    }
    has
}

/// Whether a process runs: one that has ended has no program, even where nobody asks after it and it stays as a zombie.
pub fn lives(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The server's program. `SHARDCAST_BIN` names another build of it.
pub fn binary() -> String {
    std::env::var("SHARDCAST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_shardcast").to_owned())
}

impl Server {
    /// Starts the server and returns once it is ready.
    pub fn start(driver: Driver, shards: usize, flags: &[&str]) -> Self {
        Self::start_by(&[], driver, shards, flags)
    }

    /// As `start`, on an address that is not the system's choice.
    pub fn start_at(rtmp: &str, driver: Driver, shards: usize, flags: &[&str]) -> Self {
        Self::launch(&[], rtmp, driver, shards, flags)
    }

    /// As `start`, by a launcher: a command that runs the command line it is given, in its own place (exec).
    pub fn start_by(launcher: &[&str], driver: Driver, shards: usize, flags: &[&str]) -> Self {
        Self::launch(launcher, "127.0.0.1:0", driver, shards, flags)
    }

    fn launch(launcher: &[&str], rtmp: &str, driver: Driver, shards: usize, flags: &[&str]) -> Self {
        let binary = binary();
        let shards = shards.to_string();
        let usual = ["--rtmp", rtmp, "--admin", "127.0.0.1:0", "--no-pin", "--driver", driver.flag()];
        let usual = usual.into_iter().chain(["--shards", &shards]);
        let line = launcher.iter().copied().chain([binary.as_str()]).chain(usual).chain(flags.iter().copied());
        Self::run(&line.collect::<Vec<_>>())
    }

    /// Starts what `line` says, the program first, and returns once it is ready.
    pub fn run(line: &[&str]) -> Self {
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {line:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, banner) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("the log's only writer");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let successors = Vec::new();
        let mut server =
            Self { child, successors, rtmp: unknown, rtmps: None, admin: unknown, banner: String::new(), log };
        server.read_banner(&banner);
        server
    }

    fn read_banner(&mut self, banner: &mpsc::Receiver<String>) {
        let (mut rtmp, mut admin) = (None, None);
        loop {
            let line = banner.recv_timeout(seconds(20)).unwrap_or_else(|error| {
                panic!("the server did not say it is ready ({error}); exit: {:?}", self.child.try_wait())
            });
            let words = line.trim_start();
            self.banner.push_str(&line);
            self.banner.push('\n');
            if words.starts_with("rtmp:") {
                rtmp = rtmp.or_else(|| first_address(words));
            } else if words.starts_with("rtmps:") {
                self.rtmps = self.rtmps.or_else(|| first_address(words));
            } else if words.starts_with("admin") {
                admin = admin.or_else(|| first_address(words));
            } else if line.starts_with("ready") {
                self.rtmp = rtmp.expect("a line 'rtmp: ADDR:PORT' before 'ready'");
                self.admin = admin.expect("a line 'admin: http://ADDR:PORT' before 'ready'");
                return;
            }
        }
    }

    pub fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    /// Where it speaks TLS.
    pub fn secure(&self) -> SocketAddr {
        self.rtmps.expect("a line 'rtmps: ADDR:PORT' before 'ready'")
    }

    pub fn secure_url(&self, name: &str) -> String {
        format!("rtmps://{}/live/{name}", self.secure())
    }

    /// Of the process that takes connections.
    pub fn pid(&self) -> u32 {
        self.successors.last().copied().unwrap_or_else(|| self.child.id())
    }

    /// Has a new process take over from the one that serves, and returns once it has.
    #[track_caller]
    pub fn upgrade(&mut self) {
        let before = self.log().len();
        self.signal("USR2");
        let said = "a new process has taken over";
        let line = wait_for("the new process to take over", seconds(20), || {
            self.log()[before..].lines().find(|line| line.contains(said)).map(ToOwned::to_owned)
        });
        let (_, pid) = line.rsplit_once("pid=").expect("the line says which process");
        self.successors.push(pid.trim().parse().expect("a number"));
    }

    /// The process that took over last has died, and the one before serves again.
    pub fn forget_successor(&mut self) {
        self.successors.pop();
    }

    /// The status of an admin page that is posted to.
    #[track_caller]
    pub fn post(&self, path: &str) -> u16 {
        self.request("POST", path, "", "").0
    }

    /// Waits until the process that has that pid has ended.
    #[track_caller]
    pub fn wait_gone_process(&mut self, pid: u32, patience: Duration) {
        wait_for(&format!("process {pid} to end"), patience, || {
            let _ = self.child.try_wait();
            (!lives(pid)).then_some(())
        });
    }

    /// Status and body of an admin page.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        self.try_request("GET", path, "", "")
    }

    /// Status and body of a request to an admin page; `headers` are whole lines.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        self.try_request(method, path, headers, body).expect("the admin listener answers")
    }

    fn try_request(&self, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, seconds(5))?;
        stream.set_read_timeout(Some(seconds(10)))?;
        let (admin, length) = (self.admin, body.len());
        let usual = format!("Host: {admin}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{method} {path} HTTP/1.1\r\n{usual}{headers}\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Ok((status, body.to_owned()))
    }

    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics").expect("the admin listener answers");
        assert_eq!(status, 200, "/metrics: {body}");
        Metrics::parse(&body)
    }

    pub fn streams(&self) -> Vec<Stream> {
        let (status, body) = self.get("/api/streams").expect("the admin listener answers");
        assert_eq!(status, 200, "/api/streams: {body}");
        let list: Vec<serde_json::Value> = serde_json::from_str(&body).expect("/api/streams is a JSON list");
        list.iter().map(Stream::read).collect()
    }

    /// What `/api/relays` says is pulled and pushed.
    pub fn relays(&self) -> Relays {
        let (status, body) = self.get("/api/relays").expect("the admin listener answers");
        assert_eq!(status, 200, "/api/relays: {body}");
        Relays(serde_json::from_str(&body).expect("/api/relays is JSON"))
    }

    /// The stream `live/name`, if it is being published.
    pub fn stream(&self, name: &str) -> Option<Stream> {
        let full = format!("live/{name}");
        self.streams().into_iter().find(|stream| stream.name == full)
    }

    #[track_caller]
    pub fn wait_live(&self, name: &str) {
        wait_for(&format!("{name} to be live"), seconds(15), || self.stream(name).map(drop));
    }

    #[track_caller]
    pub fn wait_gone(&self, name: &str, patience: Duration) {
        wait_for(&format!("{name} to be gone"), patience, || self.stream(name).is_none().then_some(()));
    }

    /// Waits until the sum of a metric over all shards satisfies `done`.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], done: impl Fn(f64) -> bool) -> f64 {
        let what = format!("{name}{labels:?}");
        wait_for(&what, seconds(10), || Some(self.metrics().sum(name, labels)).filter(|sum| done(*sum)))
    }

    /// Waits until a live stream has been running for `ms`.
    #[track_caller]
    pub fn wait_running_for(&self, name: &str, ms: u64) {
        wait_for(&format!("{name} to run for {ms} ms"), seconds(15), || {
            self.stream(name).filter(|stream| stream.uptime_ms >= ms).map(drop)
        });
    }

    /// Waits until so many messages of a live stream have come.
    #[track_caller]
    pub fn wait_messages(&self, name: &str, messages: u64) {
        wait_for(&format!("{messages} messages of {name}"), seconds(20), || {
            self.stream(name).filter(|stream| stream.messages_in >= messages).map(drop)
        });
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number of kB")
    }

    /// Descriptors the server has open, once their number stays the same: an admin connection ends a moment after its
    /// answer.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        let count = || std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count();
        let (mut last, mut same) = (count(), 0);
        wait_for("the number of open descriptors to settle", seconds(20), || {
            let now = count();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (same == 10).then_some(now)
        })
    }

    /// CPU time used so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the server runs");
        let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
        // utime and stime are fields 14 and 15; what follows the name begins with field 3. Linux shows hundredths.
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Sends a signal by name (TERM, INT).
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill is on PATH");
        assert!(status.success(), "cannot signal the server");
    }

    #[track_caller]
    pub fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        wait_for("the server to end", patience, || self.child.try_wait().expect("the child can be waited for"))
    }

    #[track_caller]
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("the child can be waited for");
        assert!(ended.is_none(), "the server ended: {ended:?}, signal {:?}", ended.and_then(|status| status.signal()));
    }

    /// Waits until the log has these words.
    #[track_caller]
    pub fn wait_said(&self, words: &str) {
        wait_for(&format!("{words:?} in the log"), seconds(10), || self.log().contains(words).then_some(()));
    }

    /// How many lines of the log say that a connection was closed for that reason.
    pub fn closed_lines(&self, reason: &str) -> usize {
        let reason = format!("reason=\"{reason}\"");
        self.log().lines().filter(|line| line.contains(" closed: ") && line.contains(&reason)).count()
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("the log's only writer").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already: then both fail, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.successors {
            // The number may be another process's by now.
            if std::fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.to_string_lossy().contains("shardcast"))
            {
                let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}---", self.log());
        }
    }
}

/// One item of `/api/streams`.
#[derive(Clone, Debug)]
pub struct Stream {
    pub name: String,
    pub players: u64,
    pub uptime_ms: u64,
    pub messages_in: u64,
}

impl Stream {
    fn read(item: &serde_json::Value) -> Self {
        let number = |key: &str| item[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {item}"));
        Self {
            name: item["name"].as_str().expect("a stream has a name").to_owned(),
            players: number("players"),
            uptime_ms: number("uptime_ms"),
            messages_in: number("messages_in"),
        }
    }
}

/// `/api/relays`.
#[derive(Debug)]
pub struct Relays(serde_json::Value);

impl Relays {
    fn lines<'a>(&'a self, list: &str, stream: &str) -> impl Iterator<Item = &'a serde_json::Value> {
        let lines = self.0[list].as_array().unwrap_or_else(|| panic!("no list {list} in {}", self.0));
        lines.iter().filter(move |line| line["stream"] == stream)
    }

    /// A property of a stream that is pulled, as text.
    pub fn pull(&self, stream: &str, property: &str) -> Option<String> {
        self.lines("pulls", stream).next().map(|line| text(line, property))
    }

    /// That property of each push of a stream, as text: in the order of its targets.
    pub fn pushes(&self, stream: &str, property: &str) -> Vec<String> {
        self.lines("pushes", stream).map(|line| text(line, property)).collect()
    }
}

/// A property's value; nothing for null.
fn text(line: &serde_json::Value, property: &str) -> String {
    match line.get(property) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Null) => String::new(),
        Some(other) => other.to_string(),
        None => panic!("no {property} in {line}"),
    }
}

/// A Prometheus page: the value of each series.
pub struct Metrics(Vec<Series>);

struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        Self(lines.map(Series::parse).collect())
    }

    /// Sum over all series of that name that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.iter().filter(|series| series.name == name && series.has(labels)).map(|series| series.value).sum()
    }

    /// Sums per value of `label`.
    pub fn by_label(&self, name: &str, label: &str) -> std::collections::BTreeMap<String, f64> {
        let mut sums = std::collections::BTreeMap::new();
        for series in self.0.iter().filter(|series| series.name == name) {
            if let Some((_, value)) = series.labels.iter().find(|(key, _)| key == label) {
                *sums.entry(value.clone()).or_default() += series.value;
            }
        }
        sums
    }

    /// The reasons whose count grew since `before`.
    pub fn grown(&self, before: &Metrics, name: &str) -> Vec<String> {
        let (old, new) = (before.by_label(name, "reason"), self.by_label(name, "reason"));
        new.into_iter()
            .filter(|(key, value)| old.get(key).copied().unwrap_or(0.0) < *value)
            .map(|(key, _)| key)
            .collect()
    }
}

impl Series {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a Prometheus line: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("not a Prometheus value: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
        let labels = pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect();
        Self { name: name.to_owned(), labels, value }
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(key, value)| self.labels.iter().any(|(k, v)| k == key && v == value))
    }
}
