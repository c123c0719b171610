//! The log: lines go to stderr through a bounded queue and a thread of its own.
//!
//! A shard never waits for stderr. When a terminal or a pipe takes lines more slowly than they come, those beyond
//! [`LOG_LINES_QUEUED_MAX`] are dropped, counted, and the count is logged as soon as stderr takes lines again.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
};

use super::values::LogFormat;
use crate::limits::LOG_LINES_QUEUED_MAX;

enum Entry {
    Line(Box<[u8]>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
    Do(Box<dyn FnOnce() + Send>),
}

/// The producers' side: cheap to clone, never blocks.
#[derive(Clone)]
pub(super) struct Log {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Makes this process's log and its panics go through it. `filter` was checked by the command line.
    pub(super) fn start(filter: &str, format: LogFormat) -> io::Result<Self> {
        let log = Self::to(io::stderr(), LOG_LINES_QUEUED_MAX, format)?;
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let builder = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(quiet(filter)).map_err(io::Error::other)?)
            .with_ansi(colours)
            .with_writer(log.clone());
        let started = match format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
        started.map_err(io::Error::other)?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(log)
    }

    pub(super) fn to(sink: impl Write + Send + 'static, lines: usize, format: LogFormat) -> io::Result<Self> {
        let (queue, entries) = sync_channel(lines);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".into()).spawn(move || write(&entries, sink, &counted, format))?;
        Ok(Self { queue, dropped })
    }

    /// Does `work` on the log's own thread, between two lines.
    pub(super) fn on_its_thread(&self, work: Box<dyn FnOnce() + Send>) {
        // It waits for room, as this is done once, at start.
        let _ = self.queue.send(Entry::Do(work));
    }

    /// Lines dropped so far.
    pub(super) fn lines_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines so far are written, at most `patience`: stderr may never take them.
    pub(super) fn finish(&self, patience: Duration) {
        let (done, answer) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = answer.recv_timeout(patience);
        }
    }
}

/// `filter` without what rustls warns of, which strangers bring about as often as they like and the shards count and say within
/// bounds. Whoever wants it writes `rustls=warn`.
fn quiet(filter: &str) -> String {
    if filter.trim().eq_ignore_ascii_case("off") { filter.to_owned() } else { format!("rustls=error,{filter}") }
}

/// The writer thread, until every [`Log`] is gone. A sink that fails loses its lines; there is nowhere to say so.
fn write(entries: &Receiver<Entry>, mut sink: impl Write, dropped: &AtomicU64, format: LogFormat) {
    let mut reported = 0;
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(line) => drop(sink.write_all(&line)),
            Entry::Do(work) => work(),
            Entry::Flush(done) => {
                let _ = sink.flush();
                let _ = done.try_send(());
            }
        }
        let total = dropped.load(Ordering::Relaxed);
        if total != reported {
            let _ = sink.write_all(drop_note(total - reported, format).as_bytes());
            reported = total;
        }
    }
}

fn drop_note(lines: u64, format: LogFormat) -> String {
    let mut time = String::new();
    let _ = tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut time));
    let message = "log lines dropped: stderr is slower than they come";
    match format {
        LogFormat::Text => format!("{time}  WARN shardcast::control: {message} lines={lines}\n"),
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({"timestamp": time, "level": "WARN", "message": message, "lines": lines}))
        }
    }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    let payload = panic.payload();
    let message =
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        location = panic.location().map(tracing::field::display),
        backtrace = captured.then(|| tracing::field::display(&backtrace)),
        "panicked: {}",
        message.unwrap_or("without a message")
    );
}

impl Write for Log {
    /// `line` is a whole line: the formatter writes each event by one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.into())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A sink that takes nothing until its gate opens.
    struct Gated {
        gate: Receiver<()>,
        open: bool,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                self.open = self.gate.recv().is_err();
            }
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(format: LogFormat) -> (Log, SyncSender<()>, Arc<Mutex<Vec<u8>>>) {
        let (key, gate) = sync_channel(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Gated { gate, open: false, written: Arc::clone(&written) };
        (Log::to(sink, 4, format).unwrap(), key, written)
    }

    #[test]
    fn a_blocked_sink_blocks_nobody_and_the_loss_is_said() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let (mut log, key, written) = gated(format);
            for n in 0..100 {
                log.write_all(format!("line {n}\n").as_bytes()).unwrap();
            }
            let dropped = log.dropped.load(Ordering::Relaxed);
            assert!((95..=96).contains(&dropped), "{dropped} of 100 dropped with room for 4, and 1 in hand");
            drop(key);
            // The queue may still be full: ask until there is room for the request.
            while !String::from_utf8(written.lock().unwrap().clone()).unwrap().contains("dropped") {
                log.finish(Duration::from_secs(5));
                std::thread::yield_now();
            }
            let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
            assert!(text.starts_with("line 0\n"), "{text}");
            let count =
                if format == LogFormat::Text { format!("lines={dropped}") } else { format!("\"lines\":{dropped}") };
            assert!(text.contains(&count), "{text}");
        }
    }

    #[test]
    fn rustls_is_heard_only_by_who_asks_for_it() {
        for (filter, expected) in [
            ("info", Some(tracing::Level::ERROR)),
            ("warn,shardcast=debug", Some(tracing::Level::ERROR)),
            ("off", None),
            ("info,rustls=warn", Some(tracing::Level::WARN)),
        ] {
            let heard = EnvFilter::try_new(quiet(filter)).unwrap();
            let subscriber = tracing_subscriber::fmt().with_env_filter(heard).with_writer(io::sink).finish();
            let heard = tracing::subscriber::with_default(subscriber, || {
                [
                    tracing::enabled!(target: "rustls::msgs::handshake", tracing::Level::WARN),
                    tracing::enabled!(target: "rustls::msgs::handshake", tracing::Level::ERROR),
                ]
            });
            let most = match heard {
                [true, _] => Some(tracing::Level::WARN),
                [false, true] => Some(tracing::Level::ERROR),
                [false, false] => None,
            };
            assert_eq!(most, expected, "{filter}");
        }
    }

    #[test]
    fn finishing_gives_up_on_a_blocked_sink() {
        let (mut log, key, written) = gated(LogFormat::Text);
        log.write_all(b"line\n").unwrap();
        log.finish(Duration::from_millis(10));
        assert!(written.lock().unwrap().is_empty());
        drop(key);
        log.finish(Duration::from_secs(5));
        assert_eq!(*written.lock().unwrap(), b"line\n");
    }
}
