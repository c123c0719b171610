//! Threads for what may block: names looked up, root certificates read.
//!
//! They start as questions come and end when none did for a while. The same question asked again before it is answered is
//! answered with it, once for all. Bounds: [`limits::BLOCKING_THREADS_MAX`] threads, so one question that hangs holds up
//! nobody until that many do; [`limits::BLOCKING_QUESTIONS_MAX`] questions that wait for a thread, beyond which further
//! ones are refused. Who asked and lost patience is forgotten at once.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::limits;

/// What is done with an answer, on the thread that found it.
type Tell<A> = Box<dyn FnOnce(A) + Send>;

/// See the file's head.
pub(in crate::shard) struct Blocking<Q, A>(Arc<Shared<Q, A>>);

struct Shared<Q, A> {
    answer: Box<dyn Fn(&Q) -> A + Send + Sync>,
    state: Mutex<State<Q, A>>,
    work: Condvar,
    /// Of the thread that made this: those that ask may be pinned to a CPU, which must not be where names are looked up.
    cpus: Option<CpuSet>,
}

struct State<Q, A> {
    /// Whom to tell, by question, queued or being answered.
    asked: HashMap<Q, Vec<(u64, Tell<A>)>>,
    queue: VecDeque<Q>,
    threads: usize,
    idle: usize,
    next: u64,
}

/// A question that was asked. Dropping it forgets who did.
pub(in crate::shard) struct Asked<Q: Eq + Hash, A> {
    shared: Arc<Shared<Q, A>>,
    question: Q,
    number: u64,
}

impl<Q, A> Blocking<Q, A>
where
    Q: Clone + Eq + Hash + Send + 'static,
    A: Clone + Send + 'static,
{
    pub(in crate::shard) fn new(answer: impl Fn(&Q) -> A + Send + Sync + 'static) -> Self {
        let state = State { asked: HashMap::new(), queue: VecDeque::new(), threads: 0, idle: 0, next: 0 };
        Self(Arc::new(Shared {
            answer: Box::new(answer),
            state: Mutex::new(state),
            work: Condvar::new(),
            cpus: sched_getaffinity(None).ok(),
        }))
    }

    /// Has `tell` called with the answer, unless what is returned is dropped before. Never blocks. Errors: too many
    /// questions wait, or there is no thread for them.
    pub(in crate::shard) fn ask(&self, question: Q, tell: impl FnOnce(A) + Send + 'static) -> io::Result<Asked<Q, A>> {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        if let Some(askers) = state.asked.get_mut(&question) {
            askers.push((number, Box::new(tell)));
            return Ok(Asked { shared: Arc::clone(&self.0), question, number });
        }
        if state.queue.len() >= limits::BLOCKING_QUESTIONS_MAX {
            return Err(io::Error::other("too many lookups wait for an answer"));
        }
        state.asked.insert(question.clone(), vec![(number, Box::new(tell))]);
        state.queue.push_back(question.clone());
        if state.queue.len() > state.idle && state.threads < limits::BLOCKING_THREADS_MAX {
            let shared = Arc::clone(&self.0);
            let started = thread::Builder::new().name("lookup".into()).spawn(move || shared.work());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.queue.clear();
                    state.asked.clear();
                    return Err(error);
                }
                // The others will come to it.
                Err(_) => {}
            }
        }
        self.0.work.notify_one();
        drop(state);
        Ok(Asked { shared: Arc::clone(&self.0), question, number })
    }
}

