//! The queue of callbacks: so many under way at once, one at a time for each client, whose events keep their order.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet, time::timeout_at};

use super::{Counts, Outcome, Plan, answer, client::Client, request, request::Signer};
use crate::{
    limits,
    shard::questions::{Decision, Question, Ticket},
};

/// A question, and since when it waits.
pub(super) struct Job {
    question: Question,
    since: Instant,
}

impl Job {
    pub(super) fn new(question: Question) -> Self {
        Self { question, since: Instant::now() }
    }
}

type Decide = Arc<dyn Fn(Ticket, Decision) + Send + Sync>;

pub(super) struct Dispatcher {
    line: Arc<Line>,
    concurrency: usize,
    /// Jobs of clients that have one under way or in `ready`, behind it.
    waiting: HashMap<u64, VecDeque<Job>>,
    ready: VecDeque<Job>,
    /// The clients of requests that end.
    under_way: JoinSet<u64>,
}

/// What every request needs.
struct Line {
    client: Client,
    plan: Plan,
    signer: Option<Signer>,
    counts: Arc<Counts>,
    decide: Decide,
    log: Budget,
}

impl Dispatcher {
    pub(super) fn new(
        client: Client,
        plan: Plan,
        signer: Option<Signer>,
        counts: Arc<Counts>,
        decide: impl Fn(Ticket, Decision) + Send + Sync + 'static,
    ) -> Self {
        let concurrency = plan.concurrency;
        let line = Line { client, plan, signer, counts, decide: Arc::new(decide), log: Budget::default() };
        let (waiting, ready) = (HashMap::new(), VecDeque::new());
        Self { line: Arc::new(line), concurrency, waiting, ready, under_way: JoinSet::new() }
    }

    /// Until there is nobody left to ask.
    pub(super) async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => self.enter(job),
                    None => return,
                },
                Some(ended) = self.under_way.join_next() => {
                    // None of them panics: what comes from outside is only looked at.
                    if let Ok(client) = ended {
                        self.next_of(client);
                    }
                }
            }
            while self.under_way.len() < self.concurrency
                && let Some(job) = self.ready.pop_front()
            {
                self.begin(job);
            }
        }
    }

    fn enter(&mut self, job: Job) {
        match self.waiting.entry(job.question.subject.client) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back(job),
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::new());
                self.ready.push_back(job);
            }
        }
    }

    /// A request of the client has ended.
    fn next_of(&mut self, client: u64) {
        let Some(waiting) = self.waiting.get_mut(&client) else { return };
        match waiting.pop_front() {
            Some(job) => self.ready.push_back(job),
            None => drop(self.waiting.remove(&client)),
        }
    }

    fn begin(&mut self, job: Job) {
        let line = Arc::clone(&self.line);
        line.counts.begin();
        self.under_way.spawn(async move {
            let client = job.question.subject.client;
            line.call(job).await;
            client
        });
    }
}

impl Line {
    /// Sends one request and passes its outcome on.
    async fn call(&self, Job { question, since }: Job) {
        let event = question.event;
        let result = self.answer(&question, since).await;
        let (outcome, decision) = match result {
            Ok(Decision::Allowed) if question.ticket.is_none() => (Outcome::Told, Decision::Allowed),
            Ok(Decision::Allowed) => (Outcome::Allowed, Decision::Allowed),
            Ok(Decision::Refused(why)) => (Outcome::Denied, Decision::Refused(why)),
            Ok(Decision::Failed(what)) => (Outcome::Failed, Decision::Failed(what)),
            Err(what) => (Outcome::Timeout, Decision::Failed(what)),
        };
        if let Decision::Failed(what) = &decision {
            self.log(&question, what);
        }
        // In this order: who looks because of the decision finds it counted.
        self.counts.end(event, outcome, since.elapsed());
        if let Some(ticket) = question.ticket {
            (self.decide)(ticket, decision);
        }
    }

    /// The error: it took too long.
    async fn answer(&self, question: &Question, since: Instant) -> Result<Decision, String> {
        let until = since + self.plan.timeout;
        let late = || format!("no answer within {:?}", self.plan.timeout);
        let Some(url) = &self.plan.urls[question.event as usize] else {
            return Ok(Decision::Failed("there is no URL for it".to_owned()));
        };
        // Who has lost patience meanwhile has its answer: the server is spared the question.
        if question.ticket.is_some() && Instant::now() >= until {
            return Err(late());
        }
        // What is only told has its whole time from here.
        let until = if question.ticket.is_some() { until } else { Instant::now() + self.plan.timeout };
        let request = request::request(&self.plan, url, self.signer.as_ref(), question);
        let reply = async {
            let request = request.map_err(|error| error.to_string())?;
            self.client.send(request).await
        };
        match timeout_at(until.into(), reply).await {
            Ok(Ok(reply)) => Ok(answer::decision(self.plan.format, &reply)),
            Ok(Err(what)) => Ok(Decision::Failed(what)),
            Err(_) => Err(late()),
        }
    }

    fn log(&self, question: &Question, what: &str) {
        let Some(suppressed) = self.log.take() else { return };
        let event = question.event.label();
        let (stream, peer) = (question.subject.key.as_ref().map(ToString::to_string), question.subject.peer);
        tracing::warn!(event, stream, %peer, suppressed, "callback failed: {what}");
    }
}

/// A few lines a second; the others are counted.
#[derive(Default)]
struct Budget(std::sync::Mutex<(Option<Instant>, u32, u64)>);

impl Budget {
    /// Whether a line may be written, and how many were not before it, if any.
    fn take(&self) -> Option<Option<u64>> {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (second, lines, suppressed) = &mut *state;
        let now = Instant::now();
        if second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (*second, *lines) = (Some(now), 0);
        }
        if *lines >= limits::CALLBACK_LOG_LINES_PER_SECOND {
            *suppressed += 1;
            return None;
        }
        *lines += 1;
        let suppressed = std::mem::take(suppressed);
        Some((suppressed > 0).then_some(suppressed))
    }
}
