//! From a cursor to a player's bytes.
//!
//! A [`Player`] has no queue: it knows where it stands in a log and says which bytes come next. [`Piece`] is what a
//! connection sends at once.

pub mod piece;
pub mod player;

pub use piece::Piece;
pub use player::{Next, Player, Policy, TooSlow};

#[cfg(all(test, not(loom)))]
mod tests;
