//! What is wrong with a run, and what a reader of its figures should know.

use super::{LOOPBACK, OTHERS_SHARE_MAX, RunReport, ServerReport, WAITED_SHARE_MAX, WORKER_SHARE_MAX};
use crate::cli::LoadArgs;

impl RunReport {
    /// Whether the load generator, and not the server, may be what limited the run.
    pub fn generator_limited(&self) -> bool {
        let server_busy = self.server.as_ref().is_some_and(ServerReport::saturated);
        self.client.busiest_worker_share > WORKER_SHARE_MAX && !server_busy
    }

    /// Whether players missed anything, or got what they should not.
    pub fn server_failed(&self) -> bool {
        self.failures().iter().any(|(count, _)| *count > 0)
    }

    pub(super) fn find_problems(&self, load: &LoadArgs) -> Vec<String> {
        let counted =
            self.failures().into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let mut problems: Vec<String> = counted.collect();
        let late_ms = load.late.as_secs_f64() * 1e3;
        if self.publishers.late_ms.p99 > late_ms {
            // A worker that was idle half the time was late because it was not let run.
            let others = self.client.waited_share > WAITED_SHARE_MAX || self.client.busiest_worker_share < 0.5;
            problems.push(format!(
                "publishers were late (p99 {:.1} ms, allowed {late_ms:.1}): {}, so delays are upper bounds",
                self.publishers.late_ms.p99,
                if others { "others used the load generator's CPU" } else { "the load generator was a bottleneck" }
            ));
        }
        // Unpaced, a server that is saturated too is what is measured; paced, a saturated worker spoils delays.
        let saturated = self.client.busiest_worker_share > WORKER_SHARE_MAX;
        if saturated && (!self.load.unpaced || self.generator_limited()) {
            problems.push(format!(
                "the load generator's busiest worker used {:.0} % of its CPU: it was a bottleneck itself; give it more \
                 --threads or a larger --drain-every",
                self.client.busiest_worker_share * 100.0
            ));
        }
        if self.delay_ms.count == 0 {
            problems.push("no delay was measured: no verified player got a frame in the window".into());
        }
        problems
    }

    fn failures(&self) -> [(u64, &'static str); 10] {
        let found = &self.verified;
        [
            (self.publishers.failed, "publishers failed"),
            (self.connect.players_failed, "players failed"),
            (self.connect.players_without_keyframe, "players never got a keyframe"),
            (found.lost, "frames lost"),
            (found.disordered, "frames repeated or out of order"),
            (found.corrupt, "messages corrupt"),
            (found.timestamps_backwards, "timestamps went backwards"),
            (found.header_missing, "tracks began before their sequence header"),
            (found.tracks_silent, "tracks stayed silent"),
            (self.delivery.players_starved, "players received under 90 % of their stream's median"),
        ]
    }

    pub(super) fn find_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.verified.joined_without_keyframe > 0 {
            notes.push(format!(
                "{} of {} verified players were sent inter frames before any keyframe",
                self.verified.joined_without_keyframe, self.verified.players
            ));
        }
        if self.client.waited_share > WAITED_SHARE_MAX {
            let percent = self.client.waited_share * 100.0;
            notes.push(format!("the load generator waited for its CPU {percent:.0} % of the time: others use it too"));
        }
        let Some(server) = &self.server else { return notes };
        if self.machine.others_cpu_share > OTHERS_SHARE_MAX {
            let percent = self.machine.others_cpu_share * 100.0;
            notes.push(format!("other programs used {percent:.0} % of a CPU meanwhile, interrupts included"));
        }
        if server.waited_share > WAITED_SHARE_MAX {
            let percent = server.waited_share * 100.0;
            notes.push(format!("the server waited for a CPU {percent:.0} % of the time: others use it too"));
        }
        if server.rss_with_players_kib <= server.rss_before_players_kib {
            notes.push(
                "the server's memory did not grow with its players: it was not fresh, or gave memory back".into(),
            );
        }
        if server.cpu_share < self.client.busiest_worker_share {
            notes.push(format!(
                "the load generator used more CPU ({:.2} s) than the server ({:.2} s)",
                self.client.cpu_seconds, server.cpu_seconds
            ));
        }
        notes.push(LOOPBACK.into());
        notes
    }
}
