//! stub
use super::{rules::Timing, upstream::Upstream, health::HealthBook};
use std::time::Duration;
pub type Leg = u32;
pub enum Heard { Connected, Media { begins: bool }, Failed(Fault), Ended }
pub enum Fault { NotFound, Refused, Unreachable, Silent, Broken }
pub enum Order { Open { leg: Leg, source: usize }, Close { leg: Leg }, GoLive { leg: Leg }, Missing, Stop }
pub struct PullReport { pub state: &'static str, pub attempts: u64 }
#[derive(Debug)]
pub struct Puller;
impl Puller {
  pub fn new(_sources: Vec<Upstream>, _timing: Timing, _linger: Duration, _always: bool, _seed: u64) -> Self { Self }
  pub fn sources(&self) -> &[Upstream] { &[] }
  pub fn want(&mut self, _now: Duration) {} pub fn unwant(&mut self, _now: Duration) {}
  pub fn hear(&mut self, _leg: Leg, _heard: Heard, _now: Duration, _health: &mut HealthBook) {}
  pub fn next(&mut self, _now: Duration, _health: &mut HealthBook) -> Option<Order> { None }
  pub fn deadline(&self) -> Option<Duration> { None }
  pub fn is_missing(&self, _now: Duration) -> bool { false }
  pub fn is_idle(&self, _now: Duration) -> bool { false }
  pub fn moved(&mut self, _leg: Leg, _now: Duration) {}
  pub fn report(&self) -> PullReport { PullReport { state: "", attempts: 0 } }
}
