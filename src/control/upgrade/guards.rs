//! A new process must not let everybody publish, or play, where the old one asks: a configuration file that was emptied, or is
//! half written, opens nothing.
//!
//! A process guards an action if it has rules for it, or asks a callback about it or about whoever connects. The old process
//! says what it guards as it is then; a new one that would not ends before it listens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    access::{AccessInForce, AccessRules, Action},
    shard::{config::Config, questions::Event},
};

/// The actions that are not everybody's. Of an older release none is known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Guards {
    pub(super) publish: bool,
    pub(super) play: bool,
}

/// What they come from.
#[derive(Clone, Debug)]
pub(in crate::control) struct Guarding {
    rules: Arc<AccessInForce>,
    /// By callbacks, whatever the rules are.
    asked: Guards,
}

impl Guarding {
    pub(in crate::control) fn of(config: &Config) -> Self {
        let asks = |event| config.callbacks.concern(event) || config.callbacks.concern(Event::Connect);
        let asked = Guards { publish: asks(Event::Publish), play: asks(Event::Play) };
        Self { rules: Arc::clone(&config.access), asked }
    }

    pub(super) fn now(&self) -> Guards {
        let rules: Arc<AccessRules> = self.rules.get();
        Guards {
            publish: self.asked.publish || !rules.publish.is_empty(),
            play: self.asked.play || !rules.play.is_empty(),
        }
    }
}

impl Guards {
    /// Whether a process that takes over may guard no more than `theirs`. The error is one line.
    pub(super) fn are_kept_by(self, theirs: Self) -> Result<(), String> {
        for (action, ours, theirs) in
            [(Action::Publish, self.publish, theirs.publish), (Action::Play, self.play, theirs.play)]
        {
            if ours && !theirs {
                let name = action.name();
                return Err(format!(
                    "the process before this one decides who may {name}, and with this configuration everybody might: if that \
                     is meant, write a [[{name}]] rule with open = true, or stop that process and start this one"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rules::{Proof, Rule, Takes};

    fn rule() -> Rule {
        let takes = Takes::Proof(Proof { keys: None, links: None, tokens: None });
        Rule { name: "a rule".into(), streams: None, deny: Vec::new(), allow: Vec::new(), takes }
    }

    #[test]
    fn rules_and_questions_guard() {
        let guards = |publish: Vec<Rule>, play: Vec<Rule>, asked: &[Event]| {
            let mut config =
                Config { access: Arc::new(AccessInForce::new(AccessRules { publish, play })), ..Config::default() };
            asked.iter().for_each(|event| config.callbacks.events[*event as usize] = true);
            let Guards { publish, play } = Guarding::of(&config).now();
            (publish, play)
        };
        assert_eq!(guards(vec![], vec![], &[Event::PublishDone, Event::PlayDone]), (false, false));
        assert_eq!(guards(vec![rule()], vec![], &[]), (true, false));
        assert_eq!(guards(vec![], vec![rule()], &[]), (false, true));
        assert_eq!(guards(vec![], vec![], &[Event::Publish]), (true, false));
        assert_eq!(guards(vec![], vec![], &[Event::Play]), (false, true));
        assert_eq!(guards(vec![], vec![], &[Event::Connect]), (true, true));
    }

    #[test]
    fn rules_count_as_they_are_by_then() {
        let config = Config::default();
        let guarding = Guarding::of(&config);
        assert_eq!(guarding.now(), Guards::default());
        config.access.replace(AccessRules { publish: vec![rule()], play: Vec::new() });
        assert!(guarding.now().publish);
    }

    #[test]
    fn what_is_guarded_stays_guarded() {
        let all = [(false, false), (true, false), (false, true), (true, true)];
        for (publish, play) in all {
            for (theirs_publish, theirs_play) in all {
                let kept = Guards { publish, play }.are_kept_by(Guards { publish: theirs_publish, play: theirs_play });
                let lost = (publish && !theirs_publish, play && !theirs_play);
                match kept {
                    Ok(()) => assert_eq!(lost, (false, false)),
                    Err(why) => {
                        let action = if lost.0 { "publish" } else { "play" };
                        assert!(why.contains(&format!("[[{action}]]")) && why.lines().count() == 1, "{why}");
                        assert_ne!(lost, (false, false));
                    }
                }
            }
        }
    }
}
