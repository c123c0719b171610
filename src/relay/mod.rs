//! stub head
pub mod health;
pub mod lookup;
pub mod puller;
pub mod pusher;
pub mod rules;
#[cfg(not(test))]
pub mod splice;
#[cfg(test)]
pub mod splice;
pub mod upstream;
