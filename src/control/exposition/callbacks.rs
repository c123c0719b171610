//! The part of `/metrics` about callbacks, where there are any.

use super::{
    super::callbacks::{Counts, Outcome},
    head, line,
};
use crate::shard::questions::Event;

pub(super) fn render(out: &mut String, counts: &Counts) {
    let name = "shardcast_callbacks_total";
    head(out, name, "counter", "Callbacks, by event and by what came of them.");
    for event in Event::ALL {
        for outcome in Outcome::ALL {
            let (of, result, n) = (event.label(), outcome.label(), counts.outcome(*event, *outcome));
            line(out, format_args!("{name}{{event=\"{of}\",result=\"{result}\"}} {n}"));
        }
    }
    let name = "shardcast_callback_seconds_total";
    head(out, name, "counter", "Time that callbacks took, by event, that in the queue included.");
    for event in Event::ALL {
        line(out, format_args!("{name}{{event=\"{}\"}} {}", event.label(), counts.seconds(*event)));
    }
    head(out, "shardcast_callbacks_under_way", "gauge", "Callbacks sent and not answered yet.");
    line(out, format_args!("shardcast_callbacks_under_way {}", counts.under_way()));
    head(out, "shardcast_callbacks_queued", "gauge", "Callbacks that wait to be sent.");
    line(out, format_args!("shardcast_callbacks_queued {}", counts.queued()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_first() {
        let mut out = String::new();
        render(&mut out, &Counts::default());
        for part in [
            "shardcast_callbacks_total{event=\"publish\",result=\"denied\"} 0\n",
            "shardcast_callback_seconds_total{event=\"play_done\"} 0\n",
            "shardcast_callbacks_under_way 0\n",
            "shardcast_callbacks_queued 0\n",
        ] {
            assert!(out.contains(part), "{part} is not in\n{out}");
        }
    }
}
