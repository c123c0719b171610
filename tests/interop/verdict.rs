//! What came of a client and a content.

use crate::common::tool::Ended;

/// What a client is expected to do.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Able,
    /// It works, and there is something to know.
    Noted(&'static str),
    /// The client itself cannot: why, and its own words for it, which must be seen.
    Unable {
        why: &'static str,
        words: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be, with a note or without.
    Yes(Option<&'static str>),
    /// The client refused by itself, as expected.
    No(&'static str),
    /// Neither.
    Failed(String),
}

impl Expect {
    pub fn note(self) -> Option<&'static str> {
        if let Self::Noted(note) = self { Some(note) } else { None }
    }

    /// What an able client's `check` comes to. It panics with what is wrong.
    pub fn judge(self, check: impl FnOnce()) -> Verdict {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
            Ok(()) => Verdict::Yes(self.note()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Verdict::Failed(text.unwrap_or_else(|| "panicked".to_owned()))
            }
        }
    }
}

/// What a client comes to that must fail by itself and say `words`.
pub fn refusal(why: &'static str, words: &str, ended: &Ended) -> Verdict {
    let said = ended.stderr.contains(words) || ended.stdout.contains(words);
    if !ended.status.success() && said {
        return Verdict::No(why);
    }
    Verdict::Failed(format!(
        "was to fail with {words:?}, but ended with {}:\n{}{}",
        ended.status, ended.stdout, ended.stderr
    ))
}
