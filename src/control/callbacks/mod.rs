//! HTTP callbacks: shards' questions about clients are asked of the operator's own server, and what clients did is told to it.
//!
//! [`Desk`](crate::shard::questions::Desk) puts a question into the queue; [`dispatch`] sends requests, in order for each
//! client, and gives the answers back to the shards. `request` is what a request says, `client` how it gets there, `answer`
//! what comes of it.
//!
//! Bounds: of what is asked as many requests at once as the operator says, and [`limits::CALLBACKS_QUEUED_MAX`] that wait; of
//! what is told as many again. Beyond that a question fails and an event goes untold, which is counted. A question is given up
//! when its time is over, waiting included. Nothing here blocks a shard.

mod answer;
mod budget;
mod client;
mod counts;
mod dispatch;
mod request;
#[cfg(test)]
mod tests;
mod turns;

use std::{path::PathBuf, sync::Arc, time::Duration};

use hyper::Uri;
use tokio::{sync::mpsc, time::timeout};

pub(super) use self::counts::{Counts, Outcome};
use self::{budget::Budget, client::Client, counts::Matter, dispatch::Dispatcher, request::Signer};
use crate::{
    limits,
    shard::{
        fleet::Fleet,
        questions::{self, Desk, Event},
    },
};

/// How requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// As nginx-rtmp-module does.
    NginxRtmp,
}

/// What the flags say.
#[derive(Clone)]
pub(super) struct Plan {
    /// By event.
    pub(super) urls: [Option<Uri>; Event::ALL.len()],
    pub(super) format: Format,
    pub(super) timeout: Duration,
    pub(super) failure_allows: bool,
    pub(super) concurrency: usize,
    pub(super) secret: Option<Arc<[u8]>>,
    /// What `https:` servers are checked by, if not by the system's certificates.
    pub(super) ca: Option<PathBuf>,
    /// Of this node.
    pub(super) node: String,
}

/// Without its secret.
impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("urls", &self.urls).field("format", &self.format).finish_non_exhaustive()
    }
}

/// Callbacks of a process that begins: its shards can ask already, and are answered once it runs.
pub(super) struct Callbacks {
    client: Client,
    plan: Plan,
    counts: Arc<Counts>,
    questions: mpsc::UnboundedReceiver<dispatch::Job>,
    sender: mpsc::UnboundedSender<dispatch::Job>,
}

impl Callbacks {
    /// Errors are one line.
    pub(super) fn new(plan: &Plan) -> Result<Self, String> {
        let client = Client::new(plan)?;
        let (sender, questions) = mpsc::unbounded_channel();
        Ok(Self { client, plan: plan.clone(), counts: Arc::default(), questions, sender })
    }

    /// What shards are configured with.
    pub(super) fn for_shards(&self) -> questions::Callbacks {
        let (sender, counts) = (self.sender.clone(), Arc::clone(&self.counts));
        let log = Budget::default();
        let desk = Desk::new(move |question| {
            let (event, matter) = (question.event, Matter::of(&question));
            let taken = counts.enter(matter) && {
                let sent = sender.send(dispatch::Job::new(question)).is_ok();
                if !sent {
                    counts.leave(matter);
                }
                sent
            };
            if !taken {
                counts.count(event, Outcome::Overflow, Duration::ZERO);
                if let Some(suppressed) = log.take(limits::CALLBACK_OVERFLOW_LOG_LINES_PER_SECOND) {
                    tracing::warn!(
                        event = event.label(),
                        suppressed,
                        "callback not sent, {} wait: have its server answer faster, or raise --callback-concurrency",
                        limits::CALLBACKS_QUEUED_MAX
                    );
                }
            }
            taken
        });
        questions::Callbacks { desk: Some(desk), ..self.plan.for_shards() }
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Asks and answers until the runtime ends.
    pub(super) fn run(self, fleet: Arc<Fleet>) {
        let Self { client, plan, counts, questions, .. } = self;
        let signer = plan.secret.clone().map(Signer::new);
        let dispatcher = Dispatcher::new(client, plan, signer, counts, move |ticket, decision| {
            fleet.decide(ticket, decision);
        });
        tokio::spawn(dispatcher.run(questions));
    }
}

impl Plan {
    /// If any event is called back.
    pub(super) fn any(&self) -> bool {
        self.urls.iter().any(Option::is_some)
    }

    pub(super) fn for_shards(&self) -> questions::Callbacks {
        let mut events = [false; Event::ALL.len()];
        for (asked, url) in events.iter_mut().zip(&self.urls) {
            *asked = url.is_some();
        }
        let (patience, failure_allows) = (self.timeout, self.failure_allows);
        questions::Callbacks { events, patience, failure_allows, desk: None }
    }
}

/// Waits for the last requests of a process whose streams have ended, for a while.
pub(super) async fn flush(counts: &Counts) {
    let done = async {
        while !counts.is_idle() {
            tokio::time::sleep(limits::CALLBACK_FLUSH_POLL).await;
        }
    };
    if timeout(limits::CALLBACK_FLUSH_DEADLINE, done).await.is_err() {
        tracing::warn!(left = counts.waiting(), "the last callbacks are not told: their server is too slow");
    }
}
