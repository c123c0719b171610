//! The queues of callbacks, of what is asked and of what is told: so many of each under way at once, and one at a time for each
//! client, whose events keep their order. Clients' addresses take turns.
//!
//! A server that does not listen to what it is told holds up no question of another client. Of what is to be told of one client
//! the newest [`limits::CALLBACKS_TOLD_PER_CLIENT_MAX`] wait.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::mpsc, task::JoinSet, time::timeout_at};

use super::{
    Counts, Outcome, Plan, answer, budget::Budget, client::Client, counts::Matter, request, request::Signer,
    turns::Turns,
};
use crate::{
    access::network::customer,
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

    fn matter(&self) -> Matter {
        Matter::of(&self.question)
    }
}

type Decide = Arc<dyn Fn(Ticket, Decision) + Send + Sync>;

pub(super) struct Dispatcher {
    line: Arc<Line>,
    /// Of each matter.
    concurrency: usize,
    /// Jobs of clients that have one under way or in `ready`, behind it.
    waiting: HashMap<u64, VecDeque<Job>>,
    /// By matter, as the next.
    ready: [Turns<Job>; 2],
    busy: [usize; 2],
    /// The clients of requests that end, and what these were.
    under_way: JoinSet<(u64, Matter)>,
}

/// What every request needs.
struct Line {
    client: Client,
    plan: Plan,
    signer: Option<Signer>,
    counts: Arc<Counts>,
    decide: Decide,
    log: Budget,
    overflow_log: Budget,
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
        let decide = Arc::new(decide);
        let (log, overflow_log) = (Budget::default(), Budget::default());
        let line = Line { client, plan, signer, counts, decide, log, overflow_log };
        Self {
            line: Arc::new(line),
            concurrency,
            waiting: HashMap::new(),
            ready: Default::default(),
            busy: [0; 2],
            under_way: JoinSet::new(),
        }
    }

    /// Until nobody is left who may ask, and all that was asked is answered.
    pub(super) async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut more_may_come = true;
        loop {
            tokio::select! {
                job = jobs.recv(), if more_may_come => match job {
                    Some(job) => self.enter(job),
                    None => more_may_come = false,
                },
                Some(ended) = self.under_way.join_next() => {
                    // None of them panics: what comes from outside is only looked at.
                    if let Ok((client, matter)) = ended {
                        self.busy[matter as usize] -= 1;
                        self.next_of(client);
                    }
                }
                else => return,
            }
            for matter in Matter::ALL {
                while self.busy[matter as usize] < self.concurrency
                    && let Some(job) = self.ready[matter as usize].pop()
                {
                    self.begin(job);
                }
            }
        }
    }

    fn enter(&mut self, job: Job) {
        match self.waiting.entry(job.question.subject.client) {
            Entry::Occupied(mut waiting) => {
                let waiting = waiting.get_mut();
                waiting.push_back(job);
                let told = |job: &Job| job.matter() == Matter::Told;
                if waiting.iter().filter(|job| told(job)).count() > limits::CALLBACKS_TOLD_PER_CLIENT_MAX
                    && let Some(oldest) = waiting.iter().position(told).and_then(|oldest| waiting.remove(oldest))
                {
                    self.line.counts.leave(Matter::Told);
                    self.line.overflow(&oldest.question);
                }
            }
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::new());
                self.ready(job);
            }
        }
    }

    /// It waits for its turn, unless too many of its address do.
    fn ready(&mut self, job: Job) {
        let address = customer(job.question.subject.peer.ip());
        let (client, matter) = (job.question.subject.client, job.matter());
        let turns = &mut self.ready[matter as usize];
        if matter == Matter::Told || turns.count(address) < limits::CALLBACKS_ASKED_PER_ADDRESS_MAX {
            turns.push(address, job);
            return;
        }
        self.line.counts.leave(matter);
        self.line.crowded(&job.question);
        self.next_of(client);
    }

    /// A request of the client has ended.
    fn next_of(&mut self, client: u64) {
        let Some(waiting) = self.waiting.get_mut(&client) else { return };
        match waiting.pop_front() {
            Some(job) => self.ready(job),
            None => drop(self.waiting.remove(&client)),
        }
    }

    fn begin(&mut self, job: Job) {
        let line = Arc::clone(&self.line);
        let (client, matter) = (job.question.subject.client, job.matter());
        line.counts.begin(matter);
        self.busy[matter as usize] += 1;
        self.under_way.spawn(async move {
            line.call(job).await;
            (client, matter)
        });
    }
}

impl Line {
    /// More is to be told of the client than may wait.
    fn overflow(&self, question: &Question) {
        self.drop(question, "too much of this client waits to be told");
    }

    /// More is asked about clients of one address than may wait.
    fn crowded(&self, question: &Question) {
        self.drop(question, "too much is asked about clients of this address");
        if let Some(ticket) = question.ticket {
            (self.decide)(ticket, Decision::Failed("too many of its address wait to be asked about".to_owned()));
        }
    }

    fn drop(&self, question: &Question, why: &str) {
        self.counts.count(question.event, Outcome::Overflow, Duration::ZERO);
        if let Some(suppressed) = self.overflow_log.take(limits::CALLBACK_OVERFLOW_LOG_LINES_PER_SECOND) {
            let (event, peer) = (question.event.label(), question.subject.peer);
            tracing::warn!(event, %peer, suppressed, "callback not sent: {why}");
        }
    }

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
            self.log(&question, format_args!("callback failed: {what}"));
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
        let request = request::request(&self.plan, url, self.signer.as_ref(), question, unix_s());
        let reply = async {
            let request = request.map_err(|error| error.to_string())?;
            self.client.send(request).await
        };
        match timeout_at(until.into(), reply).await {
            Ok(Ok(reply)) => {
                let remark = answer::remark(self.plan.format, &reply).filter(|_| question.ticket.is_some());
                remark.into_iter().for_each(|remark| self.log(question, format_args!("{remark}")));
                Ok(answer::decision(self.plan.format, &reply, question.ticket.is_some()))
            }
            Ok(Err(what)) => Ok(Decision::Failed(what)),
            Err(_) => Err(late()),
        }
    }

    fn log(&self, question: &Question, line: fmt::Arguments<'_>) {
        let Some(suppressed) = self.log.take(limits::CALLBACK_LOG_LINES_PER_SECOND) else { return };
        let event = question.event.label();
        let (stream, peer) = (question.subject.key.as_ref().map(ToString::to_string), question.subject.peer);
        tracing::warn!(event, stream, %peer, suppressed, "{line}");
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