impl<Q: Clone + Eq + Hash, A: Clone> Shared<Q, A> {
    fn work(&self) {
        if let Some(cpus) = &self.cpus {
            // Where it is not allowed, it runs where it was started.
            let _ = sched_setaffinity(None, cpus);
        }
        let mut state = self.lock();
        loop {
            let Some(question) = state.queue.pop_front() else {
                state.idle += 1;
                let (woken, waited) =
                    self.work.wait_timeout(state, limits::BLOCKING_THREAD_IDLE).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if waited.timed_out() && state.queue.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            if state.asked.get(&question).is_none_or(Vec::is_empty) {
                state.asked.remove(&question);
                continue;
            }
            drop(state);
            let answer = (self.answer)(&question);
            state = self.lock();
            let askers = state.asked.remove(&question).unwrap_or_default();
            drop(state);
            for (_, tell) in askers {
                tell(answer.clone());
            }
            state = self.lock();
        }
    }
}

impl<Q, A> Shared<Q, A> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        // Nothing that could panic is called with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Eq + Hash, A> Drop for Asked<Q, A> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(askers) = state.asked.get_mut(&self.question) {
            askers.retain(|(number, _)| *number != self.number);
        }
    }
}

impl<Q, A> Clone for Blocking<Q, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q, A> fmt::Debug for Blocking<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        write!(f, "Blocking({} threads, {} waiting)", state.threads, state.queue.len())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Answers "N" with N, once for each word in `gate` that is not a number.
    fn pool() -> (Blocking<String, usize>, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let pool = Blocking::new(move |question: &String| {
            counted.fetch_add(1, Ordering::Relaxed);
            question.parse().unwrap_or_else(|_| {
                let _ = gate.lock().expect("whole").recv_timeout(PATIENCE);
                0
            })
        });
        (pool, open, calls)
    }

    #[test]
    fn a_question_that_hangs_holds_up_no_other() {
        let (pool, open, _) = pool();
        let (say, hear) = mpsc::channel();
        let first = say.clone();
        let _hangs = pool.ask("hang".into(), move |n| first.send(n).expect("it is heard")).expect("a thread");
        let _quick = pool.ask("7".into(), move |n| say.send(n).expect("it is heard")).expect("a thread");
        assert_eq!(hear.recv_timeout(PATIENCE), Ok(7));
        open.send(()).expect("waits");
        assert_eq!(hear.recv_timeout(PATIENCE), Ok(0));
    }

    #[test]
    fn the_same_question_is_answered_once_for_all_who_still_wait() {
        let (pool, open, calls) = pool();
        let (say, hear) = mpsc::channel();
        let mut asked = (0..5)
            .map(|who| {
                let say = say.clone();
                pool.ask("hang".into(), move |_| say.send(who).expect("it is heard")).expect("a thread")
            })
            .collect::<Vec<_>>();
        drop(asked.remove(2));
        drop(say);
        open.send(()).expect("waits");
        let mut told = std::iter::from_fn(|| hear.recv_timeout(PATIENCE).ok()).collect::<Vec<_>>();
        told.sort_unstable();
        assert_eq!((told.as_slice(), calls.load(Ordering::Relaxed)), (&[0, 1, 3, 4][..], 1));
    }

    #[test]
    fn threads_and_waiting_questions_are_bounded() {
        let (pool, open, calls) = pool();
        let mut asked = Vec::new();
        let refused = loop {
            match pool.ask(format!("hang {}", asked.len()), |_| {}) {
                Ok(one) => asked.push(one),
                Err(error) => break error,
            }
            if asked.len() == limits::BLOCKING_THREADS_MAX {
                // Each thread has taken one before the queue fills.
                let by = std::time::Instant::now() + PATIENCE;
                while calls.load(Ordering::Relaxed) < asked.len() && std::time::Instant::now() < by {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        };
        assert_eq!(asked.len(), limits::BLOCKING_THREADS_MAX + limits::BLOCKING_QUESTIONS_MAX);
        assert!(refused.to_string().contains("too many"), "{refused}");
        assert_eq!(pool.0.lock().threads, limits::BLOCKING_THREADS_MAX);
        // What nobody waits for any more is not looked up.
        drop(asked);
        drop(open);
        let by = std::time::Instant::now() + PATIENCE;
        while !pool.0.lock().asked.is_empty() && std::time::Instant::now() < by {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(calls.load(Ordering::Relaxed), limits::BLOCKING_THREADS_MAX);
    }
}
