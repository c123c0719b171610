//! Which of several nodes is asked for a stream, by the configuration alone.
//!
//! [`Weighted`] is rendezvous hashing: every origin draws a number for each stream, and the streams' order of preference
//! is that of the numbers. When an origin is gone, only its streams move, each to the next of its own order. An origin of
//! weight n draws n times and keeps the highest number, which makes its share n times as large without a logarithm that
//! machines might round differently. What is drawn depends on the stream's key and on the origin as written, but for
//! credentials and query: nodes with the same list, in whatever order, agree. They must agree over releases too, hence a
//! hash that is written down here: 64 bits of FNV-1a, mixed by splitmix64.

use std::cmp::Reverse;

use super::{backoff::mixed, rules::Lookup, template::Template, upstream::Upstream};
use crate::{
    limits::{ORIGIN_WEIGHT_MAX, SOURCES_MAX},
    rtmp::key::StreamKey,
};

/// A primary and its backups.
#[derive(Clone, Debug)]
pub struct InOrder(pub Vec<Template>);

/// Origins that share the streams by their weights, and backups for when none of them has it.
#[derive(Clone, Debug)]
pub struct Weighted {
    pub origins: Vec<(Template, u32)>,
    pub backups: Vec<Template>,
}

impl Lookup for InOrder {
    fn candidates(&self, key: &StreamKey) -> Vec<Upstream> {
        self.0.iter().take(SOURCES_MAX).map(|source| source.fill(key)).collect()
    }
}

impl Lookup for Weighted {
    fn candidates(&self, key: &StreamKey) -> Vec<Upstream> {
        let stream = fnv1a(key.as_str());
        let mut origins: Vec<(u64, String, &Template)> = self
            .origins
            .iter()
            .map(|(origin, weight)| {
                let name = origin.to_string();
                (drawn(stream, fnv1a(&name), *weight), name, origin)
            })
            .collect();
        origins.sort_by(|(a, a_name, _), (b, b_name, _)| (Reverse(a), a_name).cmp(&(Reverse(b), b_name)));
        let origins = origins.into_iter().map(|(_, _, origin)| origin);
        origins.chain(&self.backups).take(SOURCES_MAX).map(|source| source.fill(key)).collect()
    }
}

/// The highest of `weight` numbers.
fn drawn(stream: u64, origin: u64, weight: u32) -> u64 {
    let pair = mixed(stream.wrapping_add(mixed(origin)));
    let draw = |index: u32| mixed(pair.wrapping_add(u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    (0..weight.clamp(1, ORIGIN_WEIGHT_MAX)).map(draw).max().unwrap_or(0)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMS: usize = 20_000;

    fn weighted(origins: &[(&str, u32)]) -> Weighted {
        let origin = |(host, weight): &(&str, u32)| (Template::parse(&format!("rtmp://{host}")).unwrap(), *weight);
        Weighted { origins: origins.iter().map(origin).collect(), backups: Vec::new() }
    }

    fn order(lookup: &Weighted, stream: usize) -> Vec<String> {
        let key = StreamKey::new("", "live", &format!("s{stream}")).unwrap();
        lookup.candidates(&key).into_iter().map(|upstream| upstream.endpoint.to_string()).collect()
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [[1, 1, 1, 1], [1, 2, 3, 4], [100, 50, 25, 25]] {
            let names = ["a", "b", "c", "d"];
            let lookup = weighted(&std::array::from_fn::<_, 4, _>(|index| (names[index], weights[index])));
            let total: u32 = weights.iter().sum();
            for (name, weight) in names.iter().zip(weights) {
                let first = format!("{name}:1935");
                let got = (0..STREAMS).filter(|stream| order(&lookup, *stream)[0] == first).count() as f64;
                let due = STREAMS as f64 * f64::from(weight) / f64::from(total);
                assert!((got / due - 1.0).abs() < 0.05, "{name} of {weights:?}: {got}, due {due}");
            }
        }
    }

    #[test]
    fn only_a_lost_origins_streams_move_and_to_their_own_next() {
        let all = weighted(&[("a", 1), ("b", 2), ("c", 1)]);
        let without_b = weighted(&[("c", 1), ("a", 1)]);
        let mut moved = [0_usize, 0];
        for stream in 0..STREAMS {
            let mut expected = order(&all, stream);
            if expected[0] == "b:1935" {
                moved[usize::from(expected[1] == "a:1935")] += 1;
            }
            expected.retain(|origin| origin != "b:1935");
            assert_eq!(order(&without_b, stream), expected);
        }
        assert!(moved[0].abs_diff(moved[1]) < STREAMS / 20, "{moved:?}");
    }

    #[test]
    fn every_node_and_release_has_the_same_order() {
        let one = weighted(&[("a", 3), ("b", 1), ("c", 2)]);
        let other = weighted(&[("c", 2), ("u:p@a", 3), ("b", 1)]);
        assert!((0..1_000).all(|stream| order(&one, stream) == order(&other, stream)));
        let firsts: String = (0..16).map(|stream| order(&one, stream)[0].replace(":1935", "")).collect();
        assert_eq!(firsts, "cbaaaccacacabaca");
    }

    #[test]
    fn backups_come_last_and_the_list_is_bounded() {
        let mut lookup = weighted(&[("a", 1), ("b", 1)]);
        lookup.backups = (0..100).map(|number| Template::parse(&format!("rtmp://n{number}")).unwrap()).collect();
        let order = order(&lookup, 1);
        assert_eq!(order.len(), SOURCES_MAX);
        assert_eq!(order[2..4], ["n0:1935", "n1:1935"]);
        let key = StreamKey::new("", "live", "x").unwrap();
        assert_eq!(InOrder(lookup.backups).candidates(&key)[0].label, "rtmp://n0/live/x");
    }
}
