//! stub head
pub mod health;
pub mod lookup;
pub mod puller;
pub mod pusher;
pub mod rules;
pub mod splice;
pub mod upstream;
