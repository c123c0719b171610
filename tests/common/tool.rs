//! Foreign programs: where they are, and running them with their output captured and their time bounded.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{seconds, wait_for};

const INSTALL: &str = "run `tests/run`, which installs the foreign clients";

/// Fails the test, with the command that helps, unless `program` is on PATH.
pub fn require(program: &str) -> &str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(found, "{program} is not installed: {INSTALL}");
    program
}

/// Fails the test unless GStreamer has `element`.
pub fn require_element(element: &str) {
    let status = Command::new(require("gst-inspect-1.0")).args(["--exists", element]).status().expect("it is on PATH");
    assert!(status.success(), "GStreamer's element {element} is not installed: {INSTALL}");
}

/// The Python that has PyAV and imageio-ffmpeg: the virtual environment's of the repository, or python3 on PATH.
pub fn python() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let has_both = |python: &PathBuf| {
            let tried = Command::new(python).args(["-c", "import av, imageio_ffmpeg"]).output();
            tried.is_ok_and(|run| run.status.success())
        };
        let found = [venv, PathBuf::from("python3")].into_iter().find(has_both);
        found.unwrap_or_else(|| panic!("PyAV and imageio-ffmpeg are not installed: {INSTALL}"))
    })
}

/// A current FFmpeg beside the distribution's: `SHARDCAST_FFMPEG_NEW`, or the one that PyPI's imageio-ffmpeg brought.
pub fn new_ffmpeg() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Ok(path) = std::env::var("SHARDCAST_FFMPEG_NEW") {
            assert!(Path::new(&path).is_file(), "SHARDCAST_FFMPEG_NEW names no file: {path}");
            return path;
        }
        let script = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
        let output = Command::new(python()).args(["-c", script]).output().expect("it ran before");
        assert!(output.status.success(), "imageio-ffmpeg brought no FFmpeg: {INSTALL}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

/// A folder that goes with its test, for everybody: other users, too. Not in the build's folder: a socket's path has 107 bytes
/// at most, and the build's may be out of reach for others.
pub struct Folder(PathBuf);

impl Folder {
    /// `test` tells the folders of one run apart.
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shardcast-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file there whole, in place of one that may be running.
    pub fn put(&self, name: &str, by: impl FnOnce(&Path)) -> PathBuf {
        let (path, made) = (self.path(name), self.path("made"));
        by(&made);
        std::fs::rename(&made, &path).expect("one folder");
        path
    }

    /// Puts a copy of `program` there. By a process of its own: a test that starts one meanwhile would hold the file open, which
    /// then cannot be run.
    pub fn put_copy(&self, name: &str, program: &str) -> PathBuf {
        self.put(name, |path| {
            assert!(Command::new("cp").arg(program).arg(path).status().expect("cp is on PATH").success());
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file name in this run's own folder, unlike any other.
pub fn scratch(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{}", std::process::id()));
    if !folder.exists() {
        remove_folders_of_ended_runs();
    }
    std::fs::create_dir_all(&folder).expect("the build's temporary folder can be written");
    folder.join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Recordings are kept for a look after a failure, until the next run.
fn remove_folders_of_ended_runs() {
    let folders = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten();
    for folder in folders {
        let name = folder.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another run may be removing it too.
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}

/// How a client ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A client process with captured output. Dropping it kills it.
pub struct Client {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// What comes out of a pipe, until it ends.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut block = [0; 4_096];
            // What came before an error is worth showing.
            while let Ok(count @ 1..) = pipe.read(&mut block) {
                sink.lock().expect("nobody panics with it").extend_from_slice(&block[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics with it")).into_owned()
    }

    /// All of it, once the program has ended.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader does not panic");
        }
        self.so_far()
    }
}

impl Client {
    pub fn spawn(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = Output::of(child.stdout.take().expect("piped"));
        let stderr = Output::of(child.stderr.take().expect("piped"));
        Self { name, child, stdout, stderr }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// What it has said on stdout and then on stderr, so far.
    pub fn said(&self) -> String {
        self.stdout.so_far() + &self.stderr.so_far()
    }

    /// Sends a signal by name (TERM, INT).
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill is on PATH");
        assert!(status.success(), "cannot signal {}", self.name);
    }

    /// SIGKILL: the client has no chance to say goodbye.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
    }

    /// Waits for the client to end by itself.
    #[track_caller]
    pub fn wait(mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if Instant::now() >= deadline {
                self.kill();
                let ended = self.output(ExitStatus::from_raw(9));
                panic!("{} did not end within {patience:?}:\n{}", self.name, ended.stderr);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.output(status)
    }

    /// Waits for the client to end by itself with status 0.
    #[track_caller]
    pub fn finish(self, patience: Duration) -> Ended {
        let name = self.name.clone();
        let ended = self.wait(patience);
        assert!(ended.status.success(), "{name} ended with {}:\n{}", ended.status, ended.stderr);
        ended
    }

    fn output(&mut self, status: ExitStatus) -> Ended {
        Ended { status, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already: then both fail, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}---", self.name, tail(&self.stderr.so_far()));
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().fold(String::new(), |all, line| all + line + "\n")
}

/// Waits until another server takes connections (true) or has ended (false).
pub fn accepts_or_ends(server: &mut Child, addr: SocketAddr) -> bool {
    wait_for("a server to accept or to end", seconds(10), || {
        let ended = server.try_wait().expect("the child can be waited for").is_some();
        (ended || TcpStream::connect(addr).is_ok()).then_some(!ended)
    })
}
